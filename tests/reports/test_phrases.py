"""Cells and intervals of differences: each interval under its heading, and the wider one where one is shown."""

import ast
import re

import pytest
from helpers import ROOT

from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    OVER_OWN_SEEDS,
    OVER_SEEDS_POOLED,
    OVER_SENTENCES,
    cover_of_differences,
    difference_cells,
    in_brackets,
    show_range,
    show_tokens,
    widest,
)
from hourglass.reports.sentences import say

SENTENCES, NARROW, WIDE = Interval(0.75, 1.25), Interval(0.5, 1.5), Interval(-1.0, 3.0)


@pytest.mark.parametrize(
    ("pooled", "own", "expected"),
    [
        (NARROW, WIDE, (WIDE, OVER_OWN_SEEDS)),
        (WIDE, NARROW, (WIDE, OVER_SEEDS_POOLED)),
        (NARROW, None, (NARROW, OVER_SEEDS_POOLED)),
        (None, None, (SENTENCES, OVER_SENTENCES)),
    ],
)
def test_the_wider_interval_over_seeds_is_shown_and_what_it_covers(
    pooled: Interval | None, own: Interval | None, expected: tuple[Interval, str]
) -> None:
    assert widest(Difference(1.0, SENTENCES, pooled, own, p=0.03)) == expected


def test_bands_say_what_they_cover_and_that_there_are_none() -> None:
    one_seed, seeds = Difference(1.0, SENTENCES, None, None, p=0.03), Difference(1.0, SENTENCES, WIDE, None, p=0.03)
    few = Difference(1.0, None, None, None, p=None)
    assert cover_of_differences([seeds, few]) == "over test sentences and seeds"
    assert cover_of_differences([one_seed, seeds]) == "over test sentences, and over seeds where there are several"
    assert cover_of_differences([one_seed, few]) == "over test sentences; one seed each, so not over seeds"
    assert cover_of_differences([few]) == "but too few test sentences for any"


def test_each_interval_stands_under_its_heading() -> None:
    value, *cells = difference_cells(Difference(1.0, SENTENCES, NARROW, WIDE, p=0.03))
    columns = dict(zip(DIFFERENCE_HEADINGS, cells, strict=True))
    assert value == "+1.00"
    assert columns["these trained models"] == "[0.75, 1.25]"
    assert columns["this architecture, pooled"] == "[0.50, 1.50]"
    assert columns["this architecture, own spread"] == "[-1.00, 3.00]"
    assert set(difference_cells(None)) == {"-"}
    assert len(difference_cells(None)) == 1 + len(cells)


SMALL = Interval(-0.004, 0.004)


def test_what_rounds_to_zero_has_no_minus() -> None:
    """In cells, in intervals, in sentences."""
    assert difference_cells(Difference(-0.004, SMALL, None, None, p=1.0))[:2] == ["+0.00", "[0.00, 0.00]"]
    assert show_range(Interval(-0.04, -0.06), 1) == "[0.0, -0.1]"
    assert in_brackets(SMALL, "of all") == " (95 % interval 0.0 to 0.0, of all)"
    assert show_tokens(-0.0) == "0"
    assert say("scores", "growth", value=-0.004, unit="BLEU", interval="").endswith("grows by 0.0 BLEU.")


WRITERS = (
    *(ROOT / "src" / "hourglass" / "reports").glob("*.py"),
    ROOT / "src" / "hourglass" / "experiments" / "published_report.py",
    *(ROOT / "pipelines").glob("*.py"),
)
# Of numbers with decimals, with or without their number.
SHOWN = re.compile(r"[+ -]?z?,?(\.\d*)?[efg]")


def test_every_number_of_a_report_is_written_without_a_minus_before_zero() -> None:
    formats = []
    for file in WRITERS:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
                parts = [part for part in ast.walk(node.format_spec) if isinstance(part, ast.Constant)]
                formats.append((f"{file.name}:{node.lineno}", "".join(str(part.value) for part in parts)))
    for file in (ROOT / "src" / "hourglass" / "reports" / "templates").glob("*.txt"):
        formats += [(file.name, form) for form in re.findall(r'shown\("([^"]+)"\)', file.read_text())]
    shown = [(place, form) for place, form in formats if SHOWN.fullmatch(form) or form.startswith("z")]
    assert len(shown) > 150
    assert [(place, form) for place, form in shown if "z" not in form] == []
