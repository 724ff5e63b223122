"""How a run is stopped from outside: what it says, and with which exit status it ends."""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hourglass.errors import BrokenOffError, OutOfMemoryError
from hourglass.runs.folder import RunFolder
from hourglass.system.devices import is_main_process
from hourglass.system.memory import short_of_memory

# As shells expect it: 128 + the signal's number.
CTRL_C_STATUS = 130


SIGTERM_STATUS = 143


def on_sigterm(handler: Callable[..., Any] | int | None) -> Callable[..., Any] | int | None:
    """Set what SIGTERM does, and return what it did; only a main thread can set it."""
    if threading.current_thread() is not threading.main_thread():
        return handler
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, handler)
    return before


def _stop(*_: Any) -> None:
    """Hand SIGTERM on to the training that was spawned, whose end ends this process too; end at once without one."""
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    if not children:
        raise SystemExit(SIGTERM_STATUS)


@contextmanager
def resumable(run: RunFolder) -> Iterator[None]:
    """Say how to go on if the run is stopped or broken off, and turn what stopped it into an exit status.

    Lightning turns Ctrl-C into an exit with status 1, and torch has errors of several kinds for want of memory.

    Raises:
        UserError: the run was broken off, or there is not enough memory.
    """
    before = on_sigterm(_stop)
    hint = f"to go on: python src/train.py resume={run.path}"
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        by_ctrl_c = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        if is_main_process():
            print(f"\nstopped; {hint}" if run.config.exists() else "\nstopped", file=sys.stderr, flush=True)
        raise SystemExit(CTRL_C_STATUS if by_ctrl_c else SIGTERM_STATUS) from None
    except BrokenOffError as error:
        raise BrokenOffError(f"{error}; {hint}" if run.config.exists() else str(error)) from None
    except (MemoryError, RuntimeError) as error:
        check_memory(type(error).__name__, str(error))
        raise
    finally:
        on_sigterm(before)


def check_memory(kind: str, message: str) -> None:
    """Say in one line that memory is short, where that is what an error means, and what to do in a training.

    Args:
        kind: the name of its class.
        message: its own.

    Raises:
        OutOfMemoryError: there is not enough memory.
    """
    if short := short_of_memory(kind, message):
        raise OutOfMemoryError(
            f"{short}: set a higher trainer.accumulate, a lower trainer.batch_tokens or search.batch_tokens, or a "
            "smaller model"
        ) from None
