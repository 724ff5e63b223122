"""The processes that torchrun starts, on one machine or several: they agree before a training, and name what ends it.

They talk through torchrun's store, a server on the first machine, which works before and after the collective
operations of a training.
"""

import json
import logging
import os
import re
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch.distributed

from hourglass.config.differences import changes
from hourglass.config.options import Config
from hourglass.config.plugins import resume_command
from hourglass.errors import MachineLostError, UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.devices import die_with_agent, under_torchrun
from hourglass.system.secrets import first_line

log = logging.getLogger(__name__)

T = TypeVar("T")
# Seconds by which one process may be later than another when they start: torch's own limit.
START = 1800
# Seconds in which processes that end because of another have told so. torchrun kills after 30.
REPORTS = 10
# In the messages of gloo and NCCL about a connection, which mostly are plain errors of Python.
CONNECTION = re.compile(r"gloo|NCCL|pair closure")
# What stands in an error's message before the command that resumes the run.
RESUME = "; to resume"
# Seconds in which a file of one machine can be seen on another that has the same disk.
SAME_DISK = 10


@dataclass(frozen=True, kw_only=True)
class Place:
    """This process among those that torchrun has started.

    Attributes:
        rank: of the process, from 0.
        size: number of processes.
        local_rank: of the process on its machine.
        local_size: number of processes on each machine.
        node: of the machine, from 0.
        nodes: number of machines.
        address: of torchrun's store, which the first machine has: its host and port.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    node: int
    nodes: int
    address: tuple[str, int]

    @classmethod
    def of_torchrun(cls) -> "Place":
        """Read it from the environment."""
        return cls(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
            node=int(os.environ["GROUP_RANK"]),
            nodes=int(os.environ["GROUP_WORLD_SIZE"]),
            address=(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])),
        )


class Hosts:
    """The other processes, as one of them sees them.

    Args:
        place: this process.
    """

    def __init__(self, place: Place):
        self.place = place
        self._names: list[str] = []
        self._ended = False
        self._patience = START  # trainer.timeout, once the training is known.
        host, port = place.address
        store = torch.distributed.TCPStore(host, port, None, is_master=False, timeout=timedelta(seconds=START))
        # The store outlives processes that torchrun starts again.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = torch.distributed.PrefixStore(f"hourglass/{attempt}", store)

    def meet(self, run: RunFolder, config: Config, code: str) -> None:
        """Wait for the others, and check that all have the same settings, code and run folder.

        Args:
            run: the run folder, which exists on the first machine.
            config: all settings.
            code: digest of the code.

        Raises:
            MachineLostError: another process has ended or does not answer.
            UserError: the processes differ.
        """
        place = self.place
        if place.nodes > 1:
            self._patience = config["trainer"]["timeout"]
        self._names = self._exchange("name", socket.gethostname())
        if place.nodes > 1:
            self._choose_interface()
        mark = run.path / f".meeting-{secrets.token_hex(4)}"
        if place.rank == 0:
            mark.touch()
        try:
            seen = _appears(run.path / self._exchange("mark", mark.name)[0])
            own = {"seen": seen, "folder": str(run.path.absolute()), "config": config, "code": code}
            reports = self._exchange("settings", own)
        finally:
            mark.unlink(missing_ok=True)
        for rank, report in enumerate(reports):
            if difference := _difference(reports[0], report):
                self._leave_together()
                raise MachineLostError(f"{self._label([rank])} {difference}")

    def compare(self, digests: dict[str, str]) -> None:
        """Check that all processes have the same data, once all have prepared theirs.

        Raises:
            MachineLostError: another process has ended or does not answer.
            UserError: the data differ.
        """
        before, self._patience = self._patience, START
        reports = self._exchange("data", digests)
        self._patience = before
        for rank, report in enumerate(reports):
            if different := [name for name in digests if report[name] != reports[0][name]]:
                self._leave_together()
                raise MachineLostError(
                    f"{self._label([rank])} has another {' and '.join(different)} than {self._label([0])}: "
                    "copy its files, or share data and cache=FOLDER on one disk"
                )

    def explain(self, error: Exception) -> str | None:
        """Return what has ended the training, if an error means that the connection to another process is lost.

        Takes up to about ten seconds.
        """
        message = str(error)
        if not isinstance(error, torch.distributed.DistError) and not CONNECTION.search(message):
            return None
        others = [rank for rank in range(self.place.size) if rank != self.place.rank]
        silence, self._patience = self._patience, REPORTS
        try:
            self.end("")
            deadline = time.monotonic() + REPORTS
            while time.monotonic() < deadline:
                waiting = [rank for rank in others if not self._has(f"ended/{rank}")]
                for rank in set(others) - set(waiting):
                    if reason := self._get(f"ended/{rank}"):
                        return f"{self._label([rank])} has ended ({reason})"
                others = waiting or others
                if not waiting:
                    return f"the connection between the processes broke ({first_line(error)})"
                time.sleep(0.1)
        except (torch.distributed.DistError, TimeoutError):
            at_store = range(self.place.local_size)
            gone = [rank for rank in others if (rank in at_store) == (self.place.node > 0)]
            return f"{self._label(gone or others)} cannot be reached: ended, or the network is down"
        silent = re.search("timed out|timeout", message, re.IGNORECASE)
        how = f"not answered for {silence:g} s (trainer.timeout)" if silent else "ended"
        return f"{self._label(others)} {'has' if len(others) == 1 else 'have'} {how}"

    def end(self, reason: str) -> None:
        """Tell the others why this process ends; an empty reason: because of another."""
        if not self._ended:
            self._ended = True
            with suppress(torch.distributed.DistError, TimeoutError):
                self._ask(lambda: self._store.set(f"ended/{self.place.rank}", reason), REPORTS)

    def resume_command(self, run: RunFolder) -> str:
        """Return the command that resumes the training from this machine, for a message."""
        place = self.place
        script, *options = shlex.split(resume_command(run.path))[1:]
        launch = ["torchrun", f"--nnodes={place.nodes}", f"--nproc-per-node={place.local_size}"]
        host, port = place.address
        launch += [f"--node-rank={place.node}", f"--master-addr={host}", f"--master-port={port}"]
        return shlex.join([*launch, script, *options])

    def _exchange(self, topic: str, value: Any) -> list[Any]:
        """Return the values that all processes pass, in the order of their ranks."""
        self._ask(lambda: self._store.set(f"{topic}/{self.place.rank}", json.dumps(value)), self._patience)
        return [json.loads(self._wait_for(topic, rank)) for rank in range(self.place.size)]

    def _wait_for(self, topic: str, rank: int) -> str:
        deadline = time.monotonic() + self._patience
        try:
            while not self._has(f"{topic}/{rank}"):
                if self._has(f"ended/{rank}"):
                    reason = self._get(f"ended/{rank}")
                    raise MachineLostError(f"{self._label([rank])} has ended" + (f" ({reason})" if reason else ""))
                if time.monotonic() > deadline:
                    raise MachineLostError(f"{self._label([rank])} has not answered for {self._patience:g} s")
                time.sleep(0.05)
            return self._get(f"{topic}/{rank}")
        except (torch.distributed.DistError, TimeoutError):
            raise MachineLostError(f"{self._label([0])} cannot be reached: ended, or the network is down") from None

    def _has(self, key: str) -> bool:
        return bool(self._ask(lambda: self._store.check([key]), self._patience))

    def _get(self, key: str) -> str:
        return self._ask(lambda: self._store.get(key), self._patience).decode()

    def _ask(self, question: Callable[[], T], limit: float) -> T:
        """Ask the store in a thread: where the network is down, an answer that does not come blocks for ever.

        Raises:
            TimeoutError: no answer came.
        """
        answers: list[T] = []
        errors: list[Exception] = []

        def ask() -> None:
            try:
                answers.append(question())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(limit)
        if errors:
            raise errors[0]
        if not answers:
            raise TimeoutError
        return answers[0]

    def _label(self, ranks: Sequence[int]) -> str:
        """Return the name of processes and their machines: processes 2 and 3 of 4 on host-b."""
        machines: dict[int, list[int]] = {}
        for rank in ranks:
            machines.setdefault(rank // self.place.local_size, []).append(rank)
        texts = []
        for node, members in machines.items():
            numbers = " and ".join(map(str, members)) if len(members) < 3 else f"{members[0]} to {members[-1]}"
            host = self._names[members[0]] if self._names else f"machine {node}"
            texts.append(f"process{'es' if len(members) > 1 else ''} {numbers} of {self.place.size} on {host}")
        return ", ".join(texts)

    def _leave_together(self) -> None:
        """Wait until all have read what ends them: the store ends with the first process of its machine."""
        with suppress(MachineLostError):
            self._exchange("left", True)

    def _choose_interface(self) -> None:
        """Have gloo use the network interface by which the machines reach each other.

        By itself it takes the address of the machine's name, which is often 127.0.1.1, that of this machine alone.
        """
        place = self.place
        if place.node > 0:
            address = _own_address(*place.address)
        else:  # The name of the first machine may be that of its loopback interface, on this machine only.
            address = _own_address(json.loads(self._wait_for("address", place.local_size)), place.address[1])
        self._exchange("address", address)
        if "GLOO_SOCKET_IFNAME" not in os.environ and (interface := _interface_of(address)):
            os.environ["GLOO_SOCKET_IFNAME"] = interface


@contextmanager
def hosts_of_torchrun() -> Iterator[Hosts | None]:
    """Yield the processes that torchrun has started, None without it; tell them why this process ends.

    An error that all processes have is raised once on each machine, by its first process.
    """
    if not under_torchrun():
        yield None
        return
    die_with_agent()
    hosts = Hosts(Place.of_torchrun())
    try:
        yield hosts
    except UserError as error:
        hosts.end("" if isinstance(error, MachineLostError) else str(error).partition(RESUME)[0])
        _write_error(str(error))
        if isinstance(error, MachineLostError) and hosts.place.local_rank > 0:
            raise SystemExit(error.status) from None
        raise
    except BaseException as error:
        hosts.end("stopped" if isinstance(error, SystemExit | KeyboardInterrupt) else first_line(error))
        raise


def refuse_sweep() -> None:
    """Refuse a sweep under torchrun, each of whose processes would run all of its jobs.

    Raises:
        UserError: torchrun has started this process.
    """
    if under_torchrun():
        raise UserError(
            "-m under torchrun: each process would run the whole sweep: leave torchrun out (trainer=ddp starts the "
            "processes of one machine), or start torchrun once for each choice"
        )


def _write_error(line: str) -> None:
    """Write an error where torchrun reads it for its own report of what has failed."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        detail = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": detail}}), encoding="utf-8")


def _difference(first: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Return how the report of a process differs from the first process's, if it does."""
    if not other["seen"]:
        return (
            f"does not see the run folder of process 0 ({first['folder']}) at {other['folder']}: set run_dir=PATH to a "
            "folder on a disk that all machines share"
        )
    if names := changes(first["config"], other["config"]):
        return f"has other settings than process 0 ({', '.join(names)}): start all by the same command"
    if first["code"] != other["code"]:
        return "has other code of Hourglass than process 0: install the same version on all machines"
    return None


def _appears(path: Path) -> bool:
    """Return whether a file that exists on one machine can be seen on this one, which may take seconds on NFS."""
    deadline = time.monotonic() + SAME_DISK
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _own_address(host: str, port: int) -> str:
    """Return the address of this machine on the way to another."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as way:
        way.connect(address)  # Sends nothing.
        return str(way.getsockname()[0])


def _interface_of(address: str) -> str | None:
    """Return the name of the network interface that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in addresses):
            return str(name)
    return None
