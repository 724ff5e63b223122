"""An Optuna study that several workers share: who takes which trial, who is alive, and what becomes of a dead one's.

A trial is claimed under a lock on the sweep's folder, and lives as long as somebody gives signs of life for it. One
that has gone silent fails in the study and is queued again: the new trial has the same parameters and the same run
folder, and goes on from the checkpoint there. It counts as one trial of the study's n_trials.
"""

import copy
import fcntl
import logging
import math
import os
import re
import secrets
import shlex
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from hourglass.config.differences import PLACES
from hourglass.errors import UserError
from hourglass.sweeps.settings import Objective, SweepSettings
from hourglass.system.files import read_json, write_json
from hourglass.system.secrets import first_line
from hourglass.training.jobs import JobFailedError, Outcome, TrialTicket

log = logging.getLogger(__name__)


# Signs of life that may be missing before a trial is taken for dead.
MISSED = 3


# After so many workers have died of it, a trial is not queued again.
DEADLY = 3


# Seconds that the end of a trial waits for a database that is away.
PATIENCE = 300.0


Result = TypeVar("Result")


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
            )
    except Exception as error:  # a driver that is missing, a server that is down: each has errors of its own
        said = short(error)
        remedy = "start the server, install its driver (psycopg[binary] for postgresql), or name another"
        raise UserError(f"hydra.sweeper.storage: cannot be opened ({said}): {remedy}") from None


