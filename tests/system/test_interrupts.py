"""Ctrl-C and SIGTERM outside of a training: one line, whatever the command is doing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, hear_ctrl_c, run_script

FOLDERS = (ROOT / "src", ROOT / "pipelines")
COMMANDS = sorted(f"{folder.name}/{file.name}" for folder in FOLDERS for file in folder.glob("*.py"))


# Runs a script, and sends it a signal as soon as it has called `end_at_once`.
WRAPPER = """
import os, runpy, sys
from hourglass.system import interrupts

script, number = sys.argv[1:]
real = interrupts.end_at_once

def stopped_at_once():
    real()
    assert not {"hydra", "pydantic", "torch"} & set(sys.modules), "called after the imports that take long"
    os.kill(os.getpid(), int(number))

interrupts.end_at_once = stopped_at_once
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "number", "status"),
    [("src/train.py", signal.SIGTERM, 143), *((script, signal.SIGINT, 130) for script in COMMANDS)],
)
def test_a_command_that_is_stopped_while_it_imports_says_so(
    tmp_path: Path, script: str, number: int, status: int
) -> None:
    """Not in a fork, which has its libraries already."""
    command = [sys.executable, "-c", WRAPPER, str(ROOT / script), str(int(number))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, check=False, preexec_fn=hear_ctrl_c
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"stopped\n", status)
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
