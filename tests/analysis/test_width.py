"""Variants that differ in the width of their neck alone: which they are, what they are compared with, and the cause."""

from typing import Any

import pytest

from hourglass.analysis.bits import _other_pairs
from hourglass.analysis.information import BitsDifference, Contrast, Information, LengthBucket, Provenance, VariantBits
from hourglass.analysis.ladder import Course, GapCourse, Ladder
from hourglass.analysis.width import WidthFamily, find_width_families, judge_cause
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.document import Picture, Table
from hourglass.reports.width import find_causes, width_section


def config(attention: str, width: int, **others: Any) -> dict[str, Any]:
    """Of a run; the learning rate and the run folder make no other model."""
    return {
        "encoder": {"name": "rnn", "summary_size": width, "layers": others.pop("layers", 1)},
        "decoder": {"cell": "lstm"},
        "attention": {"name": attention},
        "optimizer": {"learning_rate": 1 / width},
        "run_dir": f"{attention}-{width}",
        **others,
    }


CONFIGS = {
    "none": config("none", 256),
    "look": config("luong_dot", 256),
    "fixed": config("fixed", 256),
    "fixed_512": config("fixed", 512),
    "fixed_16": config("fixed", 16),
    "deep_16": config("fixed", 16, layers=2),
    "fresh_16": config("fixed", 16, frozen_encoder="runs/none"),
    "mean_64": config("mean", 64),
    "mean_16": config("mean", 16),
}
FIXED = WidthFamily("fixed", {16: "fixed_16", 256: "fixed", 512: "fixed_512"})
MEAN = WidthFamily("mean_64", {16: "mean_16", 64: "mean_64"})


def difference(value: float, half: float | None = 1.0) -> Difference:
    interval = None if half is None else Interval(value - half, value + half)
    return Difference(value, interval, None, None, None)


def test_a_family_differs_in_width_and_in_no_other_part_of_the_model() -> None:
    assert find_width_families(CONFIGS, "none") == [FIXED, MEAN]
    assert FIXED.steps == [("fixed", "fixed_16"), ("fixed_512", "fixed")]
    assert FIXED.others == ["fixed_16", "fixed_512"]
    assert find_width_families({"none": CONFIGS["none"], "look": CONFIGS["look"]}, "none") == []


def test_each_width_is_compared_with_the_next_narrower_and_attention_with_all() -> None:
    attentions = {"none": "none", "look": "luong_dot", "fixed": "fixed", "fixed_512": "fixed", "fixed_16": "fixed"}
    pairs = _other_pairs(attentions, {}, "none", [FIXED])
    assert pairs == [
        ("look", "fixed"),
        ("fixed", "fixed_16"),
        ("fixed_512", "fixed"),
        ("look", "fixed_16"),
        ("look", "fixed_512"),
    ]
    # The baseline is compared with all in any case.
    narrow = WidthFamily("none", {16: "none_16", 256: "none"})
    assert _other_pairs({"none": "none", "none_16": "none", "fixed": "fixed"}, {}, "none", [narrow]) == []


@pytest.mark.parametrize(
    ("course", "widened", "cause"),
    [
        ("falls", [difference(5)], "learning"),
        ("not shown", [difference(5)], "no gap shown"),
        ("flattened", [difference(5)], "capacity"),
        ("flattened", [difference(0.5), difference(5)], "capacity"),
        ("flattened", [difference(0.5)], "encoder or decoder"),
        ("flattened", [difference(-5)], "encoder or decoder"),
        ("flattened", [difference(5, None)], "cannot be told"),
        ("flattened", [], "cannot be told"),
        ("grows", [difference(5)], "cannot be told"),
        ("cannot be told", [difference(5)], "cannot be told"),
    ],
)
def test_the_cause_follows_from_budget_and_width(course: Course, widened: list[Difference], cause: str) -> None:
    assert judge_cause(GapCourse(course, 0.0, None, None), widened) == cause


def information(steps: dict[tuple[str, str], float]) -> Information:
    """Of these contrasts, in one length bucket with sentences and one without."""

    def variant(name: str) -> Any:
        made = Provenance([1], ["c"], [1000], CONFIGS[name])
        blank: dict[str, Any] = dict.fromkeys(VariantBits.__dataclass_fields__)
        return VariantBits(**{**blank, "provenance": made, "parameters": 1000, "dev_loss": [2.0]})

    buckets = [LengthBucket((1, 5), 100, 3.0, None, 10.0), LengthBucket((6, None), 0, None, None, None)]
    blank: dict[str, Any] = dict.fromkeys(Information.__dataclass_fields__)
    contrasts = [
        Contrast(*pair, BitsDifference(difference(value), [difference(2 * value), None]))
        for pair, value in steps.items()
    ]
    names = ("none", "look", "fixed", "fixed_512", "fixed_16")
    return Information(
        **{
            **blank,
            "corpus": "clauses",
            "baseline": "none",
            "lengths": buckets,
            "variants": {name: variant(name) for name in names},
            "contrasts": contrasts,
        }
    )


STEPS = {
    ("look", "fixed"): 30.0,
    ("look", "fixed_16"): 50.0,
    ("look", "fixed_512"): 29.5,
    ("fixed", "fixed_16"): 20.0,
    ("fixed_512", "fixed"): 0.5,
}


def test_the_section_shows_the_gap_at_each_width() -> None:
    made = information(STEPS)
    blocks = width_section(made, "look")
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [row[:2] for row in table.rows] == [["fixed_16", "16"], ["fixed", "256"], ["fixed_512", "512"]]
    assert [row[4] for row in table.rows] == ["50.00", "30.00", "29.50"]
    assert [row[6] for row in table.rows] == ["-", "+20.00", "+0.50"]
    assert len([block for block in blocks if isinstance(block, Picture)]) == 1
    assert width_section(information({("look", "fixed"): 30.0}), "look")[2:] == []


def test_the_cause_is_told_by_bucket() -> None:
    flat, falling = (GapCourse(course, 0.0, Interval(-1, 1), None) for course in ("flattened", "falls"))
    blank: dict[str, Any] = dict.fromkeys(Ladder.__dataclass_fields__)
    ladder = Ladder(
        **{
            **blank,
            "estimands": [("look", "fixed"), ("look", "none")],
            "whole": [flat, falling],
            "by_length": [[falling, None], [flat, None]],
        }
    )
    assert find_causes(information(STEPS), ladder) == [
        ["capacity", "learning", None],
        ["learning", "cannot be told", None],
    ]
