"""The sweeper of `-m sweep=optuna`: a Hydra plugin that claims trials of an Optuna study and passes them to a launcher.

Hydra's own Optuna sweeper passes no trial to the job, so that none can be pruned, runs n_trials more at each start, and
ends when a job fails. Here the job has a ticket for its trial, and runs in a child process (see training/jobs.py).
"""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
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

from hourglass.config.command_line import config_words
from hourglass.config.compose import load_composed_plugins, plain_values
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.sweeps.combinations import PARENT_RUN, CombinationSweeper
from hourglass.sweeps.report import open_parent, write_sweep_report
from hourglass.sweeps.settings import OF_EVERY_RUN, SweepSettings
from hourglass.sweeps.space import drawn_overrides, each_choice, search_space
from hourglass.sweeps.summary import summarise_jobs
from hourglass.sweeps.trials import Heartbeat, Worker, root_cause, run_trial, summarise_study, swept_trial, trial_folder
from hourglass.system.commands import path_override
from hourglass.system.project import TRAIN_SCRIPT
from hourglass.system.secrets import first_line
from hourglass.tracking.parent import PARENT_TAG
from hourglass.tracking.settings import MlflowSettings, check_logger
from hourglass.training.jobs import JobFailedError, Outcome, TrialTicket, start_job

log = logging.getLogger(__name__)

# The environment variable with the number of a job's trial; Hydra sets it with any launcher.
TRIAL = "HOURGLASS_TRIAL"
# A sweep ends if this many trials have failed and none has succeeded.
MAX_FIRST_FAILURES = 5
# The launchers whose jobs end with this process.
LOCAL_LAUNCHERS = ("basic", "joblib")


def register_sweepers() -> None:
    """Register the sweepers of this project as Hydra plugins."""
    Plugins.instance().register(OptunaSweeper)
    Plugins.instance().register(CombinationSweeper)


