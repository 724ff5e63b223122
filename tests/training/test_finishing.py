"""No picture, package or upload ends a run that is trained: each fails in one line that names the command to repeat."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL, empty_store, make_run, run_script

from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.training.alignments import alignment_files

pytestmark = pytest.mark.slow

PICTURES = {"alignments", "score-by-length", "dev-score", "dev-loss", "lengths"}
FAILURE = "raise ValueError('injected $\\x1b\\nsecond line')"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run with space")
    store = empty_store(folder)
    return make_run(folder, "trainer.pictures=1", "logger=mlflow", f"logger.tracking_uri={store}", "logger.model=true")


def made(run: RunFolder) -> set[str]:
    """Return the names of the side products that are whole, and remove them."""
    pictures = {file.stem for file in (run.path / "pictures").glob("*.svg") if file.read_text().endswith("</svg>\n")}
    names = pictures | ({"model"} if (run.model / "MLmodel").exists() else set())
    for file in (run.path / "pictures").iterdir():
        file.unlink()
    return names


def warnings_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines about failures; no traceback is printed, and the run ends as it should."""
    assert done.returncode == 0, done.stderr
    assert re.fullmatch("run: .+", done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if "injected" in line]


@pytest.mark.parametrize(
    ("at", "missing"),
    [
        pytest.param(
            "hourglass.reports.pictures.draw_lines",
            {"dev-loss", "dev-score", "score-by-length"},
            marks=pytest.mark.more,
        ),
        pytest.param("hourglass.reports.pictures.draw_points", {"lengths"}, marks=pytest.mark.more),
        pytest.param("hourglass.reports.pictures.draw_matrices", {"alignments"}, marks=pytest.mark.more),
        pytest.param("hourglass.reports.pictures.to_svg", PICTURES, marks=pytest.mark.more),
        ("hourglass.tracking.packing.pack", {"model"}),
    ],
)
def test_each_step_fails_alone_and_is_made_by_the_printed_command(
    finished: RunFolder, at: str, missing: set[str]
) -> None:
    made(finished)
    scored = finished.metrics.stat().st_mtime_ns
    again = f"resume={finished.path}"
    failed = warnings_of(run_script("src/train.py", f"resume='{finished.path}'", at=at, count=1, what=FAILURE))
    assert made(finished) == (PICTURES | {"model"}) - missing
    steps = {"packed model" if name == "model" else f"picture {name}" for name in missing}
    assert {line.partition(": ")[0] for line in failed} == steps
    for line in failed:
        assert "not made (ValueError: injected $␛); to make it: python " in line
        program, script, *words = shlex.split(line.partition("; to make it: ")[2])
    assert (program, Path(script).name, words) == ("python", "train.py", [again.replace("=", '="') + '"'])
    assert warnings_of(run_script("src/train.py", *words)) == []
    assert made(finished) == PICTURES | {"model"}
    assert finished.metrics.stat().st_mtime_ns == scored  # Test is not translated again.


@pytest.mark.more
def test_an_upload_that_fails_ends_no_run(finished: RunFolder) -> None:
    words = [f"resume='{finished.path}'"]
    event: dict[str, Any] = {"at": "hourglass.tracking.mirror.Mirror.end", "count": 1, "what": FAILURE}
    (line,) = warnings_of(run_script("src/train.py", *words, **event))
    assert "may lack the end of the run (injected $" in line
    words = shlex.split(line.partition("; to send it: ")[2])[2:]
    assert warnings_of(run_script("src/train.py", *words)) == []
    assert read_json(finished.tracking)["status"] == "FINISHED"


@pytest.mark.more
def test_a_training_survives_a_failure_to_record_alignments_and_to_draw(tmp_path: Path) -> None:
    words = [*SMALL, "trainer.pictures=1", f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"]
    event: dict[str, Any] = {"at": "hourglass.training.alignments.read_weights", "count": 2, "what": FAILURE}
    (line,) = warnings_of(run_script("src/train.py", *words, **event))
    assert re.match(r"alignments: not recorded from step \d+ on \(ValueError: injected", line)
    run = RunFolder(tmp_path / "run")
    assert len(alignment_files(run)) == 1  # Of the first validation.
    assert made(run) == PICTURES
    assert read_json(run.metrics)["test"]
