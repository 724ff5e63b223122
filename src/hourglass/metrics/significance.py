"""Intervals on scores and on their differences: the paired bootstrap (Koehn 2004), over sentences and over seeds.

A resample draws as many test sentences as there are, with replacement. One set of draws serves all variants and all
seeds, so that what is easy or hard about a draw cancels in a difference. The score is recomputed from the
draw's summed counts, for BLEU with brevity penalty and all.

Where seeds vary as well, an error has two independent parts, of the sentences and of the seeds. Each has a variance
with degrees of freedom of its own, and so a 95 % interval of its own by Student's t. The squares of their half-widths
add up (Howe 1974; Zou and Donner 2008). `tests/metrics/interval_coverage.py` simulates how often such intervals, and
those by other rules, hold the truth.

No interval leaves the range that its quantity can have: it is cut off there, which cannot lower its coverage.

Shapes: N sentences, R resamples, K seeds of a variant, B length buckets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.stats import t as student_t

from hourglass.errors import UserError
from hourglass.metrics.metric import Metric

Name = TypeVar("Name")


RESAMPLES = 2000


CONFIDENCE = 0.95


# Fewest sentences that have an interval and a p. Of fewer, the bootstrap's intervals are too narrow: see the table by
# number of sentences of tests/metrics/interval_coverage.py.
FEWEST_SENTENCES = 30


# Share of the dev loss that a run may still gain in the last fifth of its budget and count as converged.
CONVERGED = 0.01


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def clipped(self, bounds: "Interval") -> "Interval":
        """Return the part of the interval inside the bounds."""
        return Interval(*(min(max(end, bounds.low), bounds.high) for end in (self.low, self.high)))

    def holds(self, value: float) -> bool:
        """Return whether a number lies in the interval."""
        return self.low <= value <= self.high

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        """Return the range of the numbers of this interval times a factor."""
        ends = [factor * end if factor else 0.0 for end in (self.low, self.high)]
        return Interval(min(ends), max(ends))


UNBOUNDED = Interval(-math.inf, math.inf)


@dataclass(frozen=True)
class Estimate:
    """A quantity of one variant, as results keep it.

    Attributes:
        mean: over seeds.
        by_seed: K values.
        interval: 95 % of the mean over these trained models; None of too few sentences, and where a resample has no
            score.
        own_spread: 95 % of the mean over sentences and trainings, from its own seeds; None where `interval` is, and of
            one seed.
    """

    mean: float
    by_seed: list[float]
    interval: Interval | None
    own_spread: Interval | None = None  # Older results lack it.

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None for a single seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def widest(self) -> Interval | None:
        """The interval over sentences and trainings where there is one, else the one over sentences."""
        return self.own_spread or self.interval


@dataclass(frozen=True)
class Quantity:
    """A number of each seed of one variant (a score, that of a bucket, a slope), and of each resample.

    Attributes:
        value: [K], on the test set as it is.
        drawn: [K, R], on the resamples; NaN where a resample has no score.
        sentences: N that a resample draws.
        bounds: lowest and highest value that is possible.
    """

    value: np.ndarray
    drawn: np.ndarray
    sentences: int
    bounds: Interval = UNBOUNDED

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.value.mean())

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None of one seed."""
        return float(self.value.std(ddof=1)) if len(self.value) > 1 else None

    @property
    def scorable(self) -> bool:
        """Whether there are intervals: of enough sentences, if every resample has a score."""
        return self.sentences >= FEWEST_SENTENCES and not bool(np.isnan(self.drawn).any())

    @property
    def interval(self) -> Interval | None:
        """Of the mean over these trained models: the sentences vary, the models do not."""
        return percentiles(self.drawn.mean(0)) if self.scorable else None

    @property
    def estimate(self) -> Estimate:
        """The mean, the value of each seed and the intervals, without the resamples."""
        return Estimate(self.mean, self.value.tolist(), self.interval, own_spread(self))

    def __add__(self, other: "Quantity") -> "Quantity":
        sentences = min(self.sentences, other.sentences)
        return Quantity(self.value + other.value, self.drawn + other.drawn, sentences, self.bounds + other.bounds)

    def times(self, factor: float) -> "Quantity":
        """Return this quantity, scaled."""
        return Quantity(self.value * factor, self.drawn * factor, self.sentences, self.bounds.times(factor))


