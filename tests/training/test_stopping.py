"""Interrupted trainings: their messages and exit statuses, and that resuming loses nothing."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers import (
    ROOT,
    SMALL,
    assert_same_training,
    children_of,
    command,
    curves,
    empty_store,
    run_script,
    wait_for,
)

from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.training.resuming import load_progress

pytestmark = pytest.mark.slow

KILL = "os.kill(os.getpid(), signal.SIGKILL)"
LOGGED = "hourglass.tracking.tracking.Curves.log_metrics"
# Patience and accumulation have state that a resumed run must restore.
STATEFUL = (*SMALL, "trainer.patience=9", "trainer.accumulate=2")
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs src/train.py with an event injected, and returns its status and output."""
    folder = tmp_path_factory.mktemp("forks")

    def once(*words: str, **happens: Any) -> tuple[int, str]:
        done = run_script("src/train.py", *words, cwd=folder, **happens)
        return done.returncode, done.stdout + done.stderr

    return once


@pytest.fixture(scope="module")
def unbroken(run: Run, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "unbroken")
    assert run(*STATEFUL, f"run_dir={folder.path}")[0] == 0
    return folder


def assert_same_run(first: RunFolder, other: RunFolder) -> None:
    """Compare bit for bit: `assert_same_training`, and the best model, the optimizer, and all counters."""
    assert_same_training(first, other)
    for name in ("last", "best"):
        own, theirs = (torch.load(getattr(run, name), weights_only=True) for run in (first, other))
        for content in (own, theirs):
            del content["hourglass"]["config"]["run_dir"], content["hourglass"]["config"]["logger"]
            del content["callbacks"]["Meter"]["seconds"]
        assert_same_values(own, theirs, name)


