"""TensorBoard and Weights & Biases, beside or in place of MLflow: Lightning's loggers, and the scores at a run's end.

They log points as the training makes them. What fails there is logged, and never ends a run that is trained.
"""

import logging
import secrets
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.files import write_whole
from hourglass.tracking.client import by_length_name, flatten
from hourglass.tracking.scores import LoggedScores
from hourglass.tracking.server import error_line
from hourglass.tracking.settings import LoggerSettings, TensorBoardSettings, WandbSettings

log = logging.getLogger(__name__)


class SteadyLogging(Logger):
    """What a logger of Lightning's cannot log is one line of the log, and does not end the training."""

    _failed = False

    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        """Log values of one step, unless an earlier step failed."""
        if not self._failed:
            self._attempt(f"the points from step {step} on", super().log_metrics, metrics, step)  # type: ignore[safe-super]

    def finalize(self, status: str) -> None:
        """Write what waits to be written."""
        self._attempt("its last points", super().finalize, status)

    def _attempt(self, lacking: str, do: Callable[..., Any], *arguments: Any) -> None:
        try:
            do(*arguments)
        except Exception as error:  # A full disk, the network, ...
            if not self._failed:
                log.warning("%s lacks %s (%s); curves.csv has them", type(self).__name__, lacking, error_line(error))
            self._failed = True


class SteadyTensorBoard(SteadyLogging, TensorBoardLogger):
    """Lightning's logger for TensorBoard."""


class SteadyWandb(SteadyLogging, WandbLogger):
    """Lightning's logger for W&B."""


class OpenLogger(Protocol):
    """A logger of a run, from its first point to its scores."""

    @property
    def logger(self) -> Logger:
        """Lightning's logger."""

    def end(self, scores: LoggedScores | None) -> None:
        """Log the scores, None without, and close."""

    def hint(self) -> str:
        """Return a line that says how to view the run."""


class TensorBoard:
    """Event files in PATH/tensorboard: curves as scalars, settings and scores as hyperparameters.

    Args:
        run: the run folder.
        config: all settings.
        first_step: the step that the training starts from; points from there on, of a killed process, are hidden.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._config = run, config
        # Once, and not by the logger: each process that opens it would hide the points of the others.
        SummaryWriter(run.tensorboard, purge_step=first_step).close()
        self.logger = SteadyTensorBoard(run.path, name="", version=run.tensorboard.name, default_hp_metric=False)

    def end(self, scores: LoggedScores | None) -> None:
        """Log the scores, and the settings beside them for the tab HPARAMS."""
        if scores is not None:
            self.logger.log_hyperparams(dict(flatten(self._config)), scores.values)
            for words, value in scores.by_length.items():
                self.logger.experiment.add_scalar(by_length_name(scores.main), value, words)
        self.logger.finalize("success")

    def hint(self) -> str:
        """Return a line that says how to view the run."""
        folder = shlex.quote(str(self._run.path.parent))
        return f"TensorBoard: run {self._run.path.name}; to view it: tensorboard --logdir {folder}"


class WeightsAndBiases:
    """A run of Weights & Biases, whose local files are in PATH/wandb.

    Args:
        run: the run folder; the id of its W&B run is in it, so that a resumed run continues that one.
        settings: the config group `logger`.
        config: all settings.

    Raises:
        UserError: W&B refuses the run, for want of an account for example.
    """

    def __init__(self, run: RunFolder, settings: WandbSettings, config: Mapping[str, Any]):
        import wandb

        self._run, self._settings = run, settings
        key = run.wandb / "id"
        if not key.exists():
            key.parent.mkdir(exist_ok=True)
            write_whole(key, secrets.token_hex(4))
        self.logger = SteadyWandb(
            name=run.path.name,
            project=settings.project,
            entity=settings.entity,
            id=key.read_text(encoding="utf-8"),
            resume="allow",
            save_dir=run.path,
            offline=settings.offline,
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        try:
            self.logger.experiment  # noqa: B018 (opens the run)
        except Exception as error:  # W&B's and the network's own.
            raise UserError(
                f"logger=wandb: W&B opens no run ({error_line(error)}): run `wandb login`, or write WANDB_MODE=offline "
                "before the command"
            ) from None

    def end(self, scores: LoggedScores | None) -> None:
        """Log the scores as the run's summary, and the main metric by length as a table."""
        import wandb

        experiment = self.logger.experiment
        if scores is not None:
            experiment.summary.update(dict(scores.values))
            if scores.by_length:
                rows = [list(row) for row in scores.by_length.items()]
                table = wandb.Table(columns=["source_words", scores.main], data=rows)
                experiment.log({by_length_name(scores.main): table})
        experiment.finish(exit_code=0 if scores is not None else 1)

    def hint(self) -> str:
        """Return a line that says how to view the run."""
        experiment = self.logger.experiment
        if self._settings.offline or experiment.url is None:
            folder = shlex.quote(str(Path(experiment.dir).parent))
            return f"W&B: run {self._run.path.name}; to send it: wandb sync {folder}"
        return f"W&B: run {self._run.path.name}: {experiment.url}"


def open_logger(
    settings: LoggerSettings, run: RunFolder, config: Mapping[str, Any], first_step: int
) -> OpenLogger | None:
    """Open the logger of the settings, None if that is another than these two.

    Args:
        settings: the config group `logger`.
        run: the run folder.
        config: all settings.
        first_step: the step that the training starts from.

    Raises:
        UserError: the logger refuses the run.
    """
    if isinstance(settings, TensorBoardSettings):
        return TensorBoard(run, config, first_step)
    if isinstance(settings, WandbSettings):
        return WeightsAndBiases(run, settings, config)
    return None


def end_logger(logger: OpenLogger, scores: LoggedScores | None) -> str | None:
    """Log the scores of a run that has ended, None of one that failed; what fails is logged in one line.

    Returns:
        A line that says how to view the run, None if not even that can be said.
    """
    hint = None
    try:
        hint = logger.hint()  # W&B knows it until the end.
        logger.end(scores)
    except Exception as error:  # A full disk, the network, ...: the results are in the run folder.
        log.warning("%s lacks the end of the run (%s)", type(logger).__name__, error_line(error))
    return hint
