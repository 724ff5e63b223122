"""A gap between two variants against the budget of their trainings: has it flattened, or is it still being learnt?

A gap that a larger budget closes is one of learning; one that stays is one of what the models can hold. The rule is
fixed before the runs, in conf/ablation: see `judge_gap`.

The runs of a seed with two budgets share their beginning, their test sentences and much of their error. So the change
of a gap is computed within each seed and sentence, and has an interval of its own, narrower than that of the gap.

Shapes: N test sentences, K seeds of a variant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hourglass.analysis.comparing import Draws, SentenceLengths
from hourglass.analysis.convergence import JUDGED_TOKENS
from hourglass.analysis.information import BitsDifference
from hourglass.metrics.likelihood import mean_quantity
from hourglass.metrics.significance import Difference, Estimate, Interval, Quantity, compare_quantities, pool
from hourglass.system.records import read_record, write_record

LADDER_VERSION = 3
# A straight line through a few budgets says nothing further away than so many doublings of the largest.
DOUBLINGS = 10
# Of a gap, see `judge_gap`.
Course = Literal["not shown", "flattened", "falls", "grows", "cannot be told"]


@dataclass(frozen=True)
class RungScores:
    """The scores of one variant with one budget.

    Attributes:
        dev_loss: nats per target token, of each seed.
        score: on all test sentences.
        score_by_length: in each length bucket; None for a bucket without sentences.
    """

    dev_loss: list[float]
    score: Estimate
    score_by_length: list[Estimate | None]


@dataclass(frozen=True)
class GapChange:
    """By how much a gap differs from that with the budget before, in bits per sentence for each doubling.

    Attributes:
        whole: over all test sentences.
        by_length: in each length bucket; None for a bucket without sentences.
    """

    whole: Difference
    by_length: list[Difference | None]


@dataclass(frozen=True)
class Rung:
    """All variants with one budget.

    Attributes:
        budget: target tokens of each training.
        variants: scores, by variant.
        gaps: bits per sentence of the first variant of each estimand less those of the second.
        changes: of each of these gaps since the budget before; empty with the first budget.
    """

    budget: int
    variants: dict[str, RungScores]
    gaps: list[BitsDifference]
    changes: list[GapChange]


@dataclass(frozen=True)
class GapCourse:
    """How a gap goes on as the budget doubles.

    Attributes:
        course: see `judge_gap`.
        change: of the gap by the last doubling, in bits per sentence; None with one budget.
        interval: 95 % of that change, over sentences and seeds where there are seeds; None where it has none.
        closes_at: target tokens at which a falling gap would be gone, by a straight line over the logarithm of the
            budget; None of any other, and beyond `DOUBLINGS` of the largest one.
    """

    course: Course
    change: float | None
    interval: Interval | None
    closes_at: float | None


@dataclass(frozen=True)
class Ladder:
    """The gaps of a corpus against the budget.

    Attributes:
        corpus: its name.
        estimands: pairs of variants, as conf/ablation names them before the runs.
        flattened: share of a gap; a doubling that is sure to change it by less has not changed it.
        lengths: first and last number of source words of each bucket; None: no upper end.
        sentences: of each bucket.
        rungs: in ascending order of budget.
        whole: the course of each estimand over all test sentences.
        by_length: the same in each length bucket; None for a bucket without sentences.
    """

    corpus: str
    estimands: list[tuple[str, str]]
    flattened: float
    lengths: list[tuple[int, int | None]]
    sentences: list[int]
    rungs: list[Rung]
    whole: list[GapCourse]
    by_length: list[list[GapCourse | None]]


def judge_gap(
    budgets: Sequence[int], gaps: Sequence[Difference], change: Difference | None, flattened: float
) -> GapCourse:
    """Judge the course of a gap by the last two budgets.

    - not shown: the gap's own interval holds 0, so there is nothing to judge;
    - flattened: the whole interval of the change by a doubling lies within plus and minus a share of the gap (a test of
      equivalence: Schuirmann 1987);
    - falls, grows: otherwise, where the interval of the change leaves out 0, towards 0 or away from it;
    - cannot be told: otherwise, as the interval is too wide; with one budget alone, one too short to tell
      (`JUDGED_TOKENS`), or without intervals.

    So more seeds and sentences can only make a verdict, and few of them never look like a gap that has flattened. The
    widest interval of each number counts: over sentences and seeds where there are seeds.

    Args:
        budgets: target tokens, in ascending order.
        gaps: of each budget.
        change: of the last gap from the one before, for each doubling of the budget; None of a single budget.
        flattened: that share.
    """
    last = gaps[-1]
    if change is None or last.widest is None or change.widest is None or budgets[-2] < JUDGED_TOKENS:
        return GapCourse("cannot be told", None if change is None else change.value, None, None)
    interval, least = change.widest, flattened * abs(last.value)
    if last.widest.holds(0):
        return GapCourse("not shown", change.value, interval, None)
    if -least < interval.low and interval.high < least:
        return GapCourse("flattened", change.value, interval, None)
    if interval.holds(0):
        return GapCourse("cannot be told", change.value, interval, None)
    if change.value * last.value > 0:
        return GapCourse("grows", change.value, interval, None)
    slope, _ = np.polyfit(np.log2(budgets), [gap.value for gap in gaps], 1)
    doublings = -last.value / float(slope) if slope * last.value < 0 else math.inf
    return GapCourse("falls", change.value, interval, budgets[-1] * 2**doublings if doublings <= DOUBLINGS else None)


def gap_changes(
    estimands: Sequence[tuple[str, str]],
    gained: Mapping[str, Sequence[np.ndarray]],
    lengths: SentenceLengths,
    draws: Draws,
) -> list[GapChange]:
    """Return the change of each gap by a doubling of the budget.

    The bits that a variant gains are those that it needs less: the blind decoder cancels. The seeds of two variants are
    independent.

    Args:
        estimands: pairs of variants, of each gap the first and the second.
        gained: by variant: K arrays [N], bits that a seed needs less for each reference after a doubling.
        lengths: of the test sentences.
        draws: resamples of these.
    """

    def quantities(rows: np.ndarray | slice, counts: np.ndarray) -> dict[str, Quantity]:
        return {name: mean_quantity([bits[rows] for bits in seeds], counts) for name, seeds in gained.items()}

    def compare(gains: Mapping[str, Quantity], pair: tuple[str, str]) -> Difference:
        first, second = pair
        return compare_quantities(gains[first], gains[second], pool(list(gains.values())))

    whole = quantities(slice(None), draws.whole)
    parts = {bucket: quantities(lengths.inside(bucket), counts) for bucket, counts in draws.buckets.items()}
    return [
        GapChange(
            compare(whole, pair),
            [compare(parts[at], pair) if at in parts else None for at in range(len(lengths.bounds))],
        )
        for pair in estimands
    ]


def climb(
    corpus: str,
    estimands: Sequence[tuple[str, str]],
    rungs: Sequence[Rung],
    buckets: Mapping[tuple[int, int | None], int],
    flattened: float,
) -> Ladder:
    """Return the ladder of these rungs, with the course of every gap.

    Args:
        corpus: see `Ladder`, as the others.
        estimands: in the order of each rung's gaps.
        rungs: in ascending order of budget.
        buckets: number of sentences, by the first and last number of source words.
        flattened: see `judge_gap`.
    """
    budgets = [rung.budget for rung in rungs]
    whole, by_length = [], []
    for number in range(len(estimands)):
        change = rungs[-1].changes[number] if len(rungs) > 1 else None
        whole.append(
            judge_gap(budgets, [rung.gaps[number].whole for rung in rungs], change.whole if change else None, flattened)
        )
        courses: list[GapCourse | None] = []
        for bucket in range(len(buckets)):
            gaps = [gap for rung in rungs if (gap := rung.gaps[number].by_length[bucket]) is not None]
            of_bucket = change.by_length[bucket] if change else None
            courses.append(judge_gap(budgets, gaps, of_bucket, flattened) if gaps else None)
        by_length.append(courses)
    return Ladder(
        corpus, list(estimands), flattened, list(buckets), list(buckets.values()), list(rungs), whole, by_length
    )


def write_ladder(file: Path, ladder: Ladder) -> None:
    """Write a ladder to a JSON file."""
    write_record(file, ladder, LADDER_VERSION)


def read_ladder(file: Path, command: str) -> Ladder:
    """Read a ladder from a JSON file.

    Args:
        file: where it is.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, Ladder, LADDER_VERSION, command)
