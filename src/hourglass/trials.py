"""An Optuna study that several workers share: who takes which trial, who is alive, and what becomes of a dead one's.

A trial is claimed under a lock on the sweep's folder, and lives as long as somebody gives signs of life for it. One
that has gone silent fails in the study and is queued again: the new trial has the same parameters and the same run
folder, and goes on from the checkpoint there. It counts as one trial of the study's n_trials.
"""

import fcntl
import logging
import os
import re
import shlex
import socket
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.checkpoints import PLACES
from hourglass.errors import UserError
from hourglass.jobs import JobFailedError, Outcome, TrialTicket

log = logging.getLogger(__name__)

Objective = Literal["bleu", "loss", "parameters", "sentences_per_second"]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]
# Signs of life that may be missing before a trial is taken for dead.
MISSED = 3


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep, hydra.sweeper.

    Attributes:
        study_name: names the study in its storage.
        storage: its address; null: what OPTUNA_STORAGE says, the one place for a password.
        n_trials: of the whole study.
        n_jobs: trials at once.
        objective: one, or several for a Pareto front.
        sampler: what draws parameters.
        startup_trials: drawn at random first; the pruner waits for as many.
        seed: of the sampler.
        pruner: what stops the worse trials.
        heartbeat: seconds between signs of life.
        params: the search space, in Hydra's grammar.

    Raises:
        UserError: options contradict each other, or a password stands in `storage`.
    """

    study_name: Name
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql|mysql)(\+\w+)?://.+")] | None
    n_trials: PositiveInt
    n_jobs: PositiveInt
    objective: Objective | Annotated[list[Objective], Field(min_length=1)]
    sampler: Literal["tpe", "random"]
    startup_trials: NonNegativeInt
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    pruner: Literal["median", "hyperband", "none"]
    heartbeat: PositiveInt
    params: dict[str, str]

    def __post_init__(self) -> None:
        option = "hydra.sweeper.storage"
        if self.storage is None and not os.environ.get("OPTUNA_STORAGE"):
            raise UserError(f"{option}: not set, and neither is OPTUNA_STORAGE: set one of them")
        if self.storage is not None and urllib.parse.urlsplit(self.storage).password is not None:
            raise UserError(
                f"{option}: has a password, and settings are written to files: set OPTUNA_STORAGE=... in the "
                f"environment, and {option}=null"
            )
        for objective in self.objectives:
            if self.objectives.count(objective) > 1:
                raise UserError(f"hydra.sweeper.objective: {objective} stands twice")
        if self.pruner != "none" and self.reported is None:
            raise UserError(
                f"hydra.sweeper.objective={self.objective}: a pruner compares trials by bleu or loss alone: set "
                "hydra.sweeper.pruner=none"
            )

    @property
    def uri(self) -> str:
        """The address of the storage, from the settings or the environment."""
        return self.storage or os.environ["OPTUNA_STORAGE"]

    @property
    def objectives(self) -> list[Objective]:
        """One or several."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def reported(self) -> str | None:
        """What a trial reports on its way, where that is the one objective."""
        only = self.objectives[0] if len(self.objectives) == 1 else None
        return only if only in ("bleu", "loss") else None

    @property
    def directions(self) -> list[StudyDirection]:
        """Which way is better, for each objective."""
        more = ("bleu", "sentences_per_second")
        return [StudyDirection.MAXIMIZE if one in more else StudyDirection.MINIMIZE for one in self.objectives]


def make_pruner(name: str, startup_trials: int, validations: int) -> optuna.pruners.BasePruner:
    """Return a pruner; its steps are the validations of a run, 1 to `validations`."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=validations, reduction_factor=3)
    return optuna.pruners.NopPruner()


def open_storage(uri: str, heartbeat: int | None = None) -> RDBStorage:
    """Open a study's storage.

    Args:
        uri: its address.
        heartbeat: seconds between signs of life; null for one who gives none.

    Raises:
        UserError: it cannot be opened.
    """
    # A writer of SQLite waits for the others.
    options: dict[str, Any] = (
        {"connect_args": {"timeout": 100}} if uri.startswith("sqlite") else {"pool_pre_ping": True}
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                uri,
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=MISSED * heartbeat if heartbeat else None,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True),
            )
    except Exception as error:  # a driver that is missing, a server that is down: each has errors of its own
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        remedy = "start the server, install its driver (psycopg[binary] for postgresql), or name another"
        raise UserError(f"hydra.sweeper.storage: cannot be opened ({said}): {remedy}") from None


def folder_of(trial: FrozenTrial) -> str:
    """Return the name of a trial's run folder; a trial that was queued again has that of the first."""
    first = trial.system_attrs.get("failed_trial")
    return f"trial-{trial.number if first is None else first}"


