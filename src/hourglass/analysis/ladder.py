"""A gap between two variants against the budget of their trainings: has it flattened, or is it still being learnt?

A gap that a larger budget closes is one of learning; one that stays is one of what the models can hold. The rule is
fixed before the runs, in conf/ablation: see `judge_gap`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hourglass.analysis.convergence import JUDGED_TOKENS
from hourglass.analysis.information import BitsDifference, Information
from hourglass.metrics.significance import Difference, Estimate
from hourglass.system.records import read_record, write_record

LADDER_VERSION = 1
# A straight line through a few budgets says nothing further away than so many doublings of the largest.
DOUBLINGS = 10
# Of a gap, see `judge_gap`.
Course = Literal["no gap", "flattened", "falls", "grows", "cannot be told"]


@dataclass(frozen=True)
class RungScores:
    """The scores of one variant with one budget.

    Attributes:
        dev_loss: nats per target token, of each seed.
        bleu: on all test sentences.
        bleu_by_length: in each length bucket; None for a bucket without sentences.
    """

    dev_loss: list[float]
    bleu: Estimate
    bleu_by_length: list[Estimate | None]


@dataclass(frozen=True)
class Rung:
    """All variants with one budget.

    Attributes:
        budget: target tokens of each training.
        variants: scores, by variant.
        gaps: bits per sentence of the first variant of each estimand less those of the second.
    """

    budget: int
    variants: dict[str, RungScores]
    gaps: list[BitsDifference]


@dataclass(frozen=True)
class GapCourse:
    """How a gap goes on as the budget doubles.

    Attributes:
        course: see `judge_gap`.
        change: of the gap by the last doubling, in bits per sentence; None with one budget.
        closes_at: target tokens at which a falling gap would be gone, by a straight line over the logarithm of the
            budget; None of any other, and beyond `DOUBLINGS` of the largest one.
    """

    course: Course
    change: float | None
    closes_at: float | None


@dataclass(frozen=True)
class Ladder:
    """The gaps of a corpus against the budget.

    Attributes:
        corpus: its name.
        estimands: pairs of variants, as conf/ablation names them before the runs.
        flattened: share of a gap; a smaller change by a doubling counts as none.
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


def judge_gap(budgets: Sequence[int], gaps: Sequence[Difference], flattened: float) -> GapCourse:
    """Judge the course of a gap by the last two budgets.

    - no gap: its interval holds 0;
    - flattened: the last doubling changed it by less than half its interval's width, or by less than a share of it;
    - falls, grows: it did change, towards 0 or away from it;
    - cannot be told: one budget alone, one too short to tell (`JUDGED_TOKENS`), or no interval.

    The widest interval of the gap counts: over sentences and seeds where there are seeds.

    Args:
        budgets: target tokens, in ascending order.
        gaps: of each budget.
        flattened: that share.
    """
    last = gaps[-1]
    interval = last.widest
    if len(gaps) < 2 or interval is None or budgets[-2] < JUDGED_TOKENS:
        return GapCourse("cannot be told", None, None)
    change = (last.value - gaps[-2].value) / math.log2(budgets[-1] / budgets[-2])
    if interval.low <= 0 <= interval.high:
        return GapCourse("no gap", change, None)
    if abs(change) < max((interval.high - interval.low) / 2, flattened * abs(last.value)):
        return GapCourse("flattened", change, None)
    if change * last.value > 0:
        return GapCourse("grows", change, None)
    slope, _ = np.polyfit(np.log2(budgets), [gap.value for gap in gaps], 1)
    doublings = -last.value / float(slope) if slope * last.value < 0 else math.inf
    return GapCourse("falls", change, budgets[-1] * 2**doublings if doublings <= DOUBLINGS else None)


def gap_of(information: Information, pair: tuple[str, str]) -> BitsDifference:
    """Return the bits of the first variant of a pair less those of the second.

    Raises:
        KeyError: the two are not compared.
    """
    for contrast in information.all_contrasts:
        if (contrast.variant, contrast.reference) == pair:
            return contrast.difference
    raise KeyError(pair)


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
        whole.append(judge_gap(budgets, [rung.gaps[number].whole for rung in rungs], flattened))
        courses: list[GapCourse | None] = []
        for bucket in range(len(buckets)):
            gaps = [gap for rung in rungs if (gap := rung.gaps[number].by_length[bucket]) is not None]
            courses.append(judge_gap(budgets, gaps, flattened) if len(gaps) == len(rungs) else None)
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
