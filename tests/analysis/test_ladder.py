"""The course of a gap against the budget, by the rule of conf/ablation, and what the report says of it."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student_t

from hourglass.analysis.comparing import SentenceLengths, make_draws
from hourglass.analysis.information import BitsDifference
from hourglass.analysis.ladder import (
    GapChange,
    Ladder,
    Rung,
    RungScores,
    climb,
    gap_changes,
    judge_gap,
    read_ladder,
    write_ladder,
)
from hourglass.errors import UserError
from hourglass.metrics.significance import Difference, Estimate, Interval
from hourglass.reports.document import Paragraph, Picture, Table
from hourglass.reports.ladder import ladder_section, summarise_ladder

BUDGETS = [2_000_000, 4_000_000, 8_000_000]


def gap(value: float, half: float | None = 1.0) -> Difference:
    interval = None if half is None else Interval(value - half, value + half)
    return Difference(value, interval and Interval(value - 0.1, value + 0.1), interval, None, 0.01)


@pytest.mark.parametrize(
    ("values", "half_gap", "half_change", "course"),
    [
        ([20, 15, 10], 4.0, 1.0, "falls"),
        ([20, 15, 10], 4.0, 5.5, "cannot be told"),  # The interval of the change holds 0, and more than 5 % of 10.
        ([10, 15, 20], 4.0, 1.0, "grows"),
        ([-10, -15, -20], 4.0, 1.0, "grows"),
        ([-20, -15, -10], 4.0, 1.0, "falls"),
        ([200, 99, 100], 50.0, 3.9, "flattened"),  # 1 with an interval of -2.9 to 4.9, within 5 %.
        ([200, 99, 100], 50.0, 4.1, "cannot be told"),
        ([200, 103, 100], 50.0, 1.0, "flattened"),  # A change that is sure, and sure to be small.
        ([200, 106, 100], 50.0, 1.0, "falls"),
        ([20, 15, 10], 10.5, 1.0, "not shown"),
        ([20, 15, 10], None, 1.0, "cannot be told"),
        ([20, 15, 10], 1.0, None, "cannot be told"),
        ([20], 1.0, None, "cannot be told"),
    ],
)
def test_the_rule(values: list[float], half_gap: float | None, half_change: float | None, course: str) -> None:
    change = gap(values[-1] - values[-2], half_change) if len(values) > 1 else None
    judged = judge_gap(BUDGETS[: len(values)], [gap(value, half_gap) for value in values], change, 0.05)
    assert judged.course == course
    assert judged.change == (None if change is None else change.value)
    assert (judged.closes_at is not None) == (course == "falls")


def test_a_gap_that_falls_is_gone_by_doublings() -> None:
    """From 18 to 10 bits in four doublings of the budget: 2 each, so five more to 0."""
    judged = judge_gap([1_000_000, 16_000_000], [gap(18), gap(10)], gap(-2.0), 0.05)
    assert judged.course == "falls"
    assert judged.closes_at == pytest.approx(16e6 * 2**5)


def test_trainings_of_a_few_steps_say_nothing() -> None:
    assert judge_gap([5_000, 10_000], [gap(10), gap(10)], gap(0, 0.01), 0.05).course == "cannot be told"


def test_the_line_through_all_budgets_says_when_a_gap_is_gone() -> None:
    """20, 15, 10 bits at 2, 4, 8 million: 5 and 0 at 16 and 32 million."""
    assert judge_gap(BUDGETS, [gap(20), gap(15), gap(10)], gap(-5), 0.05).closes_at == pytest.approx(32e6)
    assert judge_gap(BUDGETS, [gap(22), gap(20), gap(18)], gap(-2), 0.0).closes_at == pytest.approx(8e6 * 2**9)
    assert judge_gap(BUDGETS, [gap(100.6), gap(100.3), gap(100)], gap(-0.3, 0.1), 0.0).closes_at is None


def _needed(random: np.random.Generator, seeds: int, levels: list[float]) -> dict[str, list[list[np.ndarray]]]:
    """Return bits of 200 sentences by variant, seed and budget: a seed and a sentence are alike with every budget."""
    sentences = random.normal(0, 20, 200)
    made = {}
    for name, factor in (("fixed", 1.0), ("none", 2.0)):
        own = [random.normal(0, 8) for _ in range(seeds)]
        made[name] = [
            [level * factor + offset + sentences + random.normal(0, 1, 200) for offset in own] for level in levels
        ]
    return made


def _changes(needed: dict[str, list[list[np.ndarray]]]) -> tuple[list[GapChange], SentenceLengths]:
    lengths = SentenceLengths(np.arange(200) % 10 + 1, [(1, 5), (6, 20), (21, None)])
    gained = {name: [less - more for less, more in zip(*budgets, strict=True)] for name, budgets in needed.items()}
    return gap_changes([("fixed", "none")], gained, lengths, make_draws(lengths, 1000)), lengths


def test_a_change_of_a_gap_is_the_difference_of_two_gaps() -> None:
    needed = _needed(np.random.default_rng(0), 3, [100.0, 90.0])
    (change,), lengths = _changes(needed)
    gaps = [
        np.mean(needed["none"][budget], axis=0) - np.mean(needed["fixed"][budget], axis=0) for budget in (0, 1)
    ]  # Bits that `none` needs more, by sentence.
    assert change.whole.value == pytest.approx(gaps[1].mean() - gaps[0].mean())
    for bucket in (0, 1):
        rows, part = lengths.inside(bucket), change.by_length[bucket]
        assert part is not None
        assert part.value == pytest.approx(gaps[1][rows].mean() - gaps[0][rows].mean())
    assert change.by_length[2] is None


def test_its_interval_is_that_of_welch_over_seeds_where_sentences_agree() -> None:
    """Sentences that all change alike leave the seeds: the interval of a t-test of two means."""
    gains = {"fixed": np.array([5.0, 6.0, 7.0]), "none": np.array([9.0, 10.0, 11.0])}
    needed = {
        name: [[np.full(200, 50.0)] * 3, [np.full(200, 50.0 - own) for own in seeds]] for name, seeds in gains.items()
    }
    (change,), _ = _changes(needed)
    width = student_t.ppf(0.975, 4) * math.sqrt(1 / 3 + 1 / 3)
    assert change.whole.widest is not None
    assert (change.whole.widest.low, change.whole.widest.high) == pytest.approx((-4 - width, -4 + width))


def test_what_a_seed_and_a_sentence_keep_cancels_and_the_interval_holds_the_truth() -> None:
    """Gaps of 100 and 90 bits whose seeds lie 8 apart: a change of -10 is sure although each gap is not."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        (change,), _ = _changes(_needed(random, 3, [100.0, 90.0]))
        interval = change.whole.widest
        assert interval is not None
        assert interval.high - interval.low < 2
        held += interval.holds(-10)
    assert held >= 180


