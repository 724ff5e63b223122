"""Share an Optuna study among several workers: claim trials, keep them alive, and requeue those of dead workers.

A worker claims a trial under a lock on the sweep's folder, and sends heartbeats for it while it runs. A trial without
heartbeats fails in the study and is queued again: the new trial has the same parameters and the same run folder, and
resumes from the checkpoint there. The two count as one trial of n_trials.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from hourglass.config.differences import PLACES
from hourglass.errors import UserError
from hourglass.sweeps.settings import Objective, SweepSettings, over_seeds
from hourglass.sweeps.space import drawn_overrides
from hourglass.sweeps.summary import SweptJob
from hourglass.system.files import read_json, write_json
from hourglass.system.secrets import first_line
from hourglass.training.jobs import JobFailedError, Outcome, TrialTicket

log = logging.getLogger(__name__)

# Missed heartbeats after which a trial counts as dead.
MISSED_HEARTBEATS = 3
# Dead workers after which a trial is not queued again.
MAX_DEATHS = 3
# Seconds that the end of a trial waits for a database that does not answer.
PATIENCE = 300.0

Result = TypeVar("Result")


def make_pruner(name: str, startup_trials: int, validations: int) -> optuna.pruners.BasePruner:
    """Return a pruner of Optuna, whose steps are the validations of a run, 1 to `validations`."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=validations, reduction_factor=3)
    return optuna.pruners.NopPruner()


def open_storage(uri: str, heartbeat: int | None = None) -> RDBStorage:
    """Open the database of a study.

    Args:
        uri: its address.
        heartbeat: seconds between heartbeats; None for a process that sends none.

    Raises:
        UserError: the database cannot be opened.
    """
    # SQLite allows one writer at a time: the others wait, up to this many seconds.
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
                grace_period=MISSED_HEARTBEATS * heartbeat if heartbeat else None,
            )
    except Exception as error:  # A missing driver, a server that is down: each has errors of its own.
        remedy = "start the server, install its driver (psycopg[binary] for postgresql), or name another"
        raise UserError(f"hydra.sweeper.storage: cannot be opened ({root_cause(error)}): {remedy}") from None


def root_cause(error: BaseException) -> str:
    """Return the message of an error's innermost cause, such as a database driver's, as one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def retry(action: Callable[[], Result]) -> Result:
    """Return the result of an action on the study, repeated for `PATIENCE` seconds while its database fails.

    Raises:
        StorageInternalError: the database failed all the time.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except StorageInternalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the study's database does not answer (%s): trying again", root_cause(error))
            time.sleep(min(5, PATIENCE))


def trial_folder(trial: FrozenTrial) -> str:
    """Return the name of a trial's run folder; a requeued trial has that of the original."""
    first = trial.system_attrs.get("failed_trial")
    return f"trial-{trial.number if first is None else first}"


