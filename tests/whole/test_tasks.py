"""Other tasks than translation, from settings to the comparison of runs: each by the metrics of its corpus."""

from pathlib import Path
from typing import Any

import pytest
from helpers import TINY, compose_config, curves, train_config

from hourglass.analysis.comparing import compare_groups
from hourglass.analysis.grouping import open_finished
from hourglass.corpora import pronunciations
from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json

WORDS = (
    *TINY,
    *("encoder.hidden_size=16", "trainer.target_tokens=3000", "trainer.batch_tokens=400", "trainer.validations=2"),
    *("trainer.dev_sentences=20", "trainer.test_sentences=40", "edges=[1,6]", "logger=csv", "logger.system_metrics=0"),
)


def train(folder: Path, name: str, *overrides: str) -> RunFolder:
    return train_config(compose_config(*WORDS, *overrides, f"cache={folder / 'cache'}", f"run_dir={folder / name}"))


def best_of(run: RunFolder, metric: str, *, lowest: bool) -> dict[int, float]:
    """Return the best validation by the curve of dev: its step, and its value."""
    points = curves(run, f"dev/{metric}")
    value = (min if lowest else max)(points.values())
    return {step + 1: point for step, point in points.items() if point == value}


@pytest.mark.slow
def test_commands_are_scored_as_whole_sequences(tmp_path: Path) -> None:
    runs = [train(tmp_path, name, "data=scan", f"attention={name}") for name in ("none", "luong_general")]
    for run in runs:
        metrics = read_json(run.metrics)
        assert metrics["test"]["main"] == "exact"
        assert set(metrics["dev"]) == {"exact", "loss", "smoothed_loss", "step"}
        rows = read_translations(run.translations)
        right = 100 * sum(row.hypothesis == row.reference for row in rows) / len(rows)
        assert metrics["test"]["exact"] == pytest.approx(right)
        assert metrics["dev"]["step"] in best_of(run, "exact", lowest=False)
    finished, _ = open_finished([str(run.path) for run in runs])
    (part,) = compare_groups(finished, [], None, 200)
    assert part.metric.name == "exact"
    by_words = compare_groups(finished, [], None, 200, metric="word_error_rate")[0]
    assert by_words.scores[0].score.whole.mean > 50


@pytest.mark.slow
def test_the_checkpoint_with_the_fewest_phoneme_errors_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And test counts the closest of several pronunciations."""
    letters = "abcdefghij"
    lines = []
    for number in range(400):
        word = "".join(letters[int(digit)] for digit in f"{number:03d}")
        sounds = " ".join(letter.upper() for letter in word)
        lines += [f"{word} {sounds}", *([f"{word}(2) {sounds} Z"] if number % 4 == 0 else [])]
    file = tmp_path / "cmudict.dict"
    file.write_text("\n".join([*lines, ""]))
    monkeypatch.setattr(pronunciations, "dictionary_file", lambda: file)
    words = ("data=cmudict", "data.dev_words=40", "data.test_words=60", "trainer.test_sentences=0")
    run = train(tmp_path, "run", *words, "search.beam=1")
    metrics = read_json(run.metrics)
    assert metrics["test"]["main"] == "phoneme_error_rate"
    assert metrics["dev"]["step"] in best_of(run, "phoneme_error_rate", lowest=True)
    rows = read_translations(run.translations)
    assert 5 < sum(bool(row.alternatives) for row in rows) < len(rows) == 60
    wrong = 100 * sum(row.hypothesis not in row.references for row in rows) / len(rows)
    assert metrics["test"]["sequence_error_rate"] == pytest.approx(wrong)


@pytest.mark.slow
def test_runs_of_several_main_metrics_need_one_to_compare_by(tmp_path: Path) -> None:
    words = ("data=copy", "data.train_pairs=300", "data.dev_pairs=20", "data.test_pairs=40", "data.longest=6")
    runs = [train(tmp_path, name, *words, f"metrics={name}") for name in ("exact", "translation")]
    finished, _ = open_finished([str(run.path) for run in runs])
    with pytest.raises(UserError, match=r"has metrics.main=exact and .* bleu: set metric=exact or metric=bleu$"):
        compare_groups(finished, [], None, 200)
    parts: list[Any] = compare_groups(finished, [], None, 200, metric="exact")
    assert [item.group.name for item in parts[0].scores] == ["trainer.select=exact", "trainer.select=bleu"]
