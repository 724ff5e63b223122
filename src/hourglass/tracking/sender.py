"""The thread that sends a run to MLflow while it trains."""

import logging
import threading
import time

from hourglass.errors import UserError
from hourglass.tracking.mirror import Mirror
from hourglass.tracking.server import created_by_another, error_line, unreachable

log = logging.getLogger(__name__)

# Seconds from one look at the folder to the next.
EVERY = 1.0
# Seconds until a server that has failed is tried again.
RETRY = 5.0
# Seconds that a run waits for the server at its start, and at its end after the last successful request.
PATIENCE = 10.0
# Seconds that another run may take to create what both need, which may be all tables of a slow database.
CREATION = 60.0


class Sender(threading.Thread):
    """Mirror a run while it trains. Only this thread talks to MLflow, so that the training never waits for it.

    Args:
        mirror: of the run.
        where: address of MLflow, for messages.
    """

    def __init__(self, mirror: Mirror, where: str):
        super().__init__(name="mlflow", daemon=True)  # A server that hangs does not keep the process alive.
        self.mirror, self.where = mirror, where
        self.failure: Exception | None = None  # The error of the last attempt.
        self.refusal: Exception | None = None  # The error of the first attempt, if the user has to correct something.
        self._tried, self._ending = threading.Event(), threading.Event()

    def run(self) -> None:
        """See `threading.Thread`."""
        failing = False
        started = time.monotonic()
        while not self.mirror.closed:
            ending = self._ending.is_set()
            try:
                self.mirror.send()
            except Exception as error:  # The network, a database and MLflow have errors of their own.
                self.failure = error
                if created_by_another(error) and time.monotonic() < started + CREATION:
                    time.sleep(EVERY)
                    continue
                if not self._tried.is_set() and not unreachable(error, self.mirror.uri):
                    self.refusal = error
                    self.mirror.close()
                elif not failing and not ending:
                    log.warning(
                        "MLflow at %s does not answer (%s): the run continues; %s is sent when it answers again",
                        self.where,
                        error_line(error),
                        self.mirror.run.path,
                    )
                failing = True
            else:
                self.failure = None
                if failing:
                    log.info("MLflow at %s answers again", self.where)
                failing = False
            self._tried.set()
            if ending:
                return
            self._ending.wait(RETRY if failing else EVERY)

    def wait_for_first_try(self, seconds: float | None) -> None:
        """Wait until MLflow has the run or the first attempt has failed.

        Args:
            seconds: maximum; None: unlimited.

        Raises:
            UserError: the attempt failed by a mistake that the user can correct.
        """
        self.start()
        if not self._tried.wait(seconds):
            self._tried.set()
            log.warning(
                "MLflow at %s has not answered for %.0f s: the run starts; %s is sent when it answers",
                self.where,
                seconds,
                self.mirror.run.path,
            )
        if self.refusal is not None:
            raise UserError(error_line(self.refusal)) from None

    def finish(self) -> None:
        """Send the rest; give up after `PATIENCE` seconds without a successful request."""
        started = time.monotonic()
        self._ending.set()
        while self.is_alive() and time.monotonic() < max(started, self.mirror.last_success) + PATIENCE:
            self.join(0.05)
        self.mirror.close()
