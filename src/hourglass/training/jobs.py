"""Jobs of a sweep: each is src/train.py in a child process of its own, so that none can take another with it.

The parent hands the child a ticket in its environment, and reads from a file how it ended. What kills the child, its
memory, its data or the kernel, costs this one job. A child whose parent dies stops as if it had got a SIGTERM.
"""

import contextlib
import dataclasses
import json
import logging
import os
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

from hourglass.errors import BrokenOffError, UserError
from hourglass.system.files import read_json, write_json
from hourglass.system.project import ROOT


def run_training(overrides: list[str], output: IO[str] | None = None) -> None:
    """Run src/train.py with these overrides, in a process of its own, which stops when this one dies.

    Args:
        overrides: its command line.
        output: gets what it prints; None: that goes where ours does.

    Raises:
        UserError: it failed.
    """
    try:
        start_job(str(ROOT / "src" / "train.py"), overrides, output=output)
    except JobFailedError as error:
        raise UserError(f"{error}; the settings: {' '.join(overrides)}") from None


log = logging.getLogger(__name__)


_TICKET = "HOURGLASS_JOB"


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        run: its folder.
        dev: the scores on dev of the model that was kept: bleu, and loss in nats a token.
        parameters: of the model.
        sentences_per_second: of translating dev, where that was asked for.
        pruned: whether it was stopped as one of the worse.
    """

    run: str
    dev: dict[str, float]
    parameters: int
    sentences_per_second: float | None = None
    pruned: bool = False


@dataclass(frozen=True)
class TrialTicket:
    """What a job has to know of the trial that it is, to report to the study and to ask whether to go on.

    Attributes:
        storage: where the study is; it may hold a password, so it never stands in a config.
        study: its name.
        trial_id: the trial's number in the storage.
        objective: what is reported, bleu or loss; empty where nothing is, with several objectives.
        pruner: options of the pruner.
    """

    storage: str
    study: str
    trial_id: int
    objective: str
    pruner: dict[str, Any]


@dataclass(frozen=True)
class Ticket:
    """What a job is told beside its settings.

    Attributes:
        answer: the file that it writes its outcome to.
        lifeline: a file descriptor that is closed when its parent dies.
        trial: of an Optuna study, if it is one.
        tags: for MLflow.
        measure_speed: whether the outcome is to say how fast dev is translated.
    """

    answer: str
    lifeline: int
    trial: TrialTicket | None = None
    tags: dict[str, str] = field(default_factory=dict)
    measure_speed: bool = False


class JobFailedError(UserError):
    """A job ended badly."""


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
    """Run a training in a child process, and return how it ended.

    Args:
        script: src/train.py.
        overrides: its command line.
        trial: what it is in an Optuna study.
        tags: of its MLflow run.
        measure_speed: whether the outcome is to say how fast dev is translated.
        output: gets what it prints; None: that goes where ours does.
        watch: is handed the child as soon as it runs.

    Raises:
        JobFailedError: it ended badly.
    """
    with tempfile.TemporaryDirectory(prefix="hourglass-") as scratch:
        there, here = os.pipe()  # The child holds one end; the other closes with this process, however it dies.
        answer = Path(scratch) / "outcome.json"
        ticket = Ticket(str(answer), there, trial, dict(tags or {}), measure_speed)
        environment = {**os.environ, _TICKET: json.dumps(dataclasses.asdict(ticket))}
        try:
            command = [sys.executable, script, *overrides]
            errors = None if output is None else subprocess.STDOUT
            with subprocess.Popen(command, env=environment, pass_fds=[there], stdout=output, stderr=errors) as child:
                os.close(there)
                watch(child)
                try:
                    status = child.wait()
                except BaseException:  # Ctrl-C: the terminal has told the child too.
                    child.send_signal(signal.SIGTERM)
                    child.wait()
                    raise
        finally:
            os.close(here)
        said = read_json(answer) if answer.exists() else {}
        if "error" in said or not said:
            raise JobFailedError(said.get("error") or _how_it_ended(status))
        if status:  # All is written by then: a crash on the way out costs nothing.
            log.warning("%s: %s, after all was done", said["run"], _how_it_ended(status))
        return Outcome(**said)


def _how_it_ended(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit status {status}" + ("" if status else ", and did not say how")


def read_ticket() -> Ticket | None:
    """Return this process's ticket, if it is a job of a sweep, and stop from now on when its parent has died."""
    text = os.environ.get(_TICKET)
    if text is None:
        return None
    content = json.loads(text)
    trial = content.pop("trial")
    ticket = Ticket(**content, trial=TrialTicket(**trial) if trial else None)
    threading.Thread(target=_stop_with_parent, args=[ticket.lifeline], daemon=True).start()
    return ticket


def _stop_with_parent(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)  # Nothing is ever written: it returns when the other end is closed.
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def answering(ticket: Ticket | None) -> Iterator[Callable[[Outcome], None]]:
    """Hand out what tells the parent the outcome, and tell it of an error; without a parent, do nothing."""
    try:
        yield lambda outcome: _answer(ticket, dataclasses.asdict(outcome))
    except UserError as error:
        _answer(ticket, {"error": str(error)})
        raise


def _answer(ticket: Ticket | None, content: dict[str, Any]) -> None:
    if ticket is not None:
        with contextlib.suppress(BrokenOffError):  # The parent has gone: the run's own files say the same.
            write_json(Path(ticket.answer), content)
