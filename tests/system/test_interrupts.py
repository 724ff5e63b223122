"""Ctrl-C and SIGTERM outside of a training: one line, whatever the command is doing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, children_of, hear_ctrl_c, quick_python, run_script, wait_for

from hourglass.system.interrupts import STARTED_BY_US

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


# ---- A stage of an ablation and the command that has started it ------------------------------------------------------

STAGE = """
import sys, time
from pathlib import Path
from hourglass.config.command_line import one_line_errors
from hourglass.training.jobs import read_stage_ticket

with one_line_errors():
    read_stage_ticket()
    Path(sys.argv[1]).touch()
    time.sleep(600)
"""
COMMAND = """
import sys
from pathlib import Path
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.capacity import train_all
from hourglass.system.interrupts import end_at_once
from hourglass.training.jobs import run_stage

end_at_once()
stage, begun, kind = sys.argv[1:]
with one_line_errors():
    if kind == "alone":
        run_stage(stage, [begun])
    else:
        train_all({name: lambda log: run_stage(stage, [begun], log) for name in "ab"}, Path(begun).parent / "logs", 1)
"""


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, str]:
    """The paths of a stage that waits, of a command that runs it, and of the file that says that it has begun."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "command.py").write_text(COMMAND)
    return {name: str(tmp_path / name) for name in ("stage.py", "command.py", "begun")}


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [quick_python(), *words],
        env={**os.environ, **environment},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509 (it only sets a signal)
    )


@pytest.mark.parametrize(("kind", "number"), [("alone", signal.SIGINT), ("threads", signal.SIGTERM)])
def test_a_command_that_is_stopped_says_so_once_and_its_stage_ends(
    scripts: dict[str, str], kind: str, number: signal.Signals
) -> None:
    """Also where threads wait for the stages, which no signal reaches."""
    command = start(scripts["command.py"], scripts["stage.py"], scripts["begun"], kind)
    wait_for(Path(scripts["begun"]).exists, command, "the stage")
    (stage,) = children_of(command)
    command.send_signal(number)
    output, errors = command.communicate(timeout=300)
    assert (output, errors, command.returncode) == ("", "stopped\n", 128 + number)
    assert not stage.is_running() or stage.status() == "zombie"


def test_a_stage_leaves_the_line_to_the_command_that_has_started_it(scripts: dict[str, str]) -> None:
    """A terminal sends Ctrl-C to both."""
    ticket = json.dumps({"answer": "", "lifeline": 0, "trial": None})
    for job, line in (({STARTED_BY_US: ticket}, ""), ({}, "stopped\n")):
        stage = start(scripts["stage.py"], scripts["begun"], **job)
        wait_for(Path(scripts["begun"]).exists, stage, "the stage")
        Path(scripts["begun"]).unlink()
        stage.send_signal(signal.SIGINT)
        assert stage.wait(300) == 130
        assert stage.communicate()[1] == line
