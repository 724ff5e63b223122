"""Tracking: the training curves as a file, and a run of MLflow that is opened once, also on resume.

The training only ever writes files; one thread has MLflow follow them (mirror.py), so that no server can hold it up.
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

from hourglass.errors import UserError
from hourglass.runs.curves import Point, append_points, read_points, start_curves
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.tracking.mirror import Mirror, make_record
from hourglass.tracking.sender import PATIENCE, Sender
from hourglass.tracking.server import served
from hourglass.tracking.settings import LoggerSettings, MlflowSettings, NoSettings
from hourglass.tracking.system_metrics import SystemMetrics

log = logging.getLogger(__name__)


class Curves(Logger):
    """Lightning's logged numbers, as rows of step, name, value and time in a file; see mirror.py for MLflow.

    On resume, what was logged after the checkpoint is taken out of the file.

    Args:
        file: the CSV.
        first_step: the step that the training goes on from; 0: it begins.
    """

    def __init__(self, file: Path, first_step: int):
        super().__init__()
        self.file = file
        start_curves(file, [point for point in read_points(file) if point.step < first_step])

    @property
    def name(self) -> str:
        """Lightning asks."""
        return "hourglass"

    @property
    def version(self) -> str:
        """Lightning asks."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of one step."""
        now = round(time.time() * 1000)
        append_points(
            self.file,
            [Point(step or 0, name, float(value), now) for name, value in sorted(metrics.items()) if name != "epoch"],
        )

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Settings are logged once, where the run is opened."""


class Tracking(AbstractContextManager["Tracking"]):
    """One run: opened when training begins, gone on with on resume, closed as finished, failed or killed.

    Without MLflow it only has the curves to write. With it, a thread mirrors the run's folder there: see mirror.py.

    Args:
        settings: of the logger.
        run: the folder, which remembers the MLflow run.
        tags: what the UI shows and filters by; MLflow's own too: mlflow.parentRunId makes the run a child.
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
        self._system_metrics: SystemMetrics | None = None
        self._setup = ExitStack()

    def __enter__(self) -> "Tracking":
        if isinstance(self.settings, MlflowSettings):
            known = read_json(self.run.tracking) if self.run.tracking.exists() else {}
            # Before the server's account is known here: MLflow would have it as the name of the run's user.
            record = make_record(self._tags, self._dataset, known)
            with ExitStack() as setup:  # Undone at once if MLflow refuses, at the end of the run otherwise.
                uri = setup.enter_context(served(self.settings.uri))
                self._sender = self._start_sender(self.settings, uri, record, new=not known)
                self._setup = setup.pop_all()
        if not isinstance(self.settings, NoSettings) and self.settings.system_metrics:
            self._system_metrics = SystemMetrics(self.run.system, self.settings.system_metrics)
            self._system_metrics.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self._system_metrics is not None:
            self._system_metrics.finish()
        if self._sender is None:
            return
        with self._setup:
            killed = kind is not None and not issubclass(kind, Exception)
            mirror = self._sender.mirror
            mirror.end("FINISHED" if kind is None else "KILLED" if killed else "FAILED", time.time())
            self._sender.finish()
            if missing := mirror.missing():
                log.warning(
                    "MLflow at %s lacks %s; to send it: python src/sync.py run=%s",
                    self._sender.where,
                    missing,
                    self.run.path,
                )

    def curves(self, first_step: int) -> Curves | None:
        """Return the logger for Lightning."""
        if isinstance(self.settings, NoSettings):
            return None
        curves = Curves(self.run.curves, first_step)
        if self._sender is not None:
            self._sender.mirror.follow()
        return curves

    def hint(self) -> str | None:
        """Return how to see the run."""
        if not isinstance(self.settings, MlflowSettings):
            return None
        if self.settings.uri.startswith("http"):
            return f"MLflow: run {self.run.path.name} on {self.settings.where}"
        uri = shlex.quote(self.settings.uri) if self.settings.tracking_uri else '"$MLFLOW_TRACKING_URI"'
        return f"MLflow: run {self.run.path.name}; to see it: mlflow ui --backend-store-uri {uri}"

    def _start_sender(self, settings: MlflowSettings, uri: str, record: dict[str, Any], *, new: bool) -> Sender:
        sender = Sender(Mirror(self.run, uri, settings.experiment, self._config, record), settings.where)
        try:
            # A file has no server that could be down: to make its tables may take long where the disk is slow.
            sender.wait_for_first_try(None if uri.startswith("sqlite") else PATIENCE)
        except UserError as error:
            if new:
                self.run.tracking.unlink(missing_ok=True)
            raise UserError(
                f"logger.tracking_uri: MLflow cannot open a run there ({error}): mend it, or use logger=csv"
            ) from None
        sender.mirror.save()
        return sender
