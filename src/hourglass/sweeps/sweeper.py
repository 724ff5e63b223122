"""The sweeper of `-m sweep=optuna`: a plugin of Hydra's that claims trials and hands them to a launcher.

Hydra's own Optuna sweeper passes no trial to the job, so that nothing can be pruned, runs n_trials more each time, and
ends when a job fails. Here the job knows its trial (see trials.py), and every job is a child process (see jobs.py).
"""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from hourglass.config.compose import path_override, plain_values
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.sweeps.report import open_parent, write_sweep_report
from hourglass.sweeps.settings import SweepSettings
from hourglass.sweeps.space import each_choice, search_space, text_of
from hourglass.sweeps.trials import Heart, Workers, folder_of, run_trial, short, summarise_study
from hourglass.system.project import TRAIN_SCRIPT
from hourglass.system.secrets import first_line
from hourglass.tracking.settings import MlflowSettings, check_logger
from hourglass.training import jobs
from hourglass.training.jobs import Outcome, TrialTicket

log = logging.getLogger(__name__)


# How a job learns which trial it is: set in its environment by Hydra, by whatever launcher.
TRIAL = "HOURGLASS_TRIAL"


# After so many trials of which each has failed, a sweep ends.
HOPELESS = 5


# The launchers whose jobs end with this process.
NEAR = ("basic", "joblib")


def register_sweeper() -> None:
    """Make the sweeper known to Hydra."""
    Plugins.instance().register(OptunaSweeper)


class OptunaSweeper(Sweeper):
    """See the top of the file; the options are those of `trials.SweepSettings`."""

    def __init__(self, **options: Any):
        self.options = options
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has all of them.

        Raises:
            UserError: the settings contradict each other, or no trial has ended well.
        """

        try:
            self._sweep(arguments)
        except (StorageInternalError, SQLAlchemyError) as error:
            raise UserError(
                f"hydra.sweeper.storage: the study's database does not answer ({short(error)}): "
                "mend that; the same command goes on"
            ) from None

    def _sweep(self, arguments: list[str]) -> None:
        assert self.config is not None
        assert self.hydra_context is not None
        settings = sweep_settings(self.config.hydra.sweeper)
        launcher = self.config.hydra.runtime.choices["hydra/launcher"]
        if settings.n_jobs > 1 and launcher == "basic":
            raise UserError(
                f"hydra.sweeper.n_jobs={settings.n_jobs}: the basic launcher runs one job at a time: add "
                "hydra/launcher=joblib, or start the same command in several shells"
            )
        if settings.reported not in (None, select := self.config.trainer.select):
            raise UserError(
                f"hydra.sweeper.objective={settings.reported}: a trial would be judged by one score and keep the model "
                f"that is best by another: set trainer.select={settings.reported} (it is {select})"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = [f"{name}={value}" for name, value in settings.params.items()]
        space, fixed = search_space(parser.parse_overrides(words), parser.parse_overrides(arguments))
        if not space:
            raise UserError(
                "hydra.sweeper.params: nothing to search: name at least one, like attention=choice(none,mean)"
            )
        refuse_places(arguments)
        self.validate_batch_is_legal([[*fixed, *drawn] for drawn in each_choice(space)])
        logger = check_logger(plain_values(self.config.logger))
        workers = Workers(settings, Path(self.config.hydra.sweep.dir), space, fixed)
        if isinstance(logger, MlflowSettings):
            with workers.alone():
                open_parent(workers.study, settings, logger)
        signal.signal(signal.SIGTERM, _stop)
        while trials := self._claim(workers, settings.n_jobs):
            self._run(workers, trials, fixed, launcher)
            counted = workers.counted()
            if len(counted) >= HOPELESS and all(trial.state.name == "FAIL" for trial in counted):
                raise UserError(f"study {settings.study_name}: all of its first {len(counted)} trials have failed")
        counted = workers.counted()
        write_sweep_report(workers.study, settings, counted, workers.folder, logger)
        print(summarise_study(workers.study, settings, counted), flush=True)
        if not any(trial.values for trial in counted):
            raise UserError(f"study {settings.study_name}: not one trial has ended well; each has said why")

    def _run(self, workers: Workers, trials: list[FrozenTrial], fixed: list[str], launcher: str) -> None:
        """Hand trials to the launcher, and see that each is done with, or queued again if this process is stopped."""
        assert self.launcher is not None
        batch = []
        for trial in trials:
            drawn = [f"{name}={text_of(value)}" for name, value in trial.params.items()]
            log.info("\ntrial %d of study %s: %s", trial.number, workers.study.study_name, shlex.join(drawn))
            place = [f"hydra.sweep.subdir={folder_of(trial)}", f"+hydra.job.env_set.{TRIAL}='{trial.number}'"]
            batch.append([*fixed, *drawn, *place])
        returns: Sequence[Any] = ()
        with Heart(workers.storage, [trial._trial_id for trial in trials], workers.settings.heartbeat):
            try:
                returns = self.launcher.launch(batch, initial_job_idx=trials[0].number)
            except BaseException as stop:
                stopped = isinstance(stop, KeyboardInterrupt | SystemExit)
                far = launcher not in NEAR and any(map(workers.started, trials))
                if not far:
                    for trial in trials:
                        workers.give_back(trial)
                if stopped:
                    running = "; jobs that it has handed on end by themselves, and tell the study" if far else ""
                    print(f"\nstopped{running}; the same command goes on", file=sys.stderr, flush=True)
                    raise SystemExit(stop.code if isinstance(stop, SystemExit) else 130) from None
                if not far:
                    raise
                # One job was killed, and the launcher has no results of the others either: they tell the study
                # themselves, and the dead one's trial goes silent and is queued again.
                log.warning("hydra/launcher=%s: a job is lost (%s)", launcher, first_line(stop))
        for trial, job in zip(trials, returns, strict=False):
            try:
                _ = job.return_value
            except Exception as error:  # of the launcher: the job itself tells the study how it ended
                workers.give_up(trial, error)

    def _claim(self, workers: Workers, n_jobs: int) -> list[FrozenTrial]:
        """Take up to so many trials; wait for others' only while there is none."""
        trials: list[FrozenTrial] = []
        while len(trials) < n_jobs and (trial := workers.claim(wait=not trials)):
            trials.append(trial)
        return trials