class Worker:
    """One of the workers that share a study.

    Args:
        settings: of the sweep.
        folder: of the sweep; all workers must have access to it.
        space: the distributions of the parameters.
        fixed: the other overrides of the command line, which must be the same in the whole study.

    Raises:
        UserError: the storage cannot be opened, or the study has other settings or another folder.
    """

    def __init__(self, settings: SweepSettings, folder: Path, space: Mapping[str, BaseDistribution], fixed: list[str]):
        self.settings, self.folder, self.space = settings, folder, space
        folder.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.storage = open_storage(settings.uri, settings.heartbeat)
            self.study = self._open()
            self._check_settings(fixed)
            self._check_folder()

    def _open(self) -> optuna.Study:
        name = self.settings.study_name
        if name in (study.study_name for study in self.storage.get_all_studies()):
            return optuna.load_study(study_name=name, storage=self.storage)
        return optuna.create_study(study_name=name, storage=self.storage, directions=self.settings.directions)

    def _check_settings(self, fixed: list[str]) -> None:
        """Record the settings of a new study, and check that those of an existing one are the same."""
        own = {
            "objective": ", ".join(self.settings.objectives),
            "params": {name: repr(distribution) for name, distribution in sorted(self.space.items())},
            "command line": " ".join(
                word for word in sorted(fixed) if re.split(r"[./=]", word)[0] not in (*PLACES, "hydra")
            ),
            **({"seeds": f"{self.settings.seeds}, {self.settings.over_seeds}"} if self.settings.seeds > 1 else {}),
            **{
                name: getattr(self.settings, name)
                for name in ("sampler", "startup_trials", "seed", "pruner", "heartbeat")
            },
        }
        recorded = self.study.user_attrs.get("hourglass")
        if recorded is None:
            self.study.set_user_attr("hourglass", own)
        elif changed := [name for name in {**own, **recorded} if recorded.get(name) != own.get(name)]:
            raise UserError(
                f"hydra.sweeper.study_name={self.settings.study_name}: was begun with other settings "
                f"({', '.join(changed)}): use the same settings, or name another study"
            )

    def _check_folder(self) -> None:
        """Check that the study uses only one folder: a lock in another would not exclude its workers."""
        file = self.folder / ".study"
        if "folder" not in self.study.user_attrs:
            write_json(file, {"study": secrets.token_hex(16)})
            where = f"{socket.gethostname()}:{self.folder.resolve()}"
            self.study.set_user_attr("folder", [read_json(file)["study"], where])
        token, where = self.study.user_attrs["folder"]
        if not file.exists() or read_json(file)["study"] != token:
            raise UserError(
                f"hydra.sweeper.study_name={self.settings.study_name}: its runs are in {where}, and hydra.sweep.dir is "
                f"{self.folder.resolve()}: start it there, or name another study"
            )

    def claim(self, *, wait: bool) -> FrozenTrial | None:
        """Claim a trial, a requeued one first; return None when the study has all of its n_trials.

        Args:
            wait: whether to wait while other workers run the last trials, in case one of them dies.
        """
        waited = False
        while True:
            with self.lock():
                self._check_folder()
                self._requeue_dead()
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
        """Return the trials that count towards n_trials: all but those that were queued again."""
        trials = self.study.get_trials(deepcopy=False)
        replaced = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
        return [trial for trial in trials if trial.number not in replaced]

    def _ask(self) -> FrozenTrial:
        """Take a queued trial, or draw a new one."""
        # A seed for each trial, so that workers draw different parameters, and a resumed sweep the same ones.
        seed = (self.settings.seed + 1_000_003 * len(self.counted())) % 2**32
        startup = self.settings.startup_trials
        self.study.sampler = (
            optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)
            if self.settings.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna expects heartbeats from Study.optimize. `Heartbeat` sends ours.
            trial = self.study.ask(dict(self.space))
        self.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        trial.set_user_attr("claimed", trial.number)
        return self.storage.get_trial(trial._trial_id)

    def _requeue_dead(self) -> None:
        """Queue the trials of dead workers again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.user_attrs.get("claimed") != trial.number:  # Its worker died during the claim, under the lock.
                self.give_back(trial)
        # A trial that failed without an error has lost its worker.
        for trial in self.counted():
            if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
                self._requeue(trial)

    def _requeue(self, trial: FrozenTrial) -> None:
        """Queue a failed trial again, unless too many workers have died while they ran it."""
        again = copy.deepcopy(trial)
        deaths = trial.user_attrs.get("deaths", 0) + (trial.user_attrs.get("given_back") != trial.number)
        again.user_attrs["deaths"] = deaths
        if deaths < MAX_DEATHS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(self.study, again)
            return
        # A finished trial takes no further attributes, so a new one records the error.
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
        """Fail a trial without an error, so that it is queued again: its worker could not finish it."""
        with suppress(UpdateFinishedTrialError):  # Another worker has done so meanwhile.
            self.storage.set_trial_user_attr(trial._trial_id, "given_back", trial.number)
            self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def give_up(self, trial: FrozenTrial, error: BaseException) -> None:
        """Fail a trial with the error of its launcher, unless the study knows already how it ended."""
        with suppress(UpdateFinishedTrialError):
            retry(lambda: self.storage.set_trial_user_attr(trial._trial_id, "error", str(error)))
            retry(lambda: self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL))
            log.warning("trial %d failed: %s", trial.number, error)

    def started(self, trial: FrozenTrial) -> bool:
        """Return whether a launcher has started a trial, or the trial has ended."""
        now = self.storage.get_trial(trial._trial_id)
        return now.state != TrialState.RUNNING or "started" in now.user_attrs

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the sweep's folder, which excludes all other workers."""
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """A thread that sends heartbeats for trials while they run."""

    def __init__(self, storage: RDBStorage, trial_ids: list[int], seconds: int):
        self._storage, self._trials, self._seconds = storage, trial_ids, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
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
                except Exception as error:  # The database does not answer, but may do so for the next heartbeat.
                    log.warning("a heartbeat of a trial could not be sent (%s)", type(error).__name__)
            self._stop.wait(self._seconds)


