"""Pictures of a run: what is noted is what the model does at that step, and all that can be drawn is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import make_run

from hourglass.corpora.corpus import load_corpus
from hourglass.decoding.word_alignment import read_weights
from hourglass.models.checkpoint import load_trained
from hourglass.reports.pictures import PICTURES, draw_picture
from hourglass.runs.folder import RunFolder, clear
from hourglass.training.alignments import Alignments, alignment_files
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings

pytestmark = pytest.mark.slow  # Some trainings, of seconds each.


def make(folder: Path, attention: str, *overrides: str) -> RunFolder:
    return make_run(folder, f"attention={attention}", "trainer.pictures=2", *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make(tmp_path_factory.mktemp("run"), "luong_general")


def test_what_is_noted_is_what_the_model_does(run: RunFolder) -> None:
    steps = alignment_files(run)
    assert len(steps) == 3  # validations
    trained = load_trained(run.last)
    assert steps[-1][0] == trained.step
    dev = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["dev"]
    sides = (
        trained.vocabularies.source.encode(dev["source"][:2]),
        trained.vocabularies.target.encode(dev["target"][:2]),
    )
    result = json.loads(steps[-1][1].read_text())
    assert len(result) == 2
    for item, weights, source in zip(result, read_weights([trained.model], *sides), sides[0], strict=True):
        assert item["source"] == [*trained.vocabularies.source.pieces(source), "(end)"]
        assert np.array(item["weights"]) == pytest.approx(weights, abs=1e-4)
    first = json.loads(steps[0][1].read_text())
    assert np.abs(np.array(first[0]["weights"]) - np.array(result[0]["weights"])).max() > 0.005  # It has learnt.


def test_all_pictures_are_drawn(run: RunFolder) -> None:
    names = {"alignments", "score-by-length", "dev-score", "dev-loss", "lengths"}
    assert {file.stem for file in (run.path / "pictures").iterdir()} == names
    assert all(file.read_text().startswith("<svg") for file in (run.path / "pictures").iterdir())
    text = (run.path / "pictures" / "alignments.svg").read_text()
    assert all(f"step {step:,}" in text for step, _ in alignment_files(run))


def test_a_run_without_weights_has_the_others(tmp_path: Path) -> None:
    run = make(tmp_path, "none", "trainer.test=false")
    assert alignment_files(run) == []
    assert {name for name in PICTURES if draw_picture(run, name)} == {"dev-score", "dev-loss"}


def test_going_on_takes_back_what_was_noted_after_the_checkpoint(run: RunFolder, tmp_path: Path) -> None:
    trained = load_trained(run.last)
    prepared = prepare(trained.config, check_settings(trained.config))
    copy = RunFolder(tmp_path / "run")
    (copy.path / "alignments").mkdir(parents=True)
    for step, file in alignment_files(run):
        (copy.path / "alignments" / f"{step:09}.json").write_bytes(file.read_bytes())
    steps = [step for step, _ in alignment_files(run)]
    Alignments(copy, prepared.splits["dev"], prepared.vocabularies, 2, first_step=steps[1])
    assert [step for step, _ in alignment_files(copy)] == steps[:2]
    clear(copy)
    assert alignment_files(copy) == []
