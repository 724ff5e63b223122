"""The course of a gap against the budget, by the rule of conf/ablation, and what the report says of it."""

import math
from pathlib import Path

import pytest

from hourglass.analysis.information import BitsDifference
from hourglass.analysis.ladder import GapCourse, Ladder, Rung, RungScores, climb, judge_gap, read_ladder, write_ladder
from hourglass.errors import UserError
from hourglass.metrics.significance import Difference, Estimate, Interval
from hourglass.reports.document import Paragraph, Picture, Table
from hourglass.reports.ladder import ladder_section, summarise_ladder

BUDGETS = [2_000_000, 4_000_000, 8_000_000]


def gap(value: float, half: float | None = 1.0) -> Difference:
    interval = None if half is None else Interval(value - half, value + half)
    return Difference(value, interval and Interval(value - 0.1, value + 0.1), interval, None, 0.01)


@pytest.mark.parametrize(
    ("values", "half", "course"),
    [
        ([20, 15, 10], 1.0, "falls"),
        ([10, 15, 20], 1.0, "grows"),
        ([-10, -15, -20], 1.0, "grows"),
        ([-20, -15, -10], 1.0, "falls"),
        ([20, 10.9, 10], 1.0, "flattened"),  # Within its interval.
        ([200, 104, 100], 1.0, "flattened"),  # By 4 %.
        ([200, 106, 100], 1.0, "falls"),
        ([20, 10, 0.9], 1.0, "no gap"),
        ([20, 15, 10], None, "cannot be told"),
        ([20], 1.0, "cannot be told"),
    ],
)
def test_the_rule(values: list[float], half: float | None, course: str) -> None:
    judged = judge_gap(BUDGETS[: len(values)], [gap(value, half) for value in values], 0.05)
    assert judged.course == course
    if len(values) > 1 and half is not None:
        assert judged.change == pytest.approx(values[-1] - values[-2])
    assert (judged.closes_at is not None) == (course == "falls")


def test_a_change_counts_by_doublings() -> None:
    judged = judge_gap([1_000_000, 16_000_000], [gap(18), gap(10)], 0.05)
    assert judged == GapCourse("falls", -2.0, pytest.approx(16e6 * 2**5))  # type: ignore[arg-type]


def test_trainings_of_a_few_steps_say_nothing() -> None:
    assert judge_gap([5_000, 10_000], [gap(10), gap(10)], 0.05).course == "cannot be told"


def test_the_line_through_all_budgets_says_when_a_gap_is_gone() -> None:
    """20, 15, 10 bits at 2, 4, 8 million: 5 and 0 at 16 and 32 million."""
    assert judge_gap(BUDGETS, [gap(20), gap(15), gap(10)], 0.05).closes_at == pytest.approx(32e6)
    assert judge_gap(BUDGETS, [gap(22, 0.1), gap(20, 0.1), gap(18, 0.1)], 0.0).closes_at == pytest.approx(8e6 * 2**9)
    assert judge_gap(BUDGETS, [gap(100.6, 0.1), gap(100.3, 0.1), gap(100, 0.1)], 0.0).closes_at is None


def ladder(*values: tuple[float, float | None]) -> Ladder:
    """Of one estimand in two buckets, the second as given."""
    estimate = Estimate(30.0, [29.0, 31.0], Interval(28, 32))
    scores = {name: RungScores([2.0], estimate, [estimate, None]) for name in ("fixed", "none")}
    rungs = [
        Rung(budget, scores, [BitsDifference(gap(whole), [gap(whole), None if part is None else gap(part)])])
        for budget, (whole, part) in zip(BUDGETS, values, strict=False)
    ]
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
        (((10, 1), (15, 1), (20, 1)), ["changed it by +5.0: the gap still grows"]),
        (((10, 1), (10, 1), (10.5, 1)), ["the gap has flattened"]),
        (((12, 1), (10.7, 1), (10, 1)), ["which the rule counts as flattened, as it is less than half the width"]),
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


def test_one_budget_has_no_section_and_an_empty_bucket_no_row() -> None:
    assert ladder_section(ladder((20, 1))) == []
    made = ladder((20, None), (15, None))
    (table,) = (block for block in ladder_section(made) if isinstance(block, Table))
    assert [row[1] for row in table.rows] == ["all", "1-5"]
    assert math.isclose(made.whole[0].change or 0, -5)