def assert_same_values(first: Any, other: Any, name: str) -> None:
    if isinstance(first, dict):
        assert first.keys() == other.keys(), name
        for key in first:
            assert_same_values(first[key], other[key], f"{name}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(other), name
        for number, pair in enumerate(zip(first, other, strict=True)):
            assert_same_values(*pair, f"{name}.{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, other), name
    else:
        assert first == other, name


@pytest.mark.more
def test_killed_at_random_points(run: Run, unbroken: RunFolder, tmp_path: Path) -> None:
    """kill -9 five times, twice during writes of checkpoints; the result is the uninterrupted run, bit for bit."""
    broken = RunFolder(tmp_path / "broken")
    store = empty_store(tmp_path)
    words = [word for word in STATEFUL if not word.startswith("logger=")]
    words += ["logger=mlflow", "logger.model=false", f"logger.tracking_uri={store}", f"run_dir={broken.path}"]
    words += ["logger.system_metrics=0"]
    draw = random.Random(14)
    # A kill at LOGGED comes after a point of the curves; fsync and replace are also called for other files.
    points = [LOGGED, LOGGED, "os.fsync", LOGGED, "os.replace"]
    for at in points:
        first, last = (4, 8) if at == LOGGED else (2, 4)
        status, message = run(*words, at=at, count=draw.randint(first, last), what=KILL)
        assert status == -signal.SIGKILL, message
        words = [f"resume={broken.path}"]
    assert run(*words)[0] == 0
    assert_same_run(unbroken, broken)

    import mlflow

    client = mlflow.MlflowClient(store)
    (tracked,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert tracked.info.status == "FINISHED"
    assert tracked.info.run_id == read_json(broken.tracking)["run_id"]
    points_of = client.get_metric_history(tracked.info.run_id, "train/loss")
    assert sorted(point.step for point in points_of) == sorted(curves(unbroken, "train/loss"))


# Before which call of which function what happens, and the resulting exit status and last line.
ENDS = (
    (LOGGED, 6, "os.kill(os.getpid(), signal.SIGINT)", 130, "stopped"),
    # In the first of the two accumulated parts of a step.
    (
        "hourglass.training.module.TranslationModule.training_step",
        7,
        "os.kill(os.getpid(), signal.SIGTERM)",
        143,
        "stopped",
    ),
    (
        "os.fsync",
        2,
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))",
        1,
        "next.ckpt: cannot be written (File too large): free disk space, or make it writable",
    ),
    (
        LOGGED,
        5,
        "read_only('FOLDER')",
        1,
        "next.ckpt: cannot be written (Permission denied): free disk space, or make it writable",
    ),
    (LOGGED, 5, "torch.empty(10**15)", 4, "error: out of memory ("),
)


def test_each_end_has_its_line_and_status_and_loses_nothing(run: Run, unbroken: RunFolder, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM, a full disk, a read-only folder, no memory left: one run, resumed after each."""
    broken = RunFolder(tmp_path / "broken")
    words = [*STATEFUL, f"run_dir={broken.path}"]
    for at, count, what, status, line in ENDS:
        before = load_progress(broken.last).step if broken.last.exists() else 0
        ended, message = run(*words, at=at, count=count, what=what.replace("FOLDER", str(broken.last.parent)))
        assert ended == status, message
        broken.last.parent.chmod(0o755)
        last = message.strip().splitlines()[-1]
        assert line in last
        assert "Traceback" not in message
        words = [f"resume={broken.path}"]
        if status != 4:
            assert last.endswith(f"src/train.py resume={broken.path}")
        if status == 143:
            # Three steps, and the fourth, during whose first part the signal arrived.
            assert load_progress(broken.last).step == before + 4
    assert run(*words)[0] == 0
    assert_same_run(unbroken, broken)


def test_a_diverged_run_has_a_status_of_its_own(run: Run, tmp_path: Path) -> None:
    status, message = run(
        *SMALL, f"run_dir={tmp_path / 'one'}", "optimizer.learning_rate=1e30", "optimizer.clip_norm=0"
    )
    assert status == 3
    assert "diverged; set a lower optimizer.learning_rate" in message.strip().splitlines()[-1]
    assert "Traceback" not in message


# ---- Several processes -----------------------------------------------------------------------------------------------

PAIR = ("trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2")


def start_pair(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True, start_new_session=True)


def spawned(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the two training processes in the order of their ranks, without multiprocessing's resource tracker."""
    children = [child for child in children_of(process) if "spawn_main" in " ".join(child.cmdline())]
    return sorted(children, key=lambda child: child.pid)


def written(file: Path) -> int:
    """Return the time at which a file was written, 0 if it does not exist."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=300)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.more
@pytest.mark.parametrize("victims", [("rank", "SIGTERM"), ("parent",)])
def test_no_process_remains_when_one_of_several_dies(
    tmp_path: Path, session_cache: Path, victims: tuple[str, ...]
) -> None:
    """Kill one rank, or the parent, or send SIGTERM to the parent; the same run is resumed after each."""
    item = RunFolder(tmp_path / "one")
    words = [*SMALL, *PAIR, f"cache={session_cache}", f"run_dir={item.path}", "trainer.target_tokens=1000000"]
    words += ["trainer.checkpoint_every=10"]
    for victim in victims:
        reached = written(item.last)
        process = start_pair(*words)
        wait_for(lambda: written(item.last) > reached, process, "a checkpoint")  # noqa: B023
        ranks = spawned(process)
        assert len(ranks) == 2
        if victim == "rank":
            ranks[1].kill()
        else:
            process.send_signal(signal.SIGKILL if victim == "parent" else signal.SIGTERM)
        message = process.communicate()[1]
        wait_until_gone(ranks)
        words = [f"resume={item.path}"]
        last = message.strip().splitlines()[-1]
        if victim == "rank":
            assert process.returncode == 1, message
            assert last.startswith("error: process 1 of 2 was killed by SIGKILL")
            assert last.endswith(f"src/train.py resume={item.path}")
        elif victim == "parent":
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 143, message
            assert last.startswith("stopped; to resume: python ")
            assert last.endswith(f"src/train.py resume={item.path}")
            assert load_progress(item.last).step == max(curves(item, "train/loss")) + 1
        if victim != "parent":
            assert "Traceback" not in message


@pytest.mark.more
@pytest.mark.parametrize("trainer", [["trainer=ddp"], ["trainer=smoke", "trainer.strategy=ddp"]])
def test_a_sweep_over_pairs_of_processes_makes_one_run_a_job(
    tmp_path: Path, session_cache: Path, trainer: list[str]
) -> None:
    """And one MLflow run per job; also within a SLURM job, whose single task Lightning would take for its processes."""
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "sweep", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}
    small = [word for word in SMALL if not word.startswith("logger=")]
    done = subprocess.run(
        command(
            "-m",
            "attention=none,luong_dot",
            *trainer,
            "trainer.accelerator=cpu",
            "trainer.devices=2",
            *small,
            "trainer.target_tokens=500",
            "trainer.validations=1",
            f"cache={session_cache}",
        ),
        cwd=tmp_path,
        env={**os.environ, **slurm},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_runs(tmp_path, 2, done)


def assert_runs(folder: Path, number: int, done: subprocess.CompletedProcess[str]) -> None:
    """Check the number of finished runs, each once in runs/, in the output and in MLflow, and logged by one process."""
    runs = sorted((folder / "runs").iterdir())
    assert len(runs) == number
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("run: ")) == [
        f"run: runs/{run.name}" for run in runs
    ]
    assert done.stderr.count("\nmodel: ") == number

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    tracked = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in tracked} == {"FINISHED"}
    parents = {run.data.tags["mlflow.parentRunId"] for run in tracked if "mlflow.parentRunId" in run.data.tags}
    assert len(parents) == (number > 1)  # Of the jobs of a sweep.
    jobs = [run for run in tracked if run.info.run_id not in parents]
    assert len(jobs) == number
    assert {run.info.run_id for run in jobs} == {read_json(RunFolder(run).tracking)["run_id"] for run in runs}
    for run in jobs:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        assert len(steps) == len(set(steps)) > 0


@pytest.mark.more
def test_torchrun_makes_one_run(tmp_path: Path, session_cache: Path) -> None:
    small = [word for word in SMALL if not word.startswith("logger=")]
    empty_store(tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(ROOT / "src" / "train.py"), *small, *PAIR, f"cache={session_cache}", "run_dir=runs/one"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_runs(tmp_path, 1, done)
