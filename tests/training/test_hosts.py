"""Trainings that torchrun starts on two hosts: two network namespaces, joined by a virtual cable."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from helpers import ROOT, SMALL, command, compose_config, curves, quick_python, weights

from hourglass.errors import BrokenOffError, MachineLostError, UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.commands import path_override
from hourglass.training.hosts import Hosts, Place, hosts_of_torchrun, refuse_sweep
from hourglass.training.resuming import load_progress
from hourglass.training.settings import check_settings

NAMES = ("host-a", "host-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
RESUME = "; to resume, on each machine with its own --node-rank: "
# Seconds in which the processes of both hosts have ended, beside trainer.timeout: as docs/stopping.md says.
ENDS_IN = 30
# The longest that anything here may take.
LIMIT = 240
# Without dropout, whose masks depend on the number of processes, and long enough to be interrupted twice.
LONG = (*SMALL, "encoder.dropout=0", "decoder.dropout=0", "trainer.target_tokens=30000", "trainer.timeout=8")


# ---- Hosts of network namespaces -------------------------------------------------------------------------------------


class Host:
    """A network namespace with a host name of its own, which runs one torchrun at a time."""

    def __init__(self, node: int, folder: Path):
        self.node, self.folder = node, folder
        self.namespace = f"hourglass-{os.getpid()}-{node}"
        self._launches = 0
        self.python = sys.executable
        self.process: subprocess.Popen[bytes] | None = None

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self.namespace, *words], check=True, capture_output=True, text=True)

    def enter(self, *words: str) -> list[str]:
        name = ["unshare", "--uts", "sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"', NAMES[self.node]]
        return ["ip", "netns", "exec", self.namespace, *name, *words]

    def start(self, *words: str, cwd: Path) -> None:
        """Start a script in the background, in its own session."""
        self._launches += 1
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                self.enter(self.python, *words),
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def _output(self) -> Path:
        return self.folder / f"{NAMES[self.node]}-{self._launches}.log"

    @property
    def message(self) -> str:
        """Everything that the latest command has printed."""
        return self._output.read_text()

    def error(self) -> str:
        """Return the line that ends a training, which is printed once."""
        (line,) = [line for line in self.message.splitlines() if line.startswith("error: ")]
        return line

    def pids(self) -> list[int]:
        """Return the processes on this host."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], check=True, capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def kill(self) -> None:
        """Kill all its processes."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def worker(self) -> int:
        """Return the last of the training processes, all of which run the script directly."""
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in self.pids()}
        return max(pid for pid, line in lines.items() if line[1:2] == ["-u"])

    def wait(self, limit: float) -> int:
        """Return the exit status, once no process of the host is left."""
        process = self.process
        assert process is not None
        wait_until(lambda: process.poll() is not None and not self.pids(), limit, self)
        return process.returncode


class Cable:
    """Two hosts, joined by a virtual cable."""

    def __init__(self, folder: Path):
        self.hosts = [Host(node, folder) for node in range(2)]

    def plug(self) -> None:
        first, second = self.hosts
        for host in self.hosts:
            subprocess.run(["ip", "netns", "add", host.namespace], check=True, capture_output=True, text=True)
        first.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second.namespace)
        for host, address in zip(self.hosts, ADDRESSES, strict=True):
            host.ip("link", "set", "lo", "up")
            host.ip("addr", "add", f"{address}/24", "dev", "cable")
            host.ip("link", "set", "cable", "up")
            subprocess.run(host.enter("true"), check=True, capture_output=True, text=True)

    def cut(self) -> None:
        self.hosts[0].ip("link", "set", "cable", "down")

    def mend(self) -> None:
        self.hosts[0].ip("link", "set", "cable", "up")

    def unplug(self) -> None:
        for host in self.hosts:
            if Path("/run/netns", host.namespace).exists():
                host.kill()
                subprocess.run(["ip", "netns", "del", host.namespace], check=False)


def wait_until(condition: Callable[[], bool], limit: float, *hosts: Host) -> None:
    """Wait for a condition; after `limit` seconds, fail with all that the hosts have printed."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"still waiting after {limit} s:\n" + "\n\n".join(host.message for host in hosts))
        time.sleep(0.02)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    """Return two hosts without processes; skip the test where they cannot be made."""
    if missing := [name for name in ("ip", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"two hosts: no {missing[0]} here: apt-get install iproute2 util-linux")
    made = Cable(tmp_path)
    try:
        made.plug()
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"two hosts: network namespaces need root and CAP_SYS_ADMIN ({error.stderr.strip()})")
    finally:
        made.unplug()