def ladder(*values: tuple[float, float | None], half: float = 0.1) -> Ladder:
    """Of one estimand in two buckets, the second as given."""
    estimate = Estimate(30.0, [29.0, 31.0], Interval(28, 32))
    scores = {name: RungScores([2.0], estimate, [estimate, None]) for name in ("fixed", "none")}
    rungs: list[Rung] = []
    for budget, (whole, part) in zip(BUDGETS, values, strict=False):
        changes = []
        if rungs:
            before = rungs[-1].gaps[0]
            second = None if part is None or before.by_length[1] is None else part - before.by_length[1].value
            first = gap(whole - before.whole.value, half)
            changes = [GapChange(first, [first, None if second is None else gap(second, half)])]
        gaps = [BitsDifference(gap(whole), [gap(whole), None if part is None else gap(part)])]
        rungs.append(Rung(budget, scores, gaps, changes))
    return climb("numbers", [("fixed", "none")], rungs, {(1, 5): 100, (6, None): 20}, 0.05)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = ladder((20, 12), (15, 12), (10, 12))
    assert [course and course.course for course in written.by_length[0]] == ["falls", "flattened"]
    write_ladder(tmp_path / "a.json", written)
    assert read_ladder(tmp_path / "a.json", "dvc repro") == written
    with pytest.raises(UserError, match="dvc repro"):
        read_ladder(tmp_path / "b.json", "dvc repro")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (((20, 1), (15, 1), (10, 1)), ["it still falls", "gone at 32 million target tokens"]),
        (((24, 1), (21.5, 1), (19, 1)), ["gone at 1.55 billion target tokens"]),
        (((10, 1), (15, 1), (20, 1)), ["changed it by +5.0 ([4.90, 5.10]): the gap still grows"]),
        (((10, 1), (10, 1), (10.1, 1)), ["the gap has flattened"]),
        (((10, 1), (5, 1), (0.5, 1)), ["no gap is shown"]),
    ],
)
def test_the_report_tells_the_course(values: list[tuple[float, float]], words: list[str]) -> None:
    made = ladder(*values)
    (sentence,) = summarise_ladder(made)
    assert sentence.startswith("With 8 million target tokens, fixed receives ")
    assert all(word in sentence for word in words)
    blocks = ladder_section(made)
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [row[1] for row in table.rows] == ["all", "1-5", "6+"]
    assert table.rows[0][4:7] == [f"{whole:.2f}" for whole, _ in values]
    assert len([block for block in blocks if isinstance(block, Picture)]) == 1
    assert sentence in " ".join(block.text for block in blocks if isinstance(block, Paragraph))


def test_a_wide_interval_of_the_change_tells_nothing() -> None:
    (sentence,) = summarise_ladder(ladder((10, 1), (10, 1), (10.5, 1), half=3))
    assert "changed it by +0.5 ([-2.50, 3.50]): whether it still changes cannot be told" in sentence


def test_the_report_says_what_a_gap_is_due_to() -> None:
    made = ladder((20, 1), (15, 1), (10, 1))
    (sentence,) = summarise_ladder(made, [["learning", "capacity", None]])
    assert sentence.endswith("By the rule it is a gap of learning.")
    assert "By the rule" not in summarise_ladder(made, [["cannot be told", None, None]])[0]
    (table,) = (block for block in ladder_section(made, [["learning", "capacity", None]]) if isinstance(block, Table))
    assert [row[-1] for row in table.rows] == ["learning", "capacity", "-"]


def test_one_budget_has_no_section_and_an_empty_bucket_no_row() -> None:
    assert ladder_section(ladder((20, 1))) == []
    made = ladder((20, None), (15, None))
    (table,) = (block for block in ladder_section(made) if isinstance(block, Table))
    assert [row[1] for row in table.rows] == ["all", "1-5"]
    assert math.isclose(made.whole[0].change or 0, -5)
