"""The line about what is left to train: the tokens of each training, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT, finished_metrics

from hourglass.experiments.ablation import Ablation, Variant, load_ablation
from hourglass.experiments.remaining import remaining_training
from hourglass.system.files import write_json


@pytest.fixture
def ablation(tmp_path: Path) -> Ablation:
    """Of two variants and a control, with nothing trained."""
    whole = load_ablation()
    corpus = replace(
        next(iter(whole.corpora.values())),
        variants=["none", "luong_general"],
        controls=["mean"],
        seeds=[1, 2],
        budgets=[1000, 2000, 4000],
        tune_tokens=100,
    )
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    return replace(
        whole, tune=replace(whole.tune, learning_rates=[0.001, 0.002]), corpora={"numbers": corpus}, root=tmp_path
    )


def test_what_is_left_is_what_no_run_has_read(ablation: Ablation) -> None:
    """A ladder reads its largest budget, and the last fifth of each smaller one beside it."""
    ladder = 4000 + 200 + 400
    whole = 7 * ladder + 4 * 2 * 100  # Two variants and blind with two seeds, one control; four searches of two rates.
    before = remaining_training(ablation)
    assert (before.left, before.whole, before.tokens_per_second) == (whole, whole, None)
    assert str(before).endswith("million target tokens")

    none = Variant("numbers", "none")
    ablation.tuning_file(none).parent.mkdir(parents=True)
    ablation.tuning_file(none).write_text("")
    metrics = finished_metrics(train_target_tokens=1000, train_seconds=20.0)
    write_json(ablation.rung(none, 1, 1000).metrics, metrics)
    write_json(ablation.kept(none, 2, 1000).metrics, metrics)  # In a fresh clone.
    write_json(ablation.kept(none, 2, 2000).metrics, {**metrics, "train_target_tokens": 2000, "train_seconds": 60.0})
    after = remaining_training(ablation)
    assert after.whole == whole
    assert after.left == whole - 2 * 100 - 1000 - 1000 - 1200
    assert after.tokens_per_second == pytest.approx(4000 / 100)
    text = str(replace(after, left=2_400_000, whole=9_000_000))
    assert text.startswith("left to train, in all: 2.4 of 9.0 million target tokens, about 1,000 minutes one after")
