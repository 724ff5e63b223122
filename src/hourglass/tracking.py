"""Tracking: the training curves as a file, and a run of MLflow that is opened once, also on resume."""

import csv
import io
import logging
import os
import shlex
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from hourglass.errors import UserError, writing
from hourglass.options import build, choose
from hourglass.runs import RunFolder, read_curves, read_json, write_json, write_whole

log = logging.getLogger(__name__)

# The curve of BLEU by source length: its step is the first length of a bucket.
BY_LENGTH = "test/bleu_by_source_words"
# The most settings that MLflow takes at once.
PARAMETERS_AT_ONCE = 100


@dataclass(frozen=True)
class MlflowSettings:
    """The config `logger=mlflow`.

    Attributes:
        tracking_uri: where MLflow keeps its runs: sqlite:///FILE, postgresql://..., or http://HOST:PORT of a server;
            null: what MLFLOW_TRACKING_URI says, the one place for a password, as settings are written to files.
        experiment: the name under which it lists them.
        system_metrics: seconds between readings of CPU, memory and GPU; 0: none.

    Raises:
        UserError: a password stands in `tracking_uri`, or it is null and the environment says nothing.
    """

    tracking_uri: Annotated[str, Field(pattern=r"^(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://.+")] | None
    experiment: Annotated[str, Field(min_length=1)]
    system_metrics: NonNegativeInt

    def __post_init__(self) -> None:
        if self.tracking_uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UserError("logger.tracking_uri: not set, and neither is MLFLOW_TRACKING_URI: set one of them")
        if self.tracking_uri is not None and urllib.parse.urlsplit(self.tracking_uri).password is not None:
            raise UserError(
                "logger.tracking_uri: has a password, and settings are written to files: set "
                "MLFLOW_TRACKING_URI=... in the environment, and logger.tracking_uri=null"
            )

    @property
    def uri(self) -> str:
        """The address, from the settings or the environment."""
        return self.tracking_uri or os.environ["MLFLOW_TRACKING_URI"]


@dataclass(frozen=True)
class CsvSettings:
    """The config `logger=csv`: curves.csv in the run folder."""


@dataclass(frozen=True)
class NoSettings:
    """The config `logger=none`."""


LoggerSettings = MlflowSettings | CsvSettings | NoSettings
_KINDS: dict[str, type[LoggerSettings]] = {"mlflow": MlflowSettings, "csv": CsvSettings, "none": NoSettings}


def check_logger(options: Mapping[str, Any]) -> LoggerSettings:
    """Return the checked config group `logger`.

    Raises:
        UserError: an option is unknown or outside its choices, or MLflow is not installed.
    """
    own = dict(options)
    kind: Callable[..., LoggerSettings] = choose(_KINDS, own.pop("name", None), "logger.name")
    settings = build(kind, own, "logger")
    if isinstance(settings, MlflowSettings):
        try:
            import mlflow  # noqa: F401, PLC0415 (seconds to import, and not everybody wants it)
        except ImportError:
            raise UserError("logger=mlflow: MLflow is not installed: pip install mlflow, or use logger=csv") from None
    return settings