class OptunaSweeper(Sweeper):
    """Run the trials of an Optuna study.

    Args:
        options: those of `SweepSettings`, unchecked, as Hydra passes them.
    """

    def __init__(self, **options: Any):
        self.options = options
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher; Hydra calls this before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has n_trials.

        Raises:
            UserError: the settings contradict each other, the database fails, or no trial has succeeded.
        """
        try:
            self._sweep(arguments)
        except (StorageInternalError, SQLAlchemyError) as error:
            raise UserError(
                f"hydra.sweeper.storage: the study's database does not answer ({root_cause(error)}): "
                "correct that, and run the same command to continue"
            ) from None

    def _sweep(self, arguments: list[str]) -> None:
        assert self.config is not None
        assert self.hydra_context is not None
        load_composed_plugins(self.config)  # What is wrong with them is said once, not by each job.
        settings = sweep_settings(self.config.hydra.sweeper)
        launcher = self.config.hydra.runtime.choices["hydra/launcher"]
        if settings.n_jobs > 1 and launcher == "basic":
            raise UserError(
                f"hydra.sweeper.n_jobs={settings.n_jobs}: the basic launcher runs one job at a time: add "
                "hydra/launcher=joblib, or start the same command in several shells"
            )
        main = self.config.metrics.main
        if other := next((name for name in settings.objectives if name not in (main, *OF_EVERY_RUN)), None):
            raise UserError(
                f"hydra.sweeper.objective={other}: dev is scored by metrics.main, and that is {main}: set one of "
                "them to the other"
            )
        if settings.reported not in (None, select := self.config.trainer.select):
            raise UserError(
                f"hydra.sweeper.objective={settings.reported}: each run must keep the checkpoint that is best by the "
                f"same score: set trainer.select={settings.reported} (it is {select})"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = [f"{name}={value}" for name, value in settings.params.items()]
        space, fixed = search_space(parser.parse_overrides(words), parser.parse_overrides(arguments))
        if not space:
            raise UserError(
                "hydra.sweeper.params: no parameters to search: add one, such as attention=choice(none,mean)"
            )
        if settings.seeds > 1 and "seed" in space:
            raise UserError(f"hydra.sweeper.seeds={settings.seeds}: every trial has these seeds: leave seed=... out")
        refuse_folders(arguments)
        for drawn in each_choice(space):
            job = self.hydra_context.config_loader.load_sweep_config(self.config, [*fixed, *drawn])
            if main in settings.objectives and job.metrics.main != main:
                raise UserError(
                    f"hydra.sweeper.objective={main}: trials with {' '.join(drawn)} have metrics.main="
                    f"{job.metrics.main}: set metrics.main={main} for all"
                )
        logger = check_logger(plain_values(self.config.logger))
        worker = Worker(settings, Path(self.config.hydra.sweep.dir), space, fixed)
        if isinstance(logger, MlflowSettings):
            with worker.lock():
                open_parent(worker.study, settings, logger)
        signal.signal(signal.SIGTERM, _stop)
        while trials := self._claim(worker, settings.n_jobs):
            self._run(worker, trials, fixed, launcher)
            counted = worker.counted()
            if len(counted) >= MAX_FIRST_FAILURES and all(trial.state.name == "FAIL" for trial in counted):
                raise UserError(
                    f"study {settings.study_name}: all of its first {len(counted)} trials have failed: see the errors "
                    "above"
                )
        counted = worker.counted()
        write_sweep_report(worker.study, settings, counted, worker.folder, logger)
        print(f"\n{summarise_jobs([swept_trial(trial, settings) for trial in counted], 'trial')}\n")
        print(summarise_study(worker.study, settings, counted), flush=True)
        if not any(trial.values for trial in counted):
            raise UserError(f"study {settings.study_name}: no trial has succeeded: see their errors above")

    def _run(self, worker: Worker, trials: list[FrozenTrial], fixed: list[str], launcher: str) -> None:
        """Run trials by the launcher; requeue those that do not end because this process is stopped."""
        assert self.launcher is not None
        batch = []
        for trial in trials:
            drawn = drawn_overrides(trial.params, worker.space)
            log.info("\ntrial %d of study %s: %s", trial.number, worker.study.study_name, shlex.join(drawn))
            place = [f"hydra.sweep.subdir={trial_folder(trial)}", f"+hydra.job.env_set.{TRIAL}='{trial.number}'"]
            batch.append([*fixed, *drawn, *place])
        returns: Sequence[Any] = ()
        with Heartbeat(worker.storage, [trial._trial_id for trial in trials], worker.settings.heartbeat):
            try:
                returns = self.launcher.launch(batch, initial_job_idx=trials[0].number)
            except BaseException as stop:
                stopped = isinstance(stop, KeyboardInterrupt | SystemExit)
                remote = launcher not in LOCAL_LAUNCHERS and any(map(worker.started, trials))
                if not remote:
                    for trial in trials:
                        worker.give_back(trial)
                if stopped:
                    running = "; started jobs run to their end and report to the study" if remote else ""
                    print(f"\nstopped{running}; to continue, run the same command", file=sys.stderr, flush=True)
                    raise SystemExit(stop.code if isinstance(stop, SystemExit) else 130) from None
                if not remote:
                    raise
                # One job was killed, and the launcher returns no results of the others either. Those report to the
                # study themselves. The trial of the killed job has no more heartbeats and is queued again.
                log.warning("hydra/launcher=%s: a job is lost (%s)", launcher, first_line(stop))
        for trial, job in zip(trials, returns, strict=False):
            try:
                _ = job.return_value
            except Exception as error:  # Of the launcher, as the job itself reports its errors to the study.
                worker.give_up(trial, error)

    def _claim(self, worker: Worker, n_jobs: int) -> list[FrozenTrial]:
        """Claim up to `n_jobs` trials; wait for trials of other workers only if there is none."""
        trials: list[FrozenTrial] = []
        while len(trials) < n_jobs and (trial := worker.claim(wait=not trials)):
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


def refuse_folders(overrides: Sequence[str]) -> None:
    """Check that the command line of a sweep does not name a run folder for all its jobs.

    Raises:
        UserError: the command line has run_dir, resume or if_exists.
    """
    for word in overrides:
        if word.partition("=")[0] in ("run_dir", "resume", "if_exists"):
            raise UserError(f"{word}: in a sweep every job gets a folder of its own: leave it out")


def _is_plain(hydra: Any) -> bool:
    return str(hydra.sweeper["_target_"]).rpartition(".")[2] == CombinationSweeper.__name__


def run_job(composed: DictConfig) -> Any:
    """Run one job of a sweep in a child process; the launcher calls this, perhaps on another machine.

    Args:
        composed: the settings of the job.

    Returns:
        For a trial its number and state, for a job of a plain -m its outcome or, if it failed, its error. For a
        sweeper of Hydra's own, the dev score.

    Raises:
        UserError: the command line names a run folder, or the job of a sweeper of Hydra's own failed.
    """
    hydra = HydraConfig.get()
    try:
        os.chdir(hydra.runtime.cwd)  # Workers of Ray start elsewhere, perhaps on another machine.
    except OSError as error:
        raise UserError(
            f"{hydra.runtime.cwd}: cannot be entered ({error.strerror}): "
            "start the sweep in a folder that exists on all its machines"
        ) from None
    refuse_folders(hydra.overrides.task)
    overrides = [*config_words(hydra), *hydra.overrides.task]
    number = os.environ.get(TRIAL)
    if number is None:
        parent = os.environ.get(PARENT_RUN)
        tags = {PARENT_TAG: parent, "job": str(hydra.job.num)} if parent else {}
        try:
            outcome = start_job(str(TRAIN_SCRIPT), overrides, tags=tags)
        except JobFailedError as error:
            if _is_plain(hydra):
                return error
            raise
        return outcome if _is_plain(hydra) else outcome.dev[composed.trainer.select]
    settings = sweep_settings(hydra.sweeper)
    folder = Path(hydra.sweep.dir, hydra.sweep.subdir).resolve()
    if settings.seeds > 1:  # Hydra has made it for the job. The run folders of the seeds are beside it.
        with suppress(OSError):
            folder.rmdir()

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        speed = "sentences_per_second" in settings.objectives
        tags = {"sweep": settings.study_name, "trial": number} | ({PARENT_TAG: parent} if parent else {})
        words, place = list(overrides), folder
        if settings.seeds > 1:
            seed = composed.seed + ticket.seed_index
            words.append(f"seed={seed}")
            place = folder.with_name(f"{folder.name}-seed-{seed}")
        words += [path_override("run_dir", place), "if_exists=continue_or_replace"]
        return start_job(str(TRAIN_SCRIPT), words, trial=ticket, tags=tags, measure_speed=speed)

    return run_trial(settings, int(number), composed.trainer.validations, start)