def run_trial(
    settings: SweepSettings, number: int, validations: int, start: Callable[[TrialTicket, str | None], Outcome]
) -> dict[str, Any]:
    """Run a trial and report the result to the study; this runs where the launcher has started the job.

    Args:
        settings: of the sweep.
        number: of the trial.
        validations: number of validations of each of its runs.
        start: runs the job of one seed, given the ticket and the id of the parent run in MLflow, and returns the
            outcome.

    Returns:
        `number` and `state` of the trial, for the sweeper.
    """
    storage = open_storage(settings.uri, settings.heartbeat)
    study = optuna.load_study(study_name=settings.study_name, storage=storage)
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state != TrialState.RUNNING:  # Its worker died while the trial waited in the launcher's queue.
        log.warning("trial %d: not run here, as another worker has it", number)
        return {"number": number, "state": trial.state.name}
    storage.set_trial_user_attr(trial._trial_id, "started", number)
    pruner = {"name": settings.chosen_pruner, "startup_trials": settings.startup_trials}
    pruner["validations"] = validations * settings.seeds
    ticket = TrialTicket(settings.uri, settings.study_name, trial._trial_id, settings.reported or "", pruner)
    ticket = replace(ticket, over_seeds=settings.over_seeds)

    def note(name: str, value: Any) -> None:
        retry(lambda: storage.set_trial_user_attr(trial._trial_id, name, value))

    def outcomes() -> Iterator[Outcome]:
        """Yield the outcome of each seed; that of a seed which ended before the trial was requeued is known."""
        for index in range(settings.seeds):
            known = trial.user_attrs.get(f"outcome/{index}")
            if known is None:
                own = replace(ticket, seed_index=index, first_step=index * validations)
                outcome = start(own, study.user_attrs.get("mlflow_run_id"))
                note(f"outcome/{index}", asdict(outcome))
            else:
                outcome = Outcome(**known)
            yield outcome

    with Heartbeat(storage, [trial._trial_id], settings.heartbeat):
        try:
            values, state = None, TrialState.PRUNED
            try:
                by_seed = []
                for outcome in outcomes():
                    note("run", outcome.run)
                    if outcome.pruned:
                        break
                    by_seed.append(objective_values(outcome, settings.objectives))
                else:
                    values, state = values_over_seeds(by_seed, settings), TrialState.COMPLETE
            except JobFailedError as error:
                state = TrialState.FAIL
                note("error", str(error))
                log.warning("trial %d failed: %s", number, error)
            ended = retry(lambda: study.tell(number, values, state))
        except (UpdateFinishedTrialError, ValueError) as error:
            log.warning("trial %d: %s", number, error)
            ended = study.get_trials(deepcopy=False)[number]
    return {"number": number, "state": ended.state.name}


def values_over_seeds(by_seed: Sequence[Sequence[float]], settings: SweepSettings) -> list[float]:
    """Return the values of the objectives, given those of each seed."""
    columns = zip(settings.objectives, zip(*by_seed, strict=True), strict=True)
    return [over_seeds(values, objective, settings.over_seeds) for objective, values in columns]


def objective_values(outcome: Outcome, objectives: list[Objective]) -> list[float]:
    """Return the values of the objectives for the outcome of a trial.

    Raises:
        JobFailedError: a value is not finite.
    """
    scores = {
        **outcome.dev,
        "parameters": float(outcome.parameters),
        "sentences_per_second": outcome.sentences_per_second,
    }
    values = [float(scores[objective]) for objective in objectives]  # type: ignore[arg-type]
    if not all(map(math.isfinite, values)):
        raise JobFailedError(f"{', '.join(objectives)}: {', '.join(map(str, values))} is not a finite score")
    return values


def runs_of(trial: FrozenTrial) -> list[str]:
    """Return the run folders of a trial, one for each seed that was trained."""
    outcomes = {name: value for name, value in trial.user_attrs.items() if name.startswith("outcome/")}
    return [outcomes[name]["run"] for name in sorted(outcomes, key=lambda name: int(name.partition("/")[2]))]


def swept_trial(trial: FrozenTrial, settings: SweepSettings) -> SweptJob:
    """Return a trial as a job of the summary; objectives that its runs do not show are columns of their own."""
    state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    choices = dict(word.split("=", 1) for word in drawn_overrides(trial.params, trial.distributions))
    values = dict(zip(settings.objectives, trial.values or [], strict=False))
    return SweptJob(
        trial.number,
        state.get(trial.state, trial.state.name.lower()),
        choices,
        runs=runs_of(trial),
        error=trial.user_attrs.get("error"),
        values={name: value for name, value in values.items() if name in ("parameters", "sentences_per_second")},
    )


def summarise_study(study: optuna.Study, settings: SweepSettings, trials: list[FrozenTrial]) -> str:
    """Return a summary of a study in a few lines: counts of trials, and the best.

    Args:
        study: with all its trials.
        settings: of the sweep.
        trials: those that count towards n_trials.
    """
    states = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    counts = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items() if count)
    lines = [f"study {settings.study_name}: {len(trials)} trials ({counts})"]
    for trial in study.best_trials if states[TrialState.COMPLETE] else []:
        values = ", ".join(f"{name} {value:.4g}" for name, value in zip(settings.objectives, trial.values, strict=True))
        overrides = shlex.join(drawn_overrides(trial.params, trial.distributions))
        lines.append(f"best: trial {trial.number}, {values}: {overrides}")
    return "\n".join(lines)