class Curves(Logger):
    """Lightning's logged numbers, as rows of step, name and value in a file, and in MLflow where there is a run.

    On resume, what was logged after the checkpoint is taken out of the file, and MLflow, which cannot forget, is not
    told again what it has.

    Args:
        file: the CSV.
        first_step: the step that the training goes on from; 0: it begins.
        tracking_uri: of MLflow; null: the file only.
        run_id: of MLflow.
        new: MLflow has no point of this run yet.
    """

    def __init__(
        self,
        file: Path,
        first_step: int,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        *,
        new: bool = True,
    ):
        super().__init__()
        self.file, self.tracking_uri, self.run_id = file, tracking_uri, run_id
        self._client: Any = None  # Made in the process that logs: a client cannot be sent to a spawned one.
        self._has: dict[str, int] | None = {} if new else None  # The last step that MLflow has of each curve.
        kept = [row for row in read_curves(file) if row[0] < first_step] if first_step else []
        content = io.StringIO(newline="")
        csv.writer(content).writerows([("step", "name", "value"), *kept])
        write_whole(file, content.getvalue())

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
        at = step or 0
        rows = [(at, name, float(value)) for name, value in sorted(metrics.items()) if name != "epoch"]
        with writing(self.file), self.file.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        if self.run_id is not None:
            try:
                self._log_to_mlflow(rows)
            except Exception as error:  # the network, the database: the training goes on
                log.warning("MLflow did not take step %d (%s); %s has it", at, _first_line(error), self.file)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Settings are logged once, where the run is opened."""

    def _log_to_mlflow(self, rows: list[tuple[int, str, float]]) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 (needed only with logger=mlflow)
        from mlflow.entities import Metric  # noqa: PLC0415

        assert self.run_id is not None
        if self._client is None:
            self._client = MlflowClient(self.tracking_uri)
        if self._has is None:
            known = self._client.get_run(self.run_id).data.metrics
            self._has = {
                name: max(point.step for point in self._client.get_metric_history(self.run_id, name))
                for name in known
                if name.startswith(("train/", "dev/"))
            }
        now = int(time.time() * 1000)
        new = [Metric(name, value, now, step) for step, name, value in rows if step > self._has.get(name, -1)]
        if new:
            self._client.log_batch(self.run_id, metrics=new)


class Tracking(AbstractContextManager["Tracking"]):
    """One run: opened when training begins, gone on with on resume, closed as finished, failed or killed.

    Without MLflow it only has the curves to write.

    Args:
        settings: of the logger.
        run: the folder, which remembers the MLflow run.
        tags: what the UI shows and filters by.
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
        self.run_id: str | None = None
        self._new = True

    def __enter__(self) -> "Tracking":
        if isinstance(self.settings, MlflowSettings):
            self._open(self.settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self.run_id is not None:
            import mlflow  # noqa: PLC0415 (needed only with logger=mlflow)

            killed = kind is not None and not issubclass(kind, Exception)
            mlflow.end_run("FINISHED" if kind is None else "KILLED" if killed else "FAILED")

    def curves(self, first_step: int) -> Curves | None:
        """Return the logger for Lightning."""
        if isinstance(self.settings, NoSettings):
            return None
        uri = self.settings.uri if isinstance(self.settings, MlflowSettings) else None
        return Curves(self.run.curves, first_step, tracking_uri=uri, run_id=self.run_id, new=self._new)

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Log what a run ends with: scores, the scores by length as a curve, and the run's files."""
        if self.run_id is None:
            return
        try:
            self._report(metrics)
        except Exception as error:  # the network, the database: the run's own files are written
            log.warning("MLflow did not take the scores (%s); %s has them", _first_line(error), self.run.metrics)

    def _report(self, metrics: Mapping[str, Any]) -> None:
        import mlflow  # noqa: PLC0415 (needed only with logger=mlflow)

        assert self.run_id is not None
        has = mlflow.MlflowClient().get_run(self.run_id).data.metrics
        plain = {key: metrics[key] for key in ("parameters", "train_target_tokens", "train_seconds", "padding_share")}
        plain |= {f"best/{name}": value for name, value in metrics["dev"].items()}
        plain |= {f"corpus/dropped {reason}": count for reason, count in metrics["corpus"]["dropped"].items()}
        if test := metrics.get("test"):
            names = ("bleu", "chrf", "copy_bleu", "brevity_penalty", "length_ratio")
            plain |= {f"test/{name}": test[name] for name in names if test[name] is not None}
            mlflow.set_tags({"bleu_signature": test["signature"], "chrf_signature": test["chrf_signature"]})
            for bucket in test["buckets"]:
                if bucket["sentences"] and BY_LENGTH not in has:
                    # The step is the bucket's first length, so that comparing runs draws the curves over each other.
                    low = bucket["source_words"][0]
                    mlflow.log_metric(BY_LENGTH, bucket["bleu"], step=low)
        # A finished run that is only scored again has them already.
        mlflow.log_metrics({key: float(value) for key, value in plain.items() if has.get(key) != float(value)})
        for file in (self.run.config, self.run.metrics, self.run.translations, self.run.curves):
            if file.exists():
                mlflow.log_artifact(str(file))

    def hint(self) -> str | None:
        """Return how to see the run."""
        if not isinstance(self.settings, MlflowSettings):
            return None
        uri = self.settings.uri
        if uri.startswith("http"):
            parts = urllib.parse.urlsplit(uri)
            return f"MLflow: run {self.run.path.name} on {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return (
            f"MLflow: run {self.run.path.name}; to see it: mlflow ui --backend-store-uri {shlex.quote(uri)}"
            if self.settings.tracking_uri
            else f'MLflow: run {self.run.path.name}; to see it: mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
        )

    def _open(self, settings: MlflowSettings) -> None:
        import mlflow  # noqa: PLC0415 (needed only with logger=mlflow)
        from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415
        from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415

        for chatty in ("alembic", "mlflow"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        known = read_json(self.run.tracking)["run_id"] if self.run.tracking.exists() else None
        try:
            mlflow.set_tracking_uri(settings.uri)
            mlflow.set_experiment(settings.experiment)
            if settings.system_metrics:
                mlflow.set_system_metrics_sampling_interval(settings.system_metrics)
            active = mlflow.start_run(
                run_id=known, run_name=self.run.path.name, log_system_metrics=bool(settings.system_metrics)
            )
        except Exception as error:  # a database, a network and MLflow itself have errors of their own
            reason = _first_line(error)
            raise UserError(
                f"logger.tracking_uri: MLflow cannot open a run there ({_without_password(reason, settings)}): "
                "mend it, or use logger=csv"
            ) from None
        self.run_id = active.info.run_id
        self._new = known is None
        if not self._new:
            return
        write_json(self.run.tracking, {"run_id": self.run_id})
        mlflow.set_tags({key: str(value) for key, value in self._tags.items()})
        parameters = list(flatten({k: v for k, v in self._config.items() if k != "logger"}))
        for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
            mlflow.log_params(dict(parameters[first : first + PARAMETERS_AT_ONCE]))
        name, digest = self._dataset
        # Name and digest only: MLflow's other datasets read all the text to make a digest of their own.
        corpus = MetaDataset(CodeDatasetSource(tags={"corpus": name}), name=name, digest=digest[:32])  # type: ignore[abstract]
        mlflow.log_input(corpus, context="training")


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings under their names on the command line: GROUP.KEY."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _without_password(text: str, settings: MlflowSettings) -> str:
    password = urllib.parse.urlsplit(settings.uri).password
    return text.replace(password, "***") if password else text
