"""Ctrl-C and SIGTERM outside of a training: one line, whatever the command is doing."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_script, wait_for

FOLDERS = (ROOT / "src", ROOT / "pipelines")
COMMANDS = sorted(f"{folder.name}/{file.name}" for folder in FOLDERS for file in folder.glob("*.py"))


def handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert caught is not None
    return bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads signal handlers from /proc")
@pytest.mark.parametrize(
    ("script", "number", "status"),
    [("src/train.py", signal.SIGTERM, 143), *((script, signal.SIGINT, 130) for script in COMMANDS)],
)
def test_a_command_that_is_stopped_while_it_imports_says_so(
    tmp_path: Path, script: str, number: int, status: int
) -> None:
    """Not in a fork, which has its libraries already. SIGTERM gets its handler last: both are there by then."""
    process = subprocess.Popen([sys.executable, str(ROOT / script)], cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for(lambda: handles(process.pid, signal.SIGTERM), process, "handlers of signals")
    process.send_signal(number)
    assert (process.communicate()[1], process.returncode) == (b"stopped\n", status)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_training_that_is_stopped_while_it_reads_its_settings_says_so(
    tmp_path: Path, number: str, status: int
) -> None:
    done = run_script(
        *("src/train.py", "data=copy"),
        cwd=tmp_path,
        at="hydra.core.hydra_config.HydraConfig.get",
        count=1,
        what=f"os.kill(os.getpid(), signal.{number})",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "stopped\n", status)


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    """A background job of a shell without job control ignores it."""
    code = (
        "import os, signal\n"
        "from hourglass.system.interrupts import end_at_once, raise_when_stopped\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "end_at_once()\n"
        "raise_when_stopped()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('alive')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("alive\n", 0)
