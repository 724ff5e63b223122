"""Run the project's scripts in forks of one process, so that a hundred commands pay for the imports only once.

`python tests/forks.py FOLDER` imports the libraries, writes FOLDER/python and FOLDER/ready, and serves until its
standard input ends. FOLDER/fork-of-N has the process number of the fork of client N.
FOLDER/python takes the place of the interpreter: `FOLDER/python src/train.py seed=2` has the working directory,
environment, open files, signals, network, host name and exit status of a process of its own, but the script runs in a
fork of the server. That is no child of FOLDER/python, and does not know when that process's own parent ends.
A script that starts `sys.executable`, as a sweep does for each job, starts FOLDER/python too. Anything but a script,
such as -c or -m, gets the real interpreter.
"""

import atexit
import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import pydoc
import resource  # noqa: F401 (for the injected code)
import runpy
import selectors
import shutil
import signal
import socket
import struct
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = [path for path in sys.path[1:] if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
sys.path[0] = str(ROOT / "src")

from hourglass.system.memory import importing_libraries  # noqa: E402

# What scripts import, so that forks find it imported; torch also serves injected code.
LIBRARIES = (
    "alembic.command",
    "datasets",
    "git",
    "mlflow.data.meta_dataset",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna.storages._rdb.storage",
    "pytorch_lightning",
    "hourglass.reports.plots",
    "hourglass.sweeps.sweeper",
    "hourglass.training.run",
    "train",
    "translate",
)
with importing_libraries():  # Forks then do not collect, and so do not copy, the pages of these libraries.
    import torch  # noqa: F401

    for library in LIBRARIES:
        importlib.import_module(library)

# The environment variable of an event to inject, as JSON: the arguments of `arrange`.
EVENT = "HOURGLASS_TEST_EVENT"
# File descriptors of a fork, while they are given the numbers that the client has.
SPARE = 400

CLIENT = r"""#!{real} -IS
import json, os, signal, socket, sys

REAL, ADDRESS = {real!r}, {address!r}
words = sys.argv[1:]
while words[:1] in (["-B"], ["-u"]):
    words = words[1:]
if not words or words[0].startswith("-"):
    os.execv(REAL, [REAL, *sys.argv[1:]])
numbers = [number for number in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{{number}}")]
server = socket.socket(socket.AF_UNIX)
server.connect(ADDRESS)
request = {{"words": words, "folder": os.getcwd(), "environment": dict(os.environ), "numbers": numbers}}
request["unbuffered"] = "-u" in sys.argv[1 : len(sys.argv) - len(words)]
content = json.dumps(request).encode()
socket.send_fds(server, [len(content).to_bytes(8, "big")], numbers)
server.sendall(content)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
status = int(server.makefile().readline() or 255)
if status < 0:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


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


def forget_package() -> None:
    """Forget the modules of this project, for a script of another copy of it, which has its own."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("hourglass", "train", "translate"):
            del sys.modules[name]


def enter_namespaces(pid: int) -> None:
    """Enter the network and the host name of a process, where they are others (`ip netns exec`, `unshare --uts`)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("net", "uts"):
        theirs = f"/proc/{pid}/ns/{name}"
        if os.readlink(theirs) != os.readlink(f"/proc/self/ns/{name}"):
            with open(theirs) as opened:
                if libc.setns(opened.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns", theirs)


def run(
    *, words: list[str], folder: str, environment: dict[str, str], unbuffered: bool, client: str, client_pid: int
) -> None:
    """Run a script, in a fork, as the interpreter runs it."""
    enter_namespaces(client_pid)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    event = os.environ.pop(EVENT, None)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(write_through=unbuffered)
    sys.stdin = os.fdopen(0, closefd=False)  # The buffer of the old object belongs to the parent.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Background jobs of a shell ignore it.
    sys.executable = client
    script = Path(folder, words[0])
    sys.argv = list(words)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(script.parent.resolve()), *(str(Path(folder, path)) for path in paths), *INSTALLED]
    if ROOT in script.resolve().parents:
        sys.path.insert(1, str(ROOT / "src"))
    elif any((script.parent / name).exists() for name in ("hourglass", "../src", "../../src")):
        forget_package()
    if event:
        arrange(**json.loads(event))
    runpy.run_path(words[0], run_name="__main__")  # As Hydra finds conf/ by the script.


def exit_status(**request: Any) -> int:
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


def take_over(files: list[int], numbers: list[int]) -> None:
    """Close all open files but those of the client, and give these the numbers that they have there."""
    spare = [fcntl.fcntl(file, fcntl.F_DUPFD, SPARE) for file in files]
    os.closerange(3, SPARE)
    for file, number in zip(spare, numbers, strict=True):
        os.dup2(file, number)
    os.closerange(SPARE, max(spare) + 1)


class Server:
    """Accepts clients, and starts a fork for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.client = folder, folder / "python"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen(100)
        self.client.write_text(CLIENT.format(real=sys.executable, address=str(folder / "socket")))
        self.client.chmod(0o755)
        # It has no file descriptor of its own, unlike epoll's.
        self.waiting = selectors.PollSelector()
        self.waiting.register(0, selectors.EVENT_READ)
        self.waiting.register(self.listener, selectors.EVENT_READ)
        self.forks: dict[int, tuple[int, socket.socket]] = {}  # by the file descriptor of the fork and of its client

    def serve(self) -> None:
        """Serve until the standard input ends; then kill what is left."""
        while True:
            for ready, _ in self.waiting.select():
                if ready.fd == 0:
                    for pid, _ in self.forks.values():
                        os.kill(pid, signal.SIGKILL)
                    return
                if ready.fd == self.listener.fileno():
                    self.start()
                elif ready.fd in self.forks:
                    self.end(ready.fd)
                elif isinstance(ready.data, int):
                    self.pass_signals(ready.fileobj, ready.data)

    def start(self) -> None:
        """Start the fork that a client asks for."""
        client, _ = self.listener.accept()
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        client_pid, _, _ = struct.unpack("3i", credentials)
        size, files, _, _ = socket.recv_fds(client, 8, 250)
        content = b""
        while len(content) < int.from_bytes(size, "big"):
            content += client.recv(2**20)
        request = json.loads(content)
        numbers = request.pop("numbers")
        pid = os.fork()
        if pid == 0:
            for other in (self.listener, client, *(client for _, client in self.forks.values())):
                other.detach()  # Else they would close the fork's own files of the same numbers.
            take_over(files, numbers)
            status = exit_status(**request, client=str(self.client), client_pid=client_pid)
            # What an interpreter does at its end, but for taking a thousand modules apart, which takes seconds.
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BrokenPipeError):
                    stream.flush()
            os._exit(status)
        (self.folder / f"fork-of-{client_pid}").write_text(str(pid))
        for file in files:
            os.close(file)
        watched = os.pidfd_open(pid)
        self.forks[watched] = pid, client
        self.waiting.register(watched, selectors.EVENT_READ)
        self.waiting.register(client, selectors.EVENT_READ, watched)

    def end(self, watched: int) -> None:
        """Tell a client the exit status of its fork, which has ended."""
        pid, client = self.forks.pop(watched)
        _, status = os.waitpid(pid, 0)
        self.waiting.unregister(watched)
        os.close(watched)
        with contextlib.suppress(KeyError):
            self.waiting.unregister(client)
        with contextlib.suppress(OSError):  # A client that was killed.
            client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        client.close()

    def pass_signals(self, client: Any, watched: int) -> None:
        """Send a fork the signals that its client got, or SIGKILL if the client was killed."""
        if watched not in self.forks:
            return
        try:
            numbers = client.recv(100)
        except OSError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            os.kill(self.forks[watched][0], number)
        if not numbers:
            self.waiting.unregister(client)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    server = Server(folder)
    (folder / "ready").touch()
    server.serve()
    shutil.rmtree(folder, ignore_errors=True)
