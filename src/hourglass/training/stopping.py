"""Stop a training by Ctrl-C or SIGTERM, with a message that says how to resume it, and an exit status."""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hourglass.config.plugins import resume_command
from hourglass.errors import BrokenOffError, MachineLostError, OutOfMemoryError
from hourglass.runs.folder import RunFolder
from hourglass.system.interrupts import CTRL_C_STATUS, SIGTERM_STATUS, STOPPED
from hourglass.system.out_of_memory import memory_shortage
from hourglass.training.hosts import RESUME, Hosts


def on_sigterm(handler: Callable[..., Any] | int | None) -> Callable[..., Any] | int | None:
    """Set the handler of SIGTERM and return the former one; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return handler
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, handler)
    return before


def _stop(*_: Any) -> None:
    """Pass SIGTERM on to spawned training processes, whose end also ends this one; without any, end at once."""
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    if not children:
        raise SystemExit(SIGTERM_STATUS)


@contextmanager
def resumable(run: RunFolder, hosts: Hosts | None = None) -> Iterator[None]:
    """Print how to resume a run that is stopped or fails, and end with the exit status for the reason.

    Lightning turns Ctrl-C into an exit with status 1, and torch has several kinds of errors for lack of memory.

    Args:
        run: the run folder.
        hosts: the processes that train together, where torchrun has started them.

    Raises:
        SystemExit: the run was stopped by Ctrl-C or SIGTERM.
        BrokenOffError: the run can be resumed once the cause is removed.
        MachineLostError: another process has ended, or its machine cannot be reached.
        OutOfMemoryError: memory is short.
    """
    before = on_sigterm(_stop)
    hint = f"{RESUME}: {resume_command(run.path)}"
    if hosts is not None and hosts.place.nodes > 1:
        command = hosts.resume_command(run)
        hint = f"{RESUME}, on each machine with its own --node-rank: {command}"
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        by_ctrl_c = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        if hosts is None or hosts.place.local_rank == 0:
            print(f"\n{STOPPED}{hint if run.config.exists() else ''}", file=sys.stderr, flush=True)
        raise SystemExit(CTRL_C_STATUS if by_ctrl_c else SIGTERM_STATUS) from None
    except BrokenOffError as error:
        raise type(error)(f"{error}{hint}" if run.config.exists() else str(error)) from None
    except (MemoryError, RuntimeError) as error:
        check_memory(type(error).__name__, str(error))
        if hosts is not None and (cause := hosts.explain(error)) is not None:
            raise MachineLostError(f"{cause}{hint}") from None
        raise
    finally:
        on_sigterm(before)


def check_memory(kind: str, message: str) -> None:
    """Raise `OutOfMemoryError`, with a remedy for a training, if an error means that memory is short.

    Args:
        kind: name of the error's class.
        message: of the error.

    Raises:
        OutOfMemoryError: memory is short.
    """
    if shortage := memory_shortage(kind, message):
        raise OutOfMemoryError(
            f"{shortage}: set a higher trainer.accumulate, a lower trainer.batch_tokens or search.batch_tokens, or a "
            "smaller model"
        ) from None
