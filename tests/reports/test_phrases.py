"""Cells and intervals of differences: each interval under its heading, and the wider one where one is shown."""

import pytest

from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    OVER_OWN_SEEDS,
    OVER_SEEDS_POOLED,
    OVER_SENTENCES,
    cover_of_differences,
    difference_cells,
    widest,
)

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