@dataclass(frozen=True)
class Difference:
    """One variant less another, means over seeds.

    Attributes:
        value: the difference.
        trained: interval for "these trained models": the test sentences vary.
        architecture: interval for "this architecture": sentences and seeds vary; None where no variant has two seeds.
        own_spread: the same from the two variants' own seeds alone, for where pooling misleads because variants differ
            in their spread; None where one of the two has a single seed.
        p: two-sided p-value of the paired bootstrap, over sentences.

    Intervals and p are None of too few sentences, and where a resample has no score.
    """

    value: float
    trained: Interval | None
    architecture: Interval | None
    own_spread: Interval | None
    p: float | None

    @property
    def widest(self) -> Interval | None:
        """The wider of the two intervals over sentences and seeds; without any, that over sentences."""
        over_seeds = [own for own in (self.architecture, self.own_spread) if own is not None]
        return max(over_seeds, key=lambda own: own.high - own.low) if over_seeds else self.trained

    @property
    def reversed(self) -> "Difference":
        """The other variant less the one."""
        trained, architecture, spread = (
            each and each.times(-1) for each in (self.trained, self.architecture, self.own_spread)
        )
        return Difference(-self.value, trained, architecture, spread, self.p)


@dataclass(frozen=True)
class AdjustedDifference(Difference):
    """One of several differences.

    Attributes:
        p_holm: p adjusted for their number (Holm 1979); None where p is.
    """

    p_holm: float | None = None  # Older results lack it for differences over all sentences.


@dataclass(frozen=True)
class VarianceEstimate:
    """An estimate of a variance.

    Attributes:
        variance: the estimate.
        freedom: its degrees of freedom; 0: there is none.
    """

    variance: float
    freedom: float

    def times(self, factor: float) -> "VarianceEstimate":
        """Return the estimate of the variance times a factor."""
        return VarianceEstimate(self.variance * factor, self.freedom)


def draw_resamples(sentences: int, resamples: int = RESAMPLES, seed: int = 12345) -> np.ndarray:
    """Return how often each sentence stands in each resample, [R, N]; from the seed alone."""
    random = np.random.default_rng(seed)
    chosen = random.integers(sentences, size=(resamples, sentences))
    return np.stack([np.bincount(indices, minlength=sentences) for indices in chosen]).astype(np.float64)


def metric_quantity(metric: Metric, statistics: Sequence[np.ndarray], counts: np.ndarray) -> Quantity:
    """Return the score of each seed and of each resample.

    A resample without a sentence that the metric can score (`Metric.scorable`: for BLEU, one with a reference of four
    tokens) has no score.

    Args:
        metric: which score.
        statistics: K arrays [N, counts] of `Metric.statistics`.
        counts: [R, N] of `draw_resamples`.
    """
    value = np.array([float(metric.score(item.sum(0))) for item in statistics])
    drawn = np.stack([metric.score(counts @ item) for item in statistics])
    scorable = metric.scorable(statistics[0]).astype(np.float64)  # [N]
    drawn[:, counts @ scorable == 0] = np.nan
    return Quantity(value, drawn, counts.shape[1], Interval(metric.lowest, metric.highest))


def pool(quantities: Sequence[Quantity]) -> VarianceEstimate:
    """Return the variance over seeds of a quantity, pooled over the variants: weighted by their degrees of freedom."""
    freedom = sum(len(quantity.value) - 1 for quantity in quantities)
    squares = sum(float(((quantity.value - quantity.value.mean()) ** 2).sum()) for quantity in quantities)
    return VarianceEstimate(squares / freedom if freedom else 0.0, freedom)


