"""The ladder against whole schedules: numbers against the recorded ones and numpy, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hourglass.analysis.likelihoods import kept_likelihoods
from hourglass.analysis.schedules import Schedules, write_schedules
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant, load_ablation
from hourglass.experiments.schedules import measure_schedules
from hourglass.reports.document import to_markdown
from hourglass.reports.schedules import write_schedules_report
from hourglass.runs.folder import RunFolder
from hourglass.system.yaml_files import read_yaml

CORPUS, BUDGET = "kjv_web", 1_000_000


@pytest.fixture(scope="module")
def ladder() -> Ablation:
    return load_ablation()


@pytest.fixture(scope="module")
def whole(ladder: Ablation, tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """An ablation whose runs are the recorded ones of twice the budget, as if a whole schedule were as good."""
    root = tmp_path_factory.mktemp("whole")
    (root / "conf").symlink_to(ladder.root / "conf")
    made = load_ablation(root, "schedules")
    made = replace(made, corpora={CORPUS: replace(made.corpora[CORPUS], budgets=[BUDGET])})
    made = replace(made, settings=replace(made.settings, resamples=1000))
    for variant in made.variants(CORPUS):
        kept, recorded = made.kept(variant, 1, BUDGET), ladder.kept(variant, 1, 2 * BUDGET)
        kept.path.mkdir(parents=True)
        for file in recorded.path.iterdir():
            (kept.path / file.name).write_bytes(file.read_bytes())
        text = recorded.config.read_text()
        assert (text.count("decay: wsd"), text.count("target_tokens: 2000000")) == (1, 1)
        text = text.replace("decay: wsd", "decay: sqrt").replace("target_tokens: 2000000", "target_tokens: 1000000")
        kept.config.write_text(text)
        made.tuning_file(variant).parent.mkdir(parents=True, exist_ok=True)
        made.tuning_file(variant).write_bytes(ladder.tuning_file(variant).read_bytes())
    return made


@pytest.fixture(scope="module")
def schedules(whole: Ablation, ladder: Ablation) -> Schedules:
    return measure_schedules(whole, ladder, CORPUS)


def bits(ablation: Ablation, name: str, budget: int) -> np.ndarray:
    folder = ablation.kept(Variant(CORPUS, name), 1, budget)
    return np.array([row.sum() / math.log(2) for row in kept_likelihoods(folder.likelihoods).nats])


def test_differences_are_those_of_the_recorded_runs(schedules: Schedules, ladder: Ablation) -> None:
    assert (schedules.decays, schedules.seed, schedules.metric) == (("sqrt", "wsd"), 1, "BLEU")
    assert [own.variant for own in schedules.comparisons] == ["fixed", "luong_general"]
    for own in schedules.comparisons:
        variant = Variant(CORPUS, own.variant)
        recorded = [ladder.sentence_scores(variant, 1, budget).whole.scores["bleu"] for budget in (2 * BUDGET, BUDGET)]
        assert own.scores == pytest.approx(recorded)
        assert own.score.value == pytest.approx(recorded[0] - recorded[1])
        assert own.dev_losses[0] < own.dev_losses[1]
        gained = bits(ladder, own.variant, BUDGET) - bits(ladder, own.variant, 2 * BUDGET)
        assert own.bits.value == pytest.approx(gained.mean())
        interval = own.bits.trained
        assert interval is not None
        # A normal interval of a mean of many sentences.
        half = 1.96 * gained.std() / math.sqrt(len(gained))
        assert (interval.low, interval.high) == pytest.approx((gained.mean() - half, gained.mean() + half), rel=0.1)
        assert own.bits.architecture is None  # One seed.
    (gap,) = schedules.gaps
    assert (gap.first, gap.second, gap.budget) == ("luong_general", "fixed", BUDGET)
    for found, budget in ((gap.whole, 2 * BUDGET), (gap.ladder, BUDGET)):
        assert found.value == pytest.approx(
            (bits(ladder, "fixed", budget) - bits(ladder, "luong_general", budget)).mean()
        )
    assert gap.change.value == pytest.approx(gap.whole.value - gap.ladder.value)


def test_the_report_has_every_run_and_gap(schedules: Schedules, tmp_path: Path) -> None:
    write_schedules(tmp_path / "record.json", schedules)
    text = to_markdown(write_schedules_report(schedules), figures="")
    for own in schedules.comparisons:
        assert f"{own.scores[0]:.2f} and {own.scores[1]:.2f}" in text
        assert f"{own.bits.value:+.2f}" in text
    assert "luong_general less fixed" in text
    assert "So the gap hangs on the schedule" in text


def test_runs_that_differ_in_more_and_rungs_that_are_not_there_are_refused(whole: Ablation, ladder: Ablation) -> None:
    folder: RunFolder = whole.kept(Variant(CORPUS, "fixed"), 1, BUDGET)
    before = folder.config.read_text()
    width = read_yaml(before)["encoder"]["summary_size"]
    folder.config.write_text(before.replace(f"summary_size: {width}", "summary_size: 8"))
    with pytest.raises(UserError, match=r"fixed of conf=schedules and of conf=default differ in encoder.summary_size"):
        measure_schedules(whole, ladder, CORPUS)
    folder.config.write_text(before)
    other = replace(whole, corpora={CORPUS: replace(whole.corpora[CORPUS], budgets=[123])})
    with pytest.raises(UserError, match=r"kjv_web.budgets: 123 of conf=schedules is no rung of conf=default"):
        measure_schedules(other, ladder, CORPUS)