def _stop(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def sweep_settings(node: Any) -> SweepSettings:
    """Return the checked settings of hydra.sweeper.

    Raises:
        UserError: an option is unknown or outside its choices, or contradicts another.
    """
    options: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    options.pop("_target_")
    return build(SweepSettings, options, "hydra.sweeper")


def refuse_places(overrides: Sequence[str]) -> None:
    """See that the command line of a sweep leaves each job to its own folder.

    Raises:
        UserError: it does not.
    """
    for word in overrides:
        if word.partition("=")[0] in ("run_dir", "resume", "if_exists"):
            raise UserError(f"{word}: in a sweep every job gets a folder of its own: leave it out")


def run_job(composed: DictConfig) -> Any:
    """Run one job of a sweep, in a child process; this is what a launcher calls, wherever it does.

    Returns:
        The dev score; for a trial, its number and state.

    Raises:
        UserError: the command line has what every job has to have for itself, or the job ended badly.
    """
    hydra = HydraConfig.get()
    try:
        os.chdir(hydra.runtime.cwd)  # A worker of Ray's starts somewhere else, perhaps on another machine.
    except OSError as error:
        raise UserError(
            f"{hydra.runtime.cwd}: not to be entered ({error.strerror}): "
            "start the sweep in a folder that all its machines see"
        ) from None
    # Which sweep it is part of, the job need not know.
    overrides = [word for word in hydra.overrides.task if not word.startswith("sweep=")]
    refuse_places(overrides)
    number = os.environ.get(TRIAL)
    if number is None:
        return jobs.start_job(str(TRAIN_SCRIPT), overrides).dev[composed.trainer.select]
    settings = sweep_settings(hydra.sweeper)
    overrides += [path_override("run_dir", Path(hydra.sweep.dir, hydra.sweep.subdir).resolve()), "if_exists=continue"]

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        speed = "sentences_per_second" in settings.objectives
        tags = {"sweep": settings.study_name, "trial": number} | ({"mlflow.parentRunId": parent} if parent else {})
        return jobs.start_job(str(TRAIN_SCRIPT), overrides, trial=ticket, tags=tags, measure_speed=speed)

    return run_trial(settings, int(number), composed.trainer.validations, start)
