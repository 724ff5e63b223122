"""A ladder of budgets held against whole schedules: does a short decay off one trunk give what a run of its own gives?

The rungs of a ladder share a training at a constant rate, off which a short decay branches at each budget. A whole
schedule of the same budget falls from its warm-up to its end, with a learning rate of its own search. Where both give
the same, a gap between two rungs is one of the budget, not of the schedule.

Both have the same seed, and the intervals are over sentences alone. Bits that a run needs less are bits more that it
receives: the blind decoder, which bits are measured against, is held the same.

Shapes: N test sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hourglass.metrics.likelihood import mean_quantity
from hourglass.metrics.metric import Metric
from hourglass.metrics.significance import Difference, Quantity, compare_quantities, metric_quantity, pool
from hourglass.system.records import write_record

SCHEDULES_VERSION = 1


@dataclass(frozen=True)
class ScheduledRun:
    """A finished run of one schedule.

    Attributes:
        learning_rate: that its search chose.
        dev_loss: nats per target token.
        statistics: [N, counts] of the main metric.
        needed_bits: [N], of the reference of each test sentence.
    """

    learning_rate: float
    dev_loss: float
    statistics: np.ndarray
    needed_bits: np.ndarray


@dataclass(frozen=True)
class ScheduleComparison:
    """One variant with one budget, by both schedules; every difference is that of the whole one less the ladder's.

    Attributes:
        variant: its name.
        budget: target tokens.
        learning_rates: of the whole schedule and of the ladder.
        dev_losses: of both, in nats per target token.
        scores: of both, on all test sentences.
        score: their difference.
        bits: received, per sentence.
    """

    variant: str
    budget: int
    learning_rates: tuple[float, float]
    dev_losses: tuple[float, float]
    scores: tuple[float, float]
    score: Difference
    bits: Difference


@dataclass(frozen=True)
class ScheduledGap:
    """The gap of an estimand with one budget, by both schedules, in bits per sentence.

    Attributes:
        first: variant of which the gap is.
        second: the variant that it is less.
        budget: target tokens.
        whole: the gap of whole schedules.
        ladder: that of the ladder.
        change: the first less the second.
    """

    first: str
    second: str
    budget: int
    whole: Difference
    ladder: Difference
    change: Difference


@dataclass(frozen=True)
class Schedules:
    """Whole schedules against a ladder on one corpus.

    Attributes:
        corpus: its name.
        decays: of the whole schedules and of the ladder, as in conf/optimizer.
        seed: of all runs.
        sentences: of test.
        metric: heading of the score.
        comparisons: by variant and budget.
        gaps: of the estimands, by budget.
    """

    corpus: str
    decays: tuple[str, str]
    seed: int
    sentences: int
    metric: str
    comparisons: list[ScheduleComparison]
    gaps: list[ScheduledGap]


def compare_schedules(
    of: tuple[str, int], whole: ScheduledRun, ladder: ScheduledRun, metric: Metric, counts: np.ndarray
) -> ScheduleComparison:
    """Compare the runs of one variant with one budget.

    Args:
        of: name of the variant, and target tokens.
        whole: the run with a schedule of its own.
        ladder: that of the ladder.
        metric: the main one.
        counts: [R, N] of `draw_resamples`.
    """
    ours, theirs = (metric_quantity(metric, [run.statistics], counts) for run in (whole, ladder))
    bits = [mean_quantity([-run.needed_bits], counts) for run in (whole, ladder)]
    return ScheduleComparison(
        *of,
        (whole.learning_rate, ladder.learning_rate),
        (whole.dev_loss, ladder.dev_loss),
        (ours.mean, theirs.mean),
        _difference(ours, theirs),
        _difference(*bits),
    )


def compare_gaps(
    estimands: Sequence[tuple[str, str]],
    budget: int,
    whole: Mapping[str, ScheduledRun],
    ladder: Mapping[str, ScheduledRun],
    counts: np.ndarray,
) -> list[ScheduledGap]:
    """Compare the gaps of these pairs of variants.

    Args:
        estimands: the pairs.
        budget: target tokens.
        whole: by variant, the run with a schedule of its own.
        ladder: by variant, that of the ladder.
        counts: [R, N] of `draw_resamples`.
    """
    gaps = []
    for first, second in estimands:
        ours, theirs = (
            mean_quantity([runs[second].needed_bits - runs[first].needed_bits], counts) for runs in (whole, ladder)
        )
        nothing = ours.times(0.0)
        gaps.append(
            ScheduledGap(
                first,
                second,
                budget,
                _difference(ours, nothing),
                _difference(theirs, nothing),
                _difference(ours, theirs),
            )
        )
    return gaps


def _difference(first: Quantity, other: Quantity) -> Difference:
    return compare_quantities(first, other, pool([]))


def write_schedules(file: Path, schedules: Schedules) -> None:
    """Write a comparison to a JSON file."""
    write_record(file, schedules, SCHEDULES_VERSION)
