"""A finished run: its files are read once, and each damaged file is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import curves

from hourglass.errors import UserError
from hourglass.runs.curves import Point, start_curves
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.training.finished import DevScores, FinishedRun


def test_a_run_is_what_its_files_hold(small_run: RunFolder) -> None:
    run = FinishedRun.open(small_run.path)
    metrics = read_json(small_run.metrics)
    assert run.config["attention"]["name"] == "luong_general"
    assert run.settings.search.beam == 1
    assert run.metrics.dev == DevScores.of(metrics["dev"])
    assert run.metrics.corpus_digest == run.trained.corpus_digest == run.corpus.digest
    assert run.metrics.tokenizer_digest == run.prepared.vocabularies.digest
    assert run.metrics.test is not None
    assert len(run.translations) == run.metrics.test["sentences"]
    for name, points in (("loss", run.dev_curves.loss), ("bleu", run.dev_curves.score)):
        assert [value for _, value in points] == list(curves(small_run, f"dev/{name}").values())
        assert points[-1][0] == metrics["train_target_tokens"]


def test_a_validation_lies_at_the_tokens_that_were_read(small_run: RunFolder, tmp_path: Path) -> None:
    """Between two points of the curves, and before the first, where it once lay at 0 tokens."""
    folder = RunFolder(tmp_path)
    for file in (small_run.config, small_run.metrics):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    total = read_json(small_run.metrics)["train_target_tokens"]
    rows = [(9, "train/target_tokens", 1000.0), (19, "train/target_tokens", 2000.0)]
    rows += [(step, "dev/loss", float(step)) for step in (4, 9, 14, 24)]
    start_curves(folder.curves, [Point(*row) for row in rows])
    assert FinishedRun.open(tmp_path).dev_curves.loss == [(500.0, 4.0), (1000.0, 9.0), (1500.0, 14.0), (total, 24.0)]


def test_files_are_read_once(small_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, reads = FinishedRun.open(small_run.path), []

    def read_and_count(file: Path) -> Any:
        reads.append(file)
        return read_json(file)

    monkeypatch.setattr("hourglass.training.finished.read_json", read_and_count)
    assert run.metrics is run.metrics
    assert run.dev_curves is run.dev_curves
    assert run.trained is run.trained
    assert reads == [small_run.metrics]


def test_the_translations_of_an_ablations_run_are_another_stages(tmp_path: Path, small_run: RunFolder) -> None:
    """Of the largest budget: the others test themselves, and what is lost of them is not taken from there."""
    metrics = read_json(small_run.metrics)
    for budget, test in ((1000, metrics["test"]), (2000, None)):
        folder = RunFolder(tmp_path / "runs" / "luong_dot-1" / f"{budget}")
        folder.path.mkdir(parents=True)
        folder.config.write_bytes(small_run.config.read_bytes())
        folder.metrics.write_text(json.dumps({**metrics, "test": test}))
    file = tmp_path / "translations" / "luong_dot-1" / "test.tsv"
    file.parent.mkdir(parents=True)
    file.write_bytes(small_run.translations.read_bytes())
    assert FinishedRun.open(folder.path).translations == FinishedRun.open(small_run.path).translations
    with pytest.raises(UserError, match=r"luong_dot-1/1000/translations\.test\.tsv: cannot be read"):
        _ = FinishedRun.open(folder.path.parent / "1000").translations


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda metrics: metrics.pop("train_target_tokens"), r"train_target_tokens: Field required"),
        (lambda metrics: metrics["dev"].update(loss="low"), r"dev\.loss: Input should be a valid number"),
    ],
)
def test_metrics_of_another_form_are_refused(tmp_path: Path, small_run: RunFolder, damage: Any, message: str) -> None:
    folder = RunFolder(tmp_path)
    folder.config.write_bytes(small_run.config.read_bytes())
    metrics = read_json(small_run.metrics)
    damage(metrics)
    folder.metrics.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=rf"{folder.metrics}: not the metrics of a finished run \({message}"):
        _ = FinishedRun.open(tmp_path).metrics


def test_refused_settings_name_the_run(tmp_path: Path, small_run: RunFolder) -> None:
    text = small_run.config.read_text()
    (tmp_path / "config.yaml").write_text(text.replace("init_range:", "init_range: -1 #"))
    run = FinishedRun.open(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}: its settings are refused: init_range=-1"):
        _ = run.settings


def test_a_folder_without_a_run_is_named_by_its_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"blind={tmp_path}: not a run folder"):
        FinishedRun.open(tmp_path, "blind")
