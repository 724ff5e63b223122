"""Jobs: each is src/train.py in a child process of its own, so that no job can take another down with it.

The parent passes a ticket to the child through the environment, and reads the outcome from a file. Whatever kills the
child (memory, data, the kernel), the parent only loses this one job. A child whose parent dies stops as after SIGTERM.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from hourglass.errors import BrokenOffError, DivergedError, UserError
from hourglass.system.files import read_json, write_json
from hourglass.system.interrupts import STARTED_BY_US, end_at_once, raise_when_stopped
from hourglass.system.project import TRAIN_SCRIPT

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Attributes:
        run: path of the run folder.
        dev: scores of best.ckpt on dev: the main metric by its name, and loss in nats per token.
        parameters: of the model.
        sentences_per_second: speed of translating dev; None unless the ticket asks for it.
        pruned: whether the sweep stopped the training early.
    """

    run: str
    dev: dict[str, float]
    parameters: int
    sentences_per_second: float | None = None
    pruned: bool = False


@dataclass(frozen=True)
class TrialTicket:
    """The trial of an Optuna study that a job evaluates: where to report scores and ask whether to stop.

    Attributes:
        storage: address of the study's database; it may hold a password, so it is never part of a config.
        study: name of the study.
        trial_id: the trial's number in the database.
        objective: the score to report, the main metric or loss; empty with several objectives, which allow no pruning.
        pruner: options of the pruner.
        seed_index: which of the trial's seeds the job trains, from 0.
        first_step: the study's step before the job's first validation; the steps of a trial's seeds follow each other.
        over_seeds: how the scores of several seeds become one.
    """

    storage: str
    study: str
    trial_id: int
    objective: str
    pruner: dict[str, Any]
    seed_index: int = 0
    first_step: int = 0
    over_seeds: str = "mean"


@dataclass(frozen=True)
class Ticket:
    """What the parent process passes to a job beside its settings.

    Attributes:
        answer: the file for the outcome.
        lifeline: a file descriptor that is closed when the parent dies.
        trial: the trial of an Optuna study, if any.
        tags: for the MLflow run.
        measure_speed: whether the outcome needs the speed of translation.
    """

    answer: str
    lifeline: int
    trial: TrialTicket | None = None
    tags: dict[str, str] = field(default_factory=dict)
    measure_speed: bool = False


class JobFailedError(UserError):
    """A job failed."""


class JobDivergedError(JobFailedError, DivergedError):
    """A job's training diverged."""


def run_training(overrides: list[str], output: IO[str] | None = None) -> None:
    """Run src/train.py in a child process.

    Args:
        overrides: its command line.
        output: the file for what it prints; None: the output of this process.

    Raises:
        DivergedError: the training diverged.
        UserError: it failed for another reason.
    """
    try:
        start_job(str(TRAIN_SCRIPT), overrides, output=output)
    except JobFailedError as error:
        kind = DivergedError if isinstance(error, DivergedError) else UserError
        raise kind(f"{error}; the settings: {shlex.join(overrides)}") from None


def start_job(
    script: str,
    overrides: Sequence[str],
    *,
    trial: TrialTicket | None = None,
    tags: Mapping[str, str] | None = None,
    measure_speed: bool = False,
    output: IO[str] | None = None,
    watch: Callable[["subprocess.Popen[bytes]"], None] = lambda _: None,
) -> Outcome:
    """Run a training in a child process, and return its outcome.

    Args:
        script: src/train.py.
        overrides: its command line.
        trial: the trial of an Optuna study that the job evaluates.
        tags: for its MLflow run.
        measure_speed: whether the outcome needs the speed of translation.
        output: the file for what it prints; None: the output of this process.
        watch: called with the child process as soon as it runs.

    Raises:
        JobFailedError: the job failed.
    """
    with tempfile.TemporaryDirectory(prefix="hourglass-") as scratch:
        answer = Path(scratch) / "outcome.json"
        ticket = Ticket(str(answer), 0, trial, dict(tags or {}), measure_speed)
        status = _wait_for_child([script, *overrides], ticket, output, watch)
        content = read_json(answer) if answer.exists() else {}
        if "error" in content or not content:
            kind = JobDivergedError if status == DivergedError.status else JobFailedError
            raise kind(content.get("error") or _describe_exit(status))
        if status:  # Everything is written by then: a crash at exit loses nothing.
            log.warning("%s: %s, after the run was complete", content["run"], _describe_exit(status))
        return Outcome(**content)


def run_stage(script: str, words: Sequence[str], output: IO[str] | None = None) -> None:
    """Run a stage of an ablation in a child process, which ends when this process dies.

    Args:
        script: its path.
        words: its command line.
        output: the file for what it prints; None: the output of this process.

    Raises:
        UserError: it failed.
    """
    status = _wait_for_child([script, *words], Ticket("", 0), output, lambda _: None)
    if status:
        raise UserError(f"{Path(script).name}: {_describe_exit(status).removesuffix(', without an outcome')}")


def _wait_for_child(
    words: Sequence[str], ticket: Ticket, output: IO[str] | None, watch: Callable[["subprocess.Popen[bytes]"], None]
) -> int:
    """Run a script with a ticket whose lifeline is a new pipe, and return its exit status: see `start_job`."""
    # The child reads from one end; the system closes the other when this process dies, for whatever reason.
    read_end, write_end = os.pipe()
    ticket = dataclasses.replace(ticket, lifeline=read_end)
    environment = {**os.environ, STARTED_BY_US: json.dumps(dataclasses.asdict(ticket))}
    try:
        # The parent's flags of Python, such as -W and -X, in the way of the library's own child processes.
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        command = [sys.executable, *flags, *words]
        errors = None if output is None else subprocess.STDOUT
        with subprocess.Popen(command, env=environment, pass_fds=[read_end], stdout=output, stderr=errors) as child:
            os.close(read_end)
            watch(child)
            try:
                return child.wait()
            except BaseException:  # Ctrl-C, which the terminal sends to the child too.
                child.send_signal(signal.SIGTERM)
                child.wait()
                raise
    finally:
        os.close(write_end)


def _describe_exit(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit status {status}" + ("" if status else ", without an outcome")


def read_ticket() -> Ticket | None:
    """Return the ticket of this process, and from now on stop when the parent dies; None without a ticket."""
    text = os.environ.get(STARTED_BY_US)
    if text is None:
        return None
    content = json.loads(text)
    trial = content.pop("trial")
    ticket = Ticket(**content, trial=TrialTicket(**trial) if trial else None)
    threading.Thread(target=_stop_with_parent, args=[ticket.lifeline], daemon=True).start()
    return ticket


def read_stage_ticket() -> None:
    """Do the same in a stage: where `run_stage` has started it, SIGTERM is raised, and so ends what it has started."""
    if read_ticket() is not None:
        end_at_once()
        raise_when_stopped()


def stop_children() -> None:
    """Send SIGTERM to the processes that this one has started: threads that wait for one hear no signal."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()


def _stop_with_parent(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)  # Returns when the other end is closed, as nothing is ever written.
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def answering(ticket: Ticket | None) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that passes the outcome, if there is a ticket, to the parent; pass on a `UserError` as well."""
    try:
        yield lambda outcome: _write_answer(ticket, dataclasses.asdict(outcome))
    except UserError as error:
        _write_answer(ticket, {"error": str(error)})
        raise


def _write_answer(ticket: Ticket | None, content: dict[str, Any]) -> None:
    if ticket is not None:
        with contextlib.suppress(BrokenOffError):  # The parent has gone; the run folder holds the same.
            write_json(Path(ticket.answer), content)
