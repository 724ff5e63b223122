"""Run the project's scripts in forks of one process, so that a hundred commands pay for the imports only once.

Each line of standard input is a JSON object, the arguments of `run`: the script; the words of its command line; its
working directory; the files of its three streams; where something happens (a function, by its dotted name, and at
which of its calls) and what (a line of Python). For each, a line with the exit status is printed.
"""

import atexit
import ctypes
import json
import os
import pydoc
import resource  # noqa: F401 (for the injected code)
import runpy
import signal
import sys
import threading
import traceback
from typing import Any

from hourglass.system.memory import importing_libraries

with importing_libraries():  # Forks then do not collect, and so do not copy, the pages of these libraries.
    import datasets  # noqa: F401
    import mlflow.data.meta_dataset  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import torch  # noqa: F401 (for the injected code)

    import train  # noqa: F401
    import translate  # noqa: F401


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


def run(script: str, words: list[str], folder: str, streams: list[str], event: dict[str, Any]) -> None:
    os.chdir(folder)
    for number, file in enumerate(streams):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY), number)
    sys.stdin = os.fdopen(0, closefd=False)  # The buffer of the old object belongs to the parent.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Background jobs of a shell ignore it.
    sys.argv = [script, *words]
    sys.path.insert(0, os.path.dirname(script))  # As for every script.
    if event:
        arrange(**event)
    runpy.run_path(script, run_name="__main__")  # As Hydra finds conf/ by the script.


def exit_status(request: dict[str, Any]) -> int:
    """Run a script, and return its exit status, as the interpreter would."""
    try:
        run(**request)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = exit_status(json.loads(line))
        # What an interpreter does at its end, but for taking a thousand modules apart, which takes seconds.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