def compare_quantities(first: Quantity, other: Quantity, seeds: VarianceEstimate) -> Difference:
    """Return `first` less `other`, with its intervals.

    "This architecture" has the pooled variance over seeds, divided by each side's number of seeds. "Own spread" has
    each side's own variance over seeds, with the degrees of freedom of `satterthwaite`.

    Args:
        first: of a variant.
        other: of another, on the same sentences.
        seeds: the variance over seeds, pooled over all variants (`pool`).
    """
    value = first.mean - other.mean
    if not (first.scorable and other.scorable):
        return Difference(value, None, None, None, None)
    drawn = first.drawn.mean(0) - other.drawn.mean(0)  # [R]
    bounds = first.bounds + other.bounds.times(-1)
    sentences = _of_sentences(drawn, min(first.sentences, other.sentences))
    pooled = seeds.times(1 / len(first.value) + 1 / len(other.value))
    own = satterthwaite([_of_seeds(first), _of_seeds(other)])
    return Difference(
        value,
        percentiles(drawn),
        _interval(value, sentences, pooled, bounds),
        _interval(value, sentences, own, bounds) if min(len(first.value), len(other.value)) > 1 else None,
        p_value(drawn, value),
    )


def own_spread(quantity: Quantity) -> Interval | None:
    """Return the interval of a mean when sentences and trainings vary, from its own seeds.

    None of one seed, of too few sentences, and where a resample has no score.
    """
    if not quantity.scorable:
        return None
    return _interval(
        quantity.mean, _of_sentences(quantity.drawn.mean(0), quantity.sentences), _of_seeds(quantity), quantity.bounds
    )


def pooled_spread(quantity: Quantity, seeds: VarianceEstimate) -> Interval | None:
    """Return the interval of a mean when sentences and trainings vary, from the variance over seeds of all variants.

    None where no variant has two seeds, of too few sentences, and where a resample has no score.
    """
    if not quantity.scorable:
        return None
    sentences = _of_sentences(quantity.drawn.mean(0), quantity.sentences)
    return _interval(quantity.mean, sentences, seeds.times(1 / len(quantity.value)), quantity.bounds)


def satterthwaite(parts: Sequence[VarianceEstimate]) -> VarianceEstimate:
    """Return the sum of independent estimates of variances, with its degrees of freedom (Satterthwaite 1946).

    Of the seeds of two variants it is that of Welch's test (1947).
    """
    variance = sum(part.variance for part in parts)
    if not variance:  # Seeds that agree to the last digit.
        return VarianceEstimate(0.0, sum(part.freedom for part in parts))
    uncertain = sum(part.variance**2 / part.freedom for part in parts if part.variance)
    return VarianceEstimate(variance, variance**2 / uncertain)


def half_width(parts: Sequence[VarianceEstimate]) -> float:
    """Return half the width of the 95 % interval of a number whose error is a sum of independent parts.

    The half-width of each part alone is t(f) times the square root of its variance, with its own degrees of freedom f;
    the squares of these add up (Howe 1974; Zou and Donner 2008). Exact where one part is all there is. A single t with
    Satterthwaite's degrees of freedom over all parts is narrower, and with two or three seeds too narrow.
    """
    level = (1 + CONFIDENCE) / 2
    return math.sqrt(sum(float(student_t.ppf(level, part.freedom)) ** 2 * part.variance for part in parts))


def _of_sentences(drawn: np.ndarray, sentences: int) -> VarianceEstimate:
    return VarianceEstimate(float(drawn.var(ddof=1)), sentences - 1)


def _of_seeds(quantity: Quantity) -> VarianceEstimate:
    """Return the variance of a mean over seeds, from its own seeds; without degrees of freedom of a single one."""
    freedom = len(quantity.value) - 1
    return VarianceEstimate(float(quantity.value.var(ddof=1)) / len(quantity.value) if freedom else 0.0, freedom)