class Workers:
    """One worker's view of a study.

    Args:
        settings: of the sweep.
        folder: of the sweep; all workers see it.
        space: what is searched.
        fixed: what the command line says beside the search space: a study has one meaning.

    Raises:
        UserError: the storage cannot be opened, or the study was begun with other settings.
    """

    def __init__(self, settings: SweepSettings, folder: Path, space: Mapping[str, BaseDistribution], fixed: list[str]):
        self.settings, self.folder, self.space = settings, folder, space
        folder.mkdir(parents=True, exist_ok=True)
        with self.alone():
            self.storage = open_storage(settings.uri, settings.heartbeat)
            self.study = self._open()
            self._check_meaning(fixed)

    def _open(self) -> optuna.Study:
        name = self.settings.study_name
        if name in (study.study_name for study in self.storage.get_all_studies()):
            return optuna.load_study(study_name=name, storage=self.storage)
        return optuna.create_study(study_name=name, storage=self.storage, directions=self.settings.directions)

    def _check_meaning(self, fixed: list[str]) -> None:
        meaning = {
            "objective": ", ".join(self.settings.objectives),
            "params": {name: repr(one) for name, one in sorted(self.space.items())},
            "command line": " ".join(
                word for word in sorted(fixed) if re.split(r"[./=]", word)[0] not in (*PLACES, "hydra")
            ),
            **{name: getattr(self.settings, name) for name in ("sampler", "startup_trials", "seed", "pruner")},
        }
        before = self.study.user_attrs.get("hourglass")
        if before is None:
            self.study.set_user_attr("hourglass", meaning)
        elif changed := [name for name in meaning if before.get(name) != meaning[name]]:
            raise UserError(
                f"hydra.sweeper.study_name={self.settings.study_name}: was begun with other settings "
                f"({', '.join(changed)}): give those again, or name another study"
            )

    def claim(self, *, wait: bool) -> FrozenTrial | None:
        """Take a trial, one that was queued again first; None when the study has all of its n_trials.

        Args:
            wait: while the last ones are running elsewhere: what a dead worker leaves is there to be taken.
        """
        waited = False
        while True:
            with self.alone():
                self._bury()
                trials = self.study.get_trials(deepcopy=False)
                queued = any(trial.state == TrialState.WAITING for trial in trials)
                if queued or len(self.counted()) < self.settings.n_trials:
                    return self._ask()
                running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
            if not running or not wait:
                return None
            if not waited:
                log.info("waiting for trials of other workers: %s", ", ".join(map(str, running)))
                waited = True
            time.sleep(min(self.settings.heartbeat, 2))

    def counted(self) -> list[FrozenTrial]:
        """Return the trials that count: all but those that were queued again."""
        trials = self.study.get_trials(deepcopy=False)
        again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
        return [trial for trial in trials if trial.number not in again]

    def _ask(self) -> FrozenTrial:
        # A seed for each trial, so that workers differ, and a sweep that was killed draws as an unbroken one does.
        seed = (self.settings.seed + 1_000_003 * len(self.study.get_trials(deepcopy=False))) % 2**32
        startup = self.settings.startup_trials
        self.study.sampler = (
            optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)
            if self.settings.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That signs of life are for Study.optimize: we give them ourselves.
            trial = self.study.ask(dict(self.space))
        self.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        return self.storage.get_trial(trial._trial_id)

    def _bury(self) -> None:
        """Queue again what the dead have left."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if "worker" not in trial.user_attrs:  # It died while it was claiming, which is done under the lock.
                self.give_back(trial)

    def give_back(self, trial: FrozenTrial) -> None:
        """Queue a trial again that its worker could not finish."""
        try:
            if self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL):
                callback = self.storage.get_heartbeat_stale_trial_callback()
                assert callback is not None
                callback(self.study, self.storage.get_trial(trial._trial_id))
        except UpdateFinishedTrialError:
            pass  # Somebody else has, in the meantime.

    def give_up(self, trial: FrozenTrial, error: BaseException) -> None:
        """Let a trial fail whose launcher did, if nobody has told how it ended."""
        try:
            self.storage.set_trial_user_attr(trial._trial_id, "error", str(error))
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return
        log.warning("trial %d failed: %s", trial.number, error)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the sweep's other workers out."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Heart(AbstractContextManager["Heart"]):
    """Gives signs of life for trials, in a thread, as long as they are worked on."""

    def __init__(self, storage: RDBStorage, trial_ids: list[int], seconds: int):
        self._storage, self._trials, self._seconds = storage, trial_ids, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.is_set():
            for trial in self._trials:
                try:
                    self._storage.record_heartbeat(trial)
                except Exception as error:  # the database is away: it may be back for the next one
                    log.warning("no sign of life could be given for a trial (%s)", type(error).__name__)
            self._stop.wait(self._seconds)


def run_trial(
    settings: SweepSettings, number: int, validations: int, start: Callable[[TrialTicket, str | None], Outcome]
) -> dict[str, Any]:
    """Run one trial and tell the study how it ended; this is what a launcher runs, wherever it does.

    Args:
        settings: of the sweep.
        number: of the trial.
        validations: of its run.
        start: starts the job, under the sweep's run in MLflow if there is one, and returns how it ended.

    Returns:
        The trial's number and state, for the sweeper.
    """
    storage = open_storage(settings.uri, settings.heartbeat)
    study = optuna.load_study(study_name=settings.study_name, storage=storage)
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state != TrialState.RUNNING:  # It waited for its launcher longer than its worker lived.
        log.warning("trial %d: not run, as it was given to another worker", number)
        return {"number": number, "state": trial.state.name}
    pruner = {"name": settings.pruner, "startup_trials": settings.startup_trials, "validations": validations}
    ticket = TrialTicket(settings.uri, settings.study_name, trial._trial_id, settings.reported or "", pruner)
    with Heart(storage, [trial._trial_id], settings.heartbeat):
        try:
            outcome = start(ticket, study.user_attrs.get("mlflow_run_id"))
        except JobFailedError as error:
            storage.set_trial_user_attr(trial._trial_id, "error", str(error))
            log.warning("trial %d failed: %s", number, error)
            told: dict[str, Any] = {"state": TrialState.FAIL}
        else:
            storage.set_trial_user_attr(trial._trial_id, "run", outcome.run)
            told = {"state": TrialState.PRUNED} if outcome.pruned else {"values": measure(outcome, settings.objectives)}
    try:
        ended = study.tell(number, **told)
    except (UpdateFinishedTrialError, ValueError) as error:
        log.warning("trial %d: %s", number, error)
        ended = study.get_trials(deepcopy=False)[number]
    return {"number": number, "state": ended.state.name}


def measure(outcome: Outcome, objectives: list[Objective]) -> list[float]:
    """Return what a trial is judged by."""
    known = {
        **outcome.dev,
        "parameters": float(outcome.parameters),
        "sentences_per_second": outcome.sentences_per_second,
    }
    return [float(known[one]) for one in objectives]  # type: ignore[arg-type]


def summarise(study: optuna.Study, settings: SweepSettings, trials: list[FrozenTrial]) -> str:
    """Return how a study stands, in a few lines; `trials` are those that count."""
    states = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    counts = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items() if count)
    lines = [f"study {settings.study_name}: {len(trials)} trials ({counts})"]
    for trial in study.best_trials if states[TrialState.COMPLETE] else []:
        values = ", ".join(f"{name} {value:.4g}" for name, value in zip(settings.objectives, trial.values, strict=True))
        chosen = " ".join(shlex.quote(f"{name}={value}") for name, value in trial.params.items())
        lines.append(f"best: trial {trial.number}, {values}: {chosen}")
    return "\n".join(lines)
