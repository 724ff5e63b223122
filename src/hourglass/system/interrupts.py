"""The end of a command by Ctrl-C or SIGTERM outside of a training, in its first seconds above all: with one line.

A training has handlers of its own: see training/stopping.py. This module imports nothing that takes long.
"""

import os
import signal
import threading
from typing import Any, NoReturn

# As shells expect it: 128 + the signal's number.
CTRL_C_STATUS = 128 + signal.SIGINT
SIGTERM_STATUS = 128 + signal.SIGTERM
STOPPED = "stopped"
# The environment variable of a process that another one of the project has started (training/jobs.py), which says
# that both are stopped: a terminal sends Ctrl-C to each.
STARTED_BY_US = "HOURGLASS_JOB"


class SigtermExit(SystemExit):
    """SIGTERM ends the command; `one_line_errors` prints the line."""


def end_at_once() -> None:
    """From now on, have Ctrl-C and SIGTERM end this process with one line; for the seconds in which it imports.

    An exception would not do: some libraries catch any while they are imported, and others print its traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # As a shell's background job ignores Ctrl-C.
            signal.signal(number, _end)


def raise_when_stopped() -> None:
    """From now on, have Ctrl-C raise KeyboardInterrupt and SIGTERM `SigtermExit`, if `end_at_once` was called before.

    Without effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _raise)):
        if signal.getsignal(number) is _end:
            signal.signal(number, handler)


def say_stopped() -> None:
    """Print the line, unless the process that has started this one prints it."""
    if STARTED_BY_US not in os.environ:
        os.write(2, f"{STOPPED}\n".encode())  # Python's own streams may be in use where a signal has interrupted.


def _end(number: int, _: Any) -> NoReturn:
    say_stopped()
    os._exit(128 + number)


def _raise(number: int, _: Any) -> NoReturn:
    raise SigtermExit(128 + number)