def documented(node: int, run: Path | str) -> list[str]:
    """Return the command of docs/stopping.md for one of the machines, with one process each."""
    page = (ROOT / "docs" / "stopping.md").read_text()
    (line,) = re.findall(r"^torchrun --nnodes=.*$", page, re.MULTILINE)
    line = line.replace("--node-rank=0", f"--node-rank={node}").replace("HOST", ADDRESSES[0])
    line = line.replace("--nproc-per-node=4", "--nproc-per-node=1").replace("trainer.devices=4", "trainer.devices=1")
    words = shlex.split(line)
    assert words[-1] == "run_dir=PATH"
    return [*here(words[:-1]), f"run_dir={run}"]


def here(words: list[str]) -> list[str]:
    """Return a command with the torchrun of this Python and the script of this project."""
    assert words[0] == "torchrun"
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    return [
        torchrun,
        *(str(ROOT / "src" / "train.py") if word.endswith("src/train.py") else word for word in words[1:]),
    ]


def start_pair(cable: Cable, run: RunFolder, *words: str, cache: Path) -> None:
    for host in cable.hosts:
        host.start(
            *documented(host.node, run.path), *words, "trainer.accelerator=cpu", f"cache={cache}", cwd=host.folder
        )


def resume_pair(cable: Cable, run: RunFolder) -> None:
    """Start on both hosts what each printed; where one printed nothing, what the other printed, by its node rank."""
    commands = {}
    for host in cable.hosts:
        if result := re.search(rf"{RESUME}(torchrun .*)", host.message):
            assert f"--node-rank={host.node} " in result[1]
            commands[host.node] = result[1]
    for host in cable.hosts:
        other = 1 - host.node
        line = commands.get(host.node) or commands[other].replace(f"--node-rank={other}", f"--node-rank={host.node}")
        words = shlex.split(line)
        assert words[-1] == path_override("resume", run.path)
        host.start(*here(words), cwd=host.folder)


def progressed(run: RunFolder) -> Callable[[], bool]:
    """Return a function that returns whether a checkpoint has been written since now."""
    before = run.last.stat().st_mtime_ns if run.last.exists() else 0
    return lambda: run.last.exists() and run.last.stat().st_mtime_ns > before


def assert_trained_as(alone: RunFolder, pair: RunFolder) -> None:
    own, theirs = weights(alone.last), weights(pair.last)
    assert own.keys() == theirs.keys()
    for name, weight in own.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    assert curves(alone, "dev/loss") == pytest.approx(curves(pair, "dev/loss"), rel=1e-3, abs=1e-2)
    assert load_progress(alone.last).target_tokens == load_progress(pair.last).target_tokens