def _interval(value: float, sentences: VarianceEstimate, seeds: VarianceEstimate, bounds: Interval) -> Interval | None:
    """Return the interval when sentences and seeds vary; None where no variance over seeds is known."""
    if not seeds.freedom:
        return None
    width = half_width([sentences, seeds])
    return Interval(value - width, value + width).clipped(bounds)


def percentiles(drawn: np.ndarray) -> Interval | None:
    """Return the middle 95 % of [R] resampled numbers, bounds counted as sacreBLEU counts them; None: one is NaN."""
    if np.isnan(drawn).any():
        return None
    ordered = np.sort(drawn)
    cut = len(ordered) // 40
    return Interval(float(ordered[cut]), float(ordered[len(ordered) - cut - 1]))


def p_value(drawn: np.ndarray, value: float) -> float | None:
    """Return the two-sided p of a difference by its bootstrap; None: a resample has no score.

    Under the null hypothesis a difference lies about 0 as the resamples lie about their mean, so p is the share of
    resamples whose distance from their mean is at least |value|: (number + 1) / (R + 1), as the sample itself counts as
    one (Davison and Hinkley 1997, equation 4.11).

    This is not the p of sacreBLEU's paired bootstrap, which takes absolute values first and centres then: it counts
    |d| - mean|d| > |value|. That is about half of p, and rejects a true null hypothesis in 11 % of cases at 0.05.

    Args:
        drawn: [R] resampled differences, not centred.
        value: the difference on the test set as it is.
    """
    if np.isnan(drawn).any():
        return None
    return float((np.abs(drawn - drawn.mean()) >= abs(value)).sum() + 1) / (len(drawn) + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given; None where there is none."""
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def adjust_differences(differences: Mapping[Name, Difference]) -> dict[Name, AdjustedDifference]:
    """Return differences with their p-values adjusted for the number of those that have one (`holm`)."""
    adjusted = holm([item.p for item in differences.values()])
    return {
        name: AdjustedDifference(**vars(item), p_holm=p)
        for (name, item), p in zip(differences.items(), adjusted, strict=True)
    }


def slope(buckets: Sequence[Quantity], source_words: Sequence[float], sentences: Sequence[int]) -> Quantity:
    """Return the slope of a length curve per 10 source words, by least squares weighted by sentences.

    A slope is linear in the curve, so the slope of a difference is the difference of slopes.

    Args:
        buckets: B quantities, the score in each bucket.
        source_words: B mean lengths of the buckets' sources.
        sentences: B numbers of sentences; a bucket without any is left out by the caller.

    Raises:
        UserError: there are fewer than two buckets.
    """
    if len(buckets) < 2:
        raise UserError("a slope over length needs two buckets with sentences: set more edges, or take more sentences")
    x, weight = np.asarray(source_words, dtype=float), np.asarray(sentences, dtype=float)
    centred = x - np.average(x, weights=weight)
    factors = 10 * weight * centred / (weight * centred**2).sum()
    first, *rest = (item.times(float(factor)) for item, factor in zip(buckets, factors, strict=True))
    return replace(sum(rest, first), sentences=int(sum(sentences)))


def converged(dev_loss: Mapping[float, float], gain: float = 0.01) -> tuple[bool, float]:
    """Say whether a training had converged, and by what share the last fifth of its budget lowered the best dev loss.

    Args:
        dev_loss: nats a token, by the share of the budget read, from 0 to 1.
        gain: a smaller share counts as converged.

    Raises:
        UserError: there are not the two validations that it takes.
    """
    shares = sorted(dev_loss)
    if len(shares) < 2 or shares[0] > 0.8:
        raise UserError("convergence is judged from dev losses before and at the end: set trainer.validations=5")
    at_80 = float(np.interp(0.8, shares, [dev_loss[share] for share in shares]))
    # The best so far, as that is the model that is kept: a loss that rises, and comes back, has gained nothing.
    before = min([at_80, *(dev_loss[share] for share in shares if share <= 0.8)])
    gained = (before - min(before, *dev_loss.values())) / before
    return gained < gain, gained
