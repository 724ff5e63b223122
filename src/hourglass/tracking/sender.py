"""A thread that sends a run to MLflow while it trains."""

import logging
import threading
import time

from hourglass.errors import UserError
from hourglass.tracking.mirror import Mirror
from hourglass.tracking.server import made_by_another, reason, unreachable

log = logging.getLogger(__name__)

# Seconds between two looks at the folder; to the next try of a server that failed; that a run waits for the server at
# its start, and at its end since the server last took something.
EVERY, RETRY, PATIENCE = 1.0, 5.0, 10.0


# Seconds in which another run has made what both need: of a slow database, all its tables.
MAKING = 60.0


class Sender(threading.Thread):
    """Mirrors a run while it goes on: the one thread of a run that speaks with MLflow, and waits for it.

    Args:
        mirror: of the run.
        where: names the store, for messages.
    """

    def __init__(self, mirror: Mirror, where: str):
        super().__init__(name="mlflow", daemon=True)  # A server that hangs does not keep the process.
        self.mirror, self.where = mirror, where
        self.refusal: Exception | None = None  # Why the first try failed, where that is a mistake to be mended.
        self._tried, self._ending = threading.Event(), threading.Event()

    def run(self) -> None:
        """See the base."""
        failing = False
        began = time.monotonic()
        while not self.mirror.closed:
            ending = self._ending.is_set()
            try:
                self.mirror.send()
            except Exception as error:  # The network, a database and MLflow have errors of their own.
                if made_by_another(error) and time.monotonic() < began + MAKING:
                    time.sleep(EVERY)
                    continue
                if not self._tried.is_set() and not unreachable(error, self.mirror.uri):
                    self.refusal = error
                    self.mirror.close()
                elif not failing and not ending:
                    log.warning(
                        "MLflow at %s does not answer (%s): the run goes on, %s keeps all, and is sent when it does",
                        self.where,
                        reason(error),
                        self.mirror.run.path,
                    )
                failing = True
            else:
                if failing:
                    log.info("MLflow at %s answers again", self.where)
                failing = False
            self._tried.set()
            if ending:
                return
            self._ending.wait(RETRY if failing else EVERY)

    def wait_for_first_try(self, seconds: float | None) -> None:
        """Wait until MLflow has the run, or has failed, or no longer than so many seconds.

        Raises:
            UserError: there is something to mend first.
        """
        self.start()
        if not self._tried.wait(seconds):
            self._tried.set()
            log.warning(
                "MLflow at %s has not answered for %.0f s: the run begins, %s keeps all, and is sent when it does",
                self.where,
                seconds,
                self.mirror.run.path,
            )
        if self.refusal is not None:
            raise UserError(reason(self.refusal)) from None

    def finish(self) -> None:
        """Send the rest; give up where nothing has been taken for `PATIENCE` seconds."""
        began = time.monotonic()
        self._ending.set()
        while self.is_alive() and time.monotonic() < max(began, self.mirror.last_success) + PATIENCE:
            self.join(0.05)
        self.mirror.close()
