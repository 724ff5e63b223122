"""Run src/train.py in forks of one process, so that ten interrupted runs pay for its imports only once.

Each line of standard input is a JSON object: the words of the command line; where something happens (a function, by
its dotted name, and at which of its calls) and what (a line of Python); the file that takes what is printed. For each,
a line with the exit status is printed.
"""

import ctypes
import json
import os
import pydoc
import resource  # noqa: F401 (for the injected code)
import runpy
import signal
import sys
from typing import Any

import mlflow.data.meta_dataset  # noqa: F401
import torch  # noqa: F401

import train


def arrange(at: str, count: int, what: str) -> None:
    """Run the injected code before the function's call of this number, and before every later one."""
    owner, _, name = at.rpartition(".")
    place: Any = pydoc.locate(owner)
    real, calls = getattr(place, name), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= count:
            exec(what)
        return real(*arguments, **options)

    setattr(place, name, call)


def read_only(folder: str) -> None:
    """Make a folder read-only, also for root, who otherwise may write everywhere."""
    os.chmod(folder, 0o555)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, rights)
    rights[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE
    libc.capset(header, rights)


def run(words: list[str], out: str, at: str | None = None, count: int = 0, what: str = "") -> None:
    file = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Background jobs of a shell ignore it.
    if at is not None:
        arrange(at, count, what)
    sys.argv = [train.__file__, *words]
    runpy.run_path(train.__file__, run_name="__main__")  # As Hydra finds conf/ by the script.


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(**json.loads(line))
        sys.exit()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