def short(error: BaseException) -> str:
    """Return what an error says, in a line; a driver's own words, below what wraps them."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def persist(do: Callable[[], Result]) -> Result:
    """Do something with the study, again and again for some minutes while its database does not answer.

    Raises:
        StorageInternalError: it never did.
    """
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except StorageInternalError as error:
            if time.monotonic() > ends:
                raise
            log.warning("the study's database does not answer (%s): tried again", short(error))
            time.sleep(min(5, PATIENCE))


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
            self._check_folder()

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
            **{
                name: getattr(self.settings, name)
                for name in ("sampler", "startup_trials", "seed", "pruner", "heartbeat")
            },
        }
        before = self.study.user_attrs.get("hourglass")
        if before is None:
            self.study.set_user_attr("hourglass", meaning)
        elif changed := [name for name in meaning if before.get(name) != meaning[name]]:
            raise UserError(
                f"hydra.sweeper.study_name={self.settings.study_name}: was begun with other settings "
                f"({', '.join(changed)}): give those again, or name another study"
            )

    def _check_folder(self) -> None:
        """See that the study is not run from two folders, whose locks would keep nobody out of the other."""
        file = self.folder / ".study"
        if "folder" not in self.study.user_attrs:
            write_json(file, {"study": secrets.token_hex(16)})
            where = f"{socket.gethostname()}:{self.folder.resolve()}"
            self.study.set_user_attr("folder", [read_json(file)["study"], where])
        token, where = self.study.user_attrs["folder"]
        if not file.exists() or read_json(file)["study"] != token:
            raise UserError(
                f"hydra.sweeper.study_name={self.settings.study_name}: its runs lie in {where}, and hydra.sweep.dir is "
                f"{self.folder.resolve()}: start it there, or name another study"
            )

    def claim(self, *, wait: bool) -> FrozenTrial | None:
        """Take a trial, one that was queued again first; None when the study has all of its n_trials.

        Args:
            wait: while the last ones are running elsewhere: what a dead worker leaves is there to be taken.
        """
        waited = False
        while True:
            with self.alone():
                self._check_folder()
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
        seed = (self.settings.seed + 1_000_003 * len(self.counted())) % 2**32
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
        trial.set_user_attr("claimed", trial.number)
        return self.storage.get_trial(trial._trial_id)

    def _bury(self) -> None:
        """Queue again what the dead have left."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.user_attrs.get("claimed") != trial.number:  # It died while it was claiming, under the lock.
                self.give_back(trial)
        # What has failed without an error lost its worker, maybe one that died before it could queue it again.
        for trial in self.counted():
            if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
                self._queue_again(trial)

    def _queue_again(self, trial: FrozenTrial) -> None:
        again = copy.deepcopy(trial)
        deaths = trial.user_attrs.get("deaths", 0) + (trial.user_attrs.get("given_back") != trial.number)
        again.user_attrs["deaths"] = deaths
        if deaths < DEADLY:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(self.study, again)
            return
        # A trial that has ended takes no more attributes: another stands for it.
        again.user_attrs["error"] = f"{deaths} workers have died of it"
        log.warning("trial %d failed: %s", trial.number, again.user_attrs["error"])
        history = [*trial.system_attrs.get("retry_history", []), trial.number]
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.FAIL,
                params=again.params,
                distributions=again.distributions,
                user_attrs=again.user_attrs,
                system_attrs={"failed_trial": trial.number, **trial.system_attrs, "retry_history": history},
            )
        )

    def give_back(self, trial: FrozenTrial) -> None:
        """Let a trial that its worker could not finish fail without an error, so that it is queued again."""
        with suppress(UpdateFinishedTrialError):  # Somebody else has, in the meantime.
            self.storage.set_trial_user_attr(trial._trial_id, "given_back", trial.number)
            self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def give_up(self, trial: FrozenTrial, error: BaseException) -> None:
        """Let a trial fail whose launcher did, if nobody has told how it ended."""
        with suppress(UpdateFinishedTrialError):
            persist(lambda: self.storage.set_trial_user_attr(trial._trial_id, "error", str(error)))
            persist(lambda: self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL))
            log.warning("trial %d failed: %s", trial.number, error)

    def started(self, trial: FrozenTrial) -> bool:
        """Whether a launcher has brought a trial to where it runs, or somebody has ended it."""
        now = self.storage.get_trial(trial._trial_id)
        return now.state != TrialState.RUNNING or "started" in now.user_attrs

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
    storage.set_trial_user_attr(trial._trial_id, "started", number)
    pruner = {"name": settings.chosen_pruner, "startup_trials": settings.startup_trials, "validations": validations}
    ticket = TrialTicket(settings.uri, settings.study_name, trial._trial_id, settings.reported or "", pruner)

    def note(name: str, value: str) -> None:
        persist(lambda: storage.set_trial_user_attr(trial._trial_id, name, value))

    with Heart(storage, [trial._trial_id], settings.heartbeat):
        try:
            values, state = None, TrialState.PRUNED
            try:
                outcome = start(ticket, study.user_attrs.get("mlflow_run_id"))
                note("run", outcome.run)
                if not outcome.pruned:
                    values, state = objective_values(outcome, settings.objectives), TrialState.COMPLETE
            except JobFailedError as error:
                state = TrialState.FAIL
                note("error", str(error))
                log.warning("trial %d failed: %s", number, error)
            ended = persist(lambda: study.tell(number, values, state))
        except (UpdateFinishedTrialError, ValueError) as error:
            log.warning("trial %d: %s", number, error)
            ended = study.get_trials(deepcopy=False)[number]
    return {"number": number, "state": ended.state.name}


def objective_values(outcome: Outcome, objectives: list[Objective]) -> list[float]:
    """Return what a trial is judged by.

    Raises:
        JobFailedError: a score is no number.
    """
    known = {
        **outcome.dev,
        "parameters": float(outcome.parameters),
        "sentences_per_second": outcome.sentences_per_second,
    }
    values = [float(known[one]) for one in objectives]  # type: ignore[arg-type]
    if not all(map(math.isfinite, values)):
        raise JobFailedError(f"{', '.join(objectives)}: {', '.join(map(str, values))} is no score")
    return values


def summarise_study(study: optuna.Study, settings: SweepSettings, trials: list[FrozenTrial]) -> str:
    """Return how a study stands, in a few lines; `trials` are those that count."""
    states = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    counts = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items() if count)
    lines = [f"study {settings.study_name}: {len(trials)} trials ({counts})"]
    for trial in study.best_trials if states[TrialState.COMPLETE] else []:
        values = ", ".join(f"{name} {value:.4g}" for name, value in zip(settings.objectives, trial.values, strict=True))
        chosen = " ".join(shlex.quote(f"{name}={value}") for name, value in trial.params.items())
        lines.append(f"best: trial {trial.number}, {values}: {chosen}")
    return "\n".join(lines)
