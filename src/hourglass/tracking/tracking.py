"""Track a run: training curves in a file, and one run of MLflow, which a resumed run continues.

The training only writes files. A thread sends them to MLflow (see mirror.py and sender.py), so that no server can
delay the training.
"""

import logging
import shlex
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from hourglass.config.plugins import resume_command
from hourglass.errors import UserError
from hourglass.runs.curves import Point, append_points, read_points, start_curves
from hourglass.runs.folder import RunFolder
from hourglass.system.commands import printed_command
from hourglass.system.files import read_json
from hourglass.tracking.loggers import OpenLogger, end_logger, open_logger
from hourglass.tracking.mirror import Mirror, make_record
from hourglass.tracking.scores import logged_scores
from hourglass.tracking.sender import PATIENCE, Sender
from hourglass.tracking.server import error_line, mlflow_server
from hourglass.tracking.settings import LoggerSettings, MlflowSettings, NoSettings
from hourglass.tracking.system_metrics import SystemMetrics

log = logging.getLogger(__name__)


class Curves(Logger):
    """A Lightning logger that writes rows of step, name, value and time to a CSV file.

    On resume, rows after the checkpoint are removed.

    Args:
        file: the CSV file.
        first_step: the step that the training starts from; 0 for a new training.
    """

    def __init__(self, file: Path, first_step: int):
        super().__init__()
        self.file = file
        start_curves(file, [point for point in read_points(file) if point.step < first_step])

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "hourglass"

    @property
    def version(self) -> str:
        """Required by Lightning."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values of one step."""
        now = round(time.time() * 1000)
        append_points(
            self.file,
            [Point(step or 0, name, float(value), now) for name, value in sorted(metrics.items()) if name != "epoch"],
        )

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: `Mirror` logs the settings."""


class Tracking(AbstractContextManager["Tracking"]):
    """The tracking of one run: opened when training starts or resumes, closed as finished, failed or killed.

    Without MLflow, it only writes the curves. With MLflow, a thread mirrors the run folder there.

    Args:
        settings: the config group `logger`.
        run: the run folder, which keeps the id of the MLflow run.
        tags: of the MLflow run; mlflow.parentRunId makes it a child of another.
        config: all settings.
        dataset: name and digest of the corpus.
    """

    def __init__(
        self,
        settings: LoggerSettings,
        run: RunFolder,
        *,
        tags: Mapping[str, Any],
        config: Mapping[str, Any],
        dataset: tuple[str, str],
    ):
        self.settings, self.run = settings, run
        self._tags, self._config, self._dataset = tags, config, dataset
        self._sender: Sender | None = None
        self._logger: OpenLogger | None = None
        self._hint: str | None = None
        self._system_metrics: SystemMetrics | None = None
        self._setup = ExitStack()

    def __enter__(self) -> "Tracking":
        if isinstance(self.settings, MlflowSettings):
            known = read_json(self.run.tracking) if self.run.tracking.exists() else {}
            # Before the environment has the server's account, which MLflow would take for the name of the user.
            record = make_record(self._tags, self._dataset, known)
            with ExitStack() as setup:  # Undone at once if MLflow refuses, else at the end of the run.
                uri = setup.enter_context(mlflow_server(self.settings.uri))
                self._sender = self._start_sender(self.settings, uri, record, new=not known)
                self._setup = setup.pop_all()
        if not isinstance(self.settings, NoSettings) and self.settings.system_metrics:
            self._system_metrics = SystemMetrics(self.run.system, self.settings.system_metrics)
            self._system_metrics.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self._system_metrics is not None:
            self._system_metrics.finish()
        if self._logger is not None:
            complete = kind is None and self.run.metrics.exists()
            scores = logged_scores(read_json(self.run.metrics)) if complete else None
            self._hint = end_logger(self._logger, scores)
        if self._sender is None:
            return
        killed = kind is not None and not issubclass(kind, Exception)
        mirror = self._sender.mirror
        with self._setup:
            try:
                try:
                    mirror.end("FINISHED" if kind is None else "KILLED" if killed else "FAILED", time.time())
                finally:
                    self._sender.finish()
            except Exception as error:  # A full disk, for example. The results are in the run folder.
                log.warning(
                    "MLflow at %s may lack the end of the run (%s); to send it: %s",
                    self._sender.where,
                    error_line(error),
                    resume_command(self.run.path),
                )
                return
            if missing := mirror.missing():
                reason = f" ({error_line(self._sender.failure)})" if self._sender.failure else ""
                log.warning(
                    "MLflow at %s lacks %s%s; to send it: %s",
                    self._sender.where,
                    missing,
                    reason,
                    printed_command("src/sync.py", self.run.path),
                )

    def loggers(self, first_step: int) -> list[Logger]:
        """Return the loggers for Lightning: the curves, and TensorBoard's or W&B's; none with logger=none.

        Args:
            first_step: the step that the training starts from; 0 for a new training.

        Raises:
            UserError: W&B refuses the run.
        """
        if isinstance(self.settings, NoSettings):
            return []
        self._logger = open_logger(self.settings, self.run, self._config, first_step)
        curves = Curves(self.run.curves, first_step)
        if self._sender is not None:
            self._sender.mirror.follow()
        return [curves] if self._logger is None else [curves, self._logger.logger]

    def hint(self) -> str | None:
        """Return a line that says how to view the run, None where that is the run folder alone."""
        if self._hint is not None:
            return self._hint
        if not isinstance(self.settings, MlflowSettings):
            return None
        name = self._sender.mirror.name if self._sender is not None else self.run.path.name
        if self.settings.uri.startswith("http"):
            return f"MLflow: run {name} on {self.settings.where}"
        uri = shlex.quote(self.settings.uri) if self.settings.tracking_uri else '"$MLFLOW_TRACKING_URI"'
        return f"MLflow: run {name}; to view it: mlflow ui --backend-store-uri {uri}"

    def _start_sender(self, settings: MlflowSettings, uri: str, record: dict[str, Any], *, new: bool) -> Sender:
        sender = Sender(Mirror(self.run, uri, settings.experiment, self._config, record), settings.where)
        try:
            # SQLite has no server that could be down, but creating its tables on a slow disk takes long.
            sender.wait_for_first_try(None if uri.startswith("sqlite") else PATIENCE)
        except UserError as error:
            if new:
                self.run.tracking.unlink(missing_ok=True)
            raise UserError(
                f"logger.tracking_uri: MLflow cannot open a run there ({error}): correct that, or use logger=csv"
            ) from None
        sender.mirror.save()
        return sender