def train_alone(folder: Path, cache: Path, *words: str) -> RunFolder:
    run = RunFolder(folder / "alone")
    done = subprocess.run(
        command(*words, f"cache={cache}", f"run_dir={run.path}"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.more
@pytest.mark.slow
def test_two_hosts_lose_each_other_twice_and_train_as_one(cable: Cable, tmp_path: Path, session_cache: Path) -> None:
    """By the documented command: one host is killed, then one cut off, and each time both end and are resumed."""
    first, second = cable.hosts
    run = RunFolder(tmp_path / "shared folder" / "run")
    start_pair(cable, run, *LONG, cache=session_cache)
    wait_until(progressed(run), LIMIT, first, second)
    second.kill()
    assert second.wait(ENDS_IN) == -signal.SIGKILL
    assert first.wait(ENDS_IN) == 1
    assert first.error().startswith(f"error: process 1 of 2 on host-b has ended{RESUME}")
    # torchrun's own report ends with the same line.
    assert f"traceback : {first.error().removeprefix('error: ')}" in first.message

    # In forks, from here on: eight processes that import nothing, after four with interpreters of their own.
    for host in cable.hosts:
        host.python = quick_python()
    resume_pair(cable, run)
    wait_until(progressed(run), LIMIT, first, second)
    assert "continuing at step " in first.message
    cable.cut()
    assert [host.wait(8 + ENDS_IN) for host in cable.hosts] == [1, 1]
    lines = [host.error() for host in cable.hosts]
    assert lines[0].startswith(f"error: process 1 of 2 on host-b has not answered for 8 s (trainer.timeout){RESUME}")
    assert lines[1].startswith(
        f"error: process 0 of 2 on host-a cannot be reached: ended, or the network is down{RESUME}"
    )
    assert all(host.message.count("Traceback") == 1 for host in cable.hosts)  # torchrun's own.

    cable.mend()
    resume_pair(cable, run)
    assert [host.wait(LIMIT) for host in cable.hosts] == [0, 0]
    assert first.message.splitlines()[-1] == f"run: {run.path}"
    assert_trained_as(train_alone(tmp_path, session_cache, *LONG), run)


@pytest.mark.more
@pytest.mark.slow
def test_hosts_that_differ_are_refused_before_any_long_work(cable: Cable, tmp_path: Path, session_cache: Path) -> None:
    """A folder that they do not share, other settings, another number of processes, a folder that holds a run."""
    for host in cable.hosts:
        (tmp_path / NAMES[host.node]).mkdir()
    common = (*SMALL, "trainer.accelerator=cpu", f"cache={session_cache}", "trainer.timeout=60")
    for host in cable.hosts:
        host.start(*documented(host.node, "run"), *common, cwd=tmp_path / NAMES[host.node])
    assert [host.wait(LIMIT) for host in cable.hosts] == [1, 1]
    for host in cable.hosts:
        assert host.error() == (
            f"error: process 1 of 2 on host-b does not see the run folder of process 0 ({tmp_path}/host-a/run) at "
            f"{tmp_path}/host-b/run: set run_dir=PATH to a folder on a disk that all machines share"
        )
    assert not (tmp_path / "host-a" / "run").exists()

    run = tmp_path / "run"
    for host in cable.hosts:
        own = [f"optimizer.learning_rate=0.00{host.node + 1}"]
        host.start(*documented(host.node, run), *common, *own, cwd=tmp_path)
    assert [host.wait(LIMIT) for host in cable.hosts] == [1, 1]
    for host in cable.hosts:
        assert host.error() == (
            "error: process 1 of 2 on host-b has other settings than process 0 (optimizer.learning_rate): start all "
            "by the same command"
        )

    # An error of one host ends the other, at once and with the reason.
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text("{}")
    for host in cable.hosts:
        host.start(*documented(host.node, run), *common, cwd=tmp_path)
    assert [host.wait(LIMIT) for host in cable.hosts] == [1, 1]
    assert cable.hosts[0].error().startswith(f"error: run_dir={run}: holds a run already")
    assert re.match("error: process 0 of 2 on (host-a|machine 0) (has ended|cannot be reached)", cable.hosts[1].error())


@pytest.mark.slow
@pytest.mark.parametrize(
    "event",
    [
        "first host killed",
        *(
            pytest.param(name, marks=pytest.mark.more)
            for name in ("one process of four killed", "torchrun killed", "SIGTERM", "a cable out for 4 s")
        ),
    ],
)
def test_what_else_happens_to_two_hosts(cable: Cable, tmp_path: Path, session_cache: Path, event: str) -> None:
    first, second = cable.hosts
    run = RunFolder(tmp_path / "run")
    more = ["trainer.timeout=20"]
    if event == "one process of four killed":
        more += ["trainer.devices=2"]
    for host in cable.hosts:
        words = [*documented(host.node, run.path), *LONG, *more, "trainer.accelerator=cpu", f"cache={session_cache}"]
        if "trainer.devices=2" in more:
            words = [word.replace("--nproc-per-node=1", "--nproc-per-node=2") for word in words]
            words.remove("trainer.devices=1")
        host.start(*words, cwd=tmp_path)
    wait_until(progressed(run), LIMIT, first, second)
    if event == "first host killed":
        first.kill()
        assert second.wait(ENDS_IN) == 1
        assert second.error().startswith("error: process 0 of 2 on host-a cannot be reached: ended, or the ")
    elif event == "one process of four killed":
        os.kill(second.worker(), signal.SIGKILL)
        assert [host.wait(ENDS_IN) for host in cable.hosts] == [1, 1]
        assert re.match(rf"error: process [23] of 4 on host-b has ended{RESUME}", first.error())
    elif event == "torchrun killed":
        assert second.process is not None
        second.process.kill()
        assert [host.wait(ENDS_IN) for host in cable.hosts] == [1, -signal.SIGKILL]
        assert first.error().startswith(f"error: process 1 of 2 on host-b has ended{RESUME}")
    elif event == "SIGTERM":
        assert second.process is not None
        second.process.terminate()
        assert [host.wait(ENDS_IN) for host in cable.hosts] == [1, 1]
        for host in cable.hosts:
            assert host.message.count(f"\nstopped{RESUME}torchrun ") == 1
        assert load_progress(run.last).step == max(curves(run, "train/loss")) + 1
    else:
        cable.cut()
        time.sleep(4)
        cable.mend()
    if event != "a cable out for 4 s":
        for host in cable.hosts:
            host.python = quick_python()  # In forks, from here on: processes that import nothing.
        resume_pair(cable, run)
    assert [host.wait(LIMIT) for host in cable.hosts] == [0, 0]
    assert_trained_as(train_alone(tmp_path, session_cache, *LONG), run)


@pytest.mark.more
@pytest.mark.slow
def test_a_failure_under_torchrun_has_a_failures_status(tmp_path: Path, session_cache: Path) -> None:
    """Also one after the processes have joined; a single torchrun on this machine starts both."""
    for words, line in (
        (["trainer.devices=2", "optimizer.learning_rate=1e30", "optimizer.clip_norm=0"], "the run has diverged"),
        (["trainer.devices=1"], "trainer.devices=1 and trainer.nodes=1: torchrun has started 2 processes"),
    ):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
                *(str(ROOT / "src" / "train.py"), *SMALL, "trainer=ddp", "trainer.accelerator=cpu", *words),
                *(f"cache={session_cache}", f"run_dir={tmp_path / 'run'}"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == 1, done.stderr
        assert re.search(f"^error: .*{line}", done.stderr, re.MULTILINE)
        assert line in done.stderr.rpartition("traceback : ")[2]


# ---- What the processes tell each other, in threads of one process ---------------------------------------------------


@pytest.fixture
def store() -> torch.distributed.TCPStore:
    """Return the store that torchrun would have on the first machine."""
    return torch.distributed.TCPStore("127.0.0.1", 0, None, is_master=True, timeout=timedelta(seconds=20))


def process(store: torch.distributed.TCPStore, rank: int, size: int = 2, local_size: int = 1) -> Hosts:
    """Return one of the processes of several machines."""
    node, local_rank = divmod(rank, local_size)
    place = Place(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        node=node,
        nodes=size // local_size,
        address=("127.0.0.1", store.port),
    )
    return Hosts(place)


def processes(store: torch.distributed.TCPStore, size: int = 2, local_size: int = 1) -> list[Hosts]:
    return [process(store, rank, size, local_size) for rank in range(size)]


def at_once(*calls: Callable[[], None]) -> list[str]:
    """Call each in a thread, and return the messages of their errors, empty without one."""
    messages = [""] * len(calls)

    def run(number: int) -> None:
        try:
            calls[number]()
        except MachineLostError as error:
            messages[number] = str(error)

    threads = [threading.Thread(target=run, args=[number], daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return messages


def meet(hosts: list[Hosts], folders: list[Path], changed: dict[str, Any] | None = None, code: str = "1") -> list[str]:
    """Have processes meet, the last one with changed settings or another code."""
    config = {"seed": 1, "trainer": {"timeout": 10}}
    configs = [config] * (len(hosts) - 1) + [config | (changed or {})]
    codes = ["1"] * (len(hosts) - 1) + [code]
    calls = zip(hosts, folders, configs, codes, strict=True)
    return at_once(*(lambda c=call: c[0].meet(RunFolder(c[1]), c[2], c[3]) for call in calls))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hourglass.training.hosts.SAME_DISK", 0.2)
    monkeypatch.setattr("hourglass.training.hosts.REPORTS", 0.3)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")


@pytest.mark.usefixtures("_quick")
def test_processes_that_agree_meet(store: torch.distributed.TCPStore, tmp_path: Path) -> None:
    hosts = processes(store, size=4, local_size=2)
    assert meet(hosts, [tmp_path] * 4, {"cache": "elsewhere"}) == [""] * 4
    digests = {"corpus": "a", "vocabulary": "b"}
    assert at_once(*(lambda h=item: h.compare(digests) for item in hosts)) == [""] * 4
    assert list(tmp_path.iterdir()) == []
    # The interface of the address by which they reach each other.
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("changed", "code", "line"),
    [
        ({"seed": 2}, "1", "has other settings than process 0 (seed): "),
        ({}, "2", "has other code of Hourglass than process 0: "),
    ],
)
def test_a_difference_ends_all_with_one_line(
    store: torch.distributed.TCPStore, tmp_path: Path, changed: dict[str, Any], code: str, line: str
) -> None:
    first, *others = meet(processes(store), [tmp_path] * 2, changed, code)
    assert first.startswith(f"process 1 of 2 on {socket.gethostname()} {line}")
    assert others == [first]


@pytest.mark.usefixtures("_quick")
def test_a_folder_that_is_not_shared_ends_all(store: torch.distributed.TCPStore, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, other = meet(processes(store), folders)
    assert first == other
    assert f" does not see the run folder of process 0 ({folders[0]}) at {folders[1]}: set run_dir=PATH" in first


@pytest.mark.usefixtures("_quick")
def test_other_data_end_all(store: torch.distributed.TCPStore) -> None:
    hosts = processes(store, size=3)
    digests = [{"corpus": "a", "vocabulary": "b"}] * 2 + [{"corpus": "c", "vocabulary": "d"}]
    calls = zip(hosts, digests, strict=True)
    messages = at_once(*(lambda c=call: c[0].compare(c[1]) for call in calls))
    assert messages[0].startswith("process 2 of 3 on machine 2 has another corpus and vocabulary than process 0 of 3")
    assert messages == [messages[0]] * 3


@pytest.mark.usefixtures("_quick")
def test_the_reason_of_one_ends_those_that_wait_for_it(store: torch.distributed.TCPStore, tmp_path: Path) -> None:
    first, second = processes(store)
    second.end("cache=/data: cannot be written")
    with pytest.raises(MachineLostError, match=r"^process 1 of 2 on machine 1 has ended \(cache=/data: cannot be "):
        first.meet(RunFolder(tmp_path), {"trainer": {"timeout": 10}}, "1")


# As gloo writes them.
CLOSED = "[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.77.0.2]:28368."
TIMED_OUT = "[/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 8000ms for recv operation to complete"
PAIR = "Application timeout caused pair closure"


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("reasons", "error", "line"),
    [
        ({}, CLOSED, "process 1 of 4 on machine 0, processes 2 and 3 of 4 on machine 1 have ended"),
        ({1: ""}, TIMED_OUT, "processes 2 and 3 of 4 on machine 1 have not answered for 1800 s (trainer.timeout)"),
        ({1: "", 2: ""}, PAIR, "process 3 of 4 on machine 1 has not answered for 1800 s (trainer.timeout)"),
        ({1: "", 3: "out of memory"}, CLOSED, "process 3 of 4 on machine 1 has ended (out of memory)"),
        ({1: "", 2: "", 3: ""}, PAIR, f"the connection between the processes broke ({PAIR})"),
        ({1: "out of memory"}, "The size of tensor a (3) must match the size of tensor b (4)", None),
    ],
)
def test_what_ends_a_training_is_the_process_that_says_nothing_or_why(
    store: torch.distributed.TCPStore, reasons: dict[int, str], error: str, line: str | None
) -> None:
    hosts = processes(store, size=4, local_size=2)
    for rank, reason in reasons.items():
        hosts[rank].end(reason)
    assert hosts[0].explain(RuntimeError(error)) == line


@pytest.mark.usefixtures("_quick")
def test_an_error_is_in_torchruns_report_and_known_to_the_others(
    store: torch.distributed.TCPStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = "127.0.0.1", store.port
    numbers = {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    numbers |= {"GROUP_WORLD_SIZE": 1, "MASTER_PORT": port}
    for name, number in numbers.items():
        monkeypatch.setenv(name, str(number))
    monkeypatch.setenv("MASTER_ADDR", host)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr("hourglass.training.hosts.die_with_agent", lambda: None)
    with pytest.raises(BrokenOffError), hosts_of_torchrun():
        raise BrokenOffError("next.ckpt: cannot be written; to resume: python src/train.py resume=one")
    printed = json.loads((tmp_path / "error.json").read_text())["message"]["message"]
    assert printed == "next.ckpt: cannot be written; to resume: python src/train.py resume=one"
    cause = processes(store, size=2, local_size=2)[0].explain(RuntimeError(CLOSED))
    assert cause == "process 1 of 2 on machine 0 has ended (next.ckpt: cannot be written)"
    # What all processes have is said by the first of a machine.
    with pytest.raises(SystemExit), hosts_of_torchrun():
        raise MachineLostError("process 0 has ended")


def test_the_command_that_resumes_several_machines(
    store: torch.distributed.TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    hosts = process(store, rank=5, size=8, local_size=4)
    assert hosts.resume_command(RunFolder(Path("runs/a b"))) == (
        "torchrun --nnodes=2 --nproc-per-node=4 --node-rank=1 --master-addr=127.0.0.1 "
        f"--master-port={store.port} src/train.py 'resume=\"runs/a b\"'"
    )


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_sweep()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="-m under torchrun: each process would run the whole sweep: leave torchrun"):
        refuse_sweep()


def test_torchrun_and_the_settings_have_the_same_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    config = compose_config("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.nodes=2")
    with pytest.raises(UserError, match=r"trainer\.devices=1 and trainer\.nodes=2: torchrun has started 4 processes: "):
        check_settings(config)
