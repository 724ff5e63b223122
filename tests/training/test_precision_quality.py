"""tests/training/precision_quality.py: its table, of tiny runs on a stand-in for a CPU with bfloat16."""

from collections.abc import Sequence
from pathlib import Path

import precision_quality
import pytest
from helpers import TINY, compose_config, train_config
from precision_quality import PRECISIONS, Reading, main, show_difference, show_readings

from hourglass.system.files import read_json


@pytest.mark.filterwarnings("ignore:Precision loss")  # Of the equal values.
def test_a_difference_within_the_spread_of_seeds_has_an_interval_with_0() -> None:
    whole = [Reading(10, 1, 100, 1000), Reading(12, 2, 100, 3000)]
    half = [Reading(11, 1, 90, 2000), Reading(13, 2, 91, 6000)]
    assert show_readings(whole)[::3] == ["11.00 (10.00 12.00)", "2,000 (1,000 3,000)"]
    bleu, loss, bits, _ = show_difference(half, whole)
    # Student's t of two degrees of freedom, 4.303, times the standard error sqrt(2 / 2 + 2 / 2).
    assert bleu == "+1.00 (-5.08 to +7.08)"
    assert loss == "+0.0000 (-3.0424 to +3.0424)"
    assert bits.startswith("-9.50 (-15.85 to -3.15)")  # One degree of freedom: 12.706 * sqrt(0.5 / 2).


def table_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the printed lines that are rows of the table, not of the trainings in this process."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith(("| corpus | precision ", "| --- ", "| numbers | "))]


@pytest.mark.more
@pytest.mark.slow
def test_the_table_of_tiny_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def train_here(path: Path, cache: Path, words: Sequence[str]) -> None:
        trained.append(path.name)
        train_config(compose_config(*words, "logger=csv", "trainer.pictures=0", f"run_dir={path}", f"cache={cache}"))

    monkeypatch.setattr("hourglass.training.trainer.bfloat16_instructions", lambda: ["avx512_bf16"])
    monkeypatch.setattr(precision_quality, "train_model", train_here)
    monkeypatch.setattr(precision_quality, "CORPORA", {"numbers": ("data=numbers", "data.vocabulary_size=80")})
    small = [*TINY, "trainer.target_tokens=3000", "trainer.dev_sentences=4", "trainer.test_sentences=20"]
    words = [f"out={tmp_path}", "seeds=2", *small, "data.train_pairs=200", "data.dev_pairs=20", "data.test_pairs=20"]
    main(words)
    head, _, whole, half, difference = table_lines(capsys)
    assert head == "| corpus | precision | BLEU | dev loss | bits a sentence | target tokens/s |"
    assert len(trained) == 6
    losses = [float(row.split("|")[4].split("(")[0]) for row in (whole, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    runs = [tmp_path / f"numbers-{precision}-{name}" for precision in PRECISIONS for name in ("blind", 1, 2)]
    assert [read_json(run / "metrics.json")["precision"] for run in runs] == [PRECISIONS[0]] * 3 + [PRECISIONS[1]] * 3
    assert difference.startswith("| numbers | difference | ")
    main(words)
    assert len(trained) == 6
    assert table_lines(capsys)[2] == whole
