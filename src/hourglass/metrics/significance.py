"""Intervals on scores and on their differences: the paired bootstrap (Koehn 2004), over sentences and over seeds.

A resample draws as many test sentences as there are, with replacement. One set of draws serves all variants and all
seeds, so that what is easy or hard about a draw cancels in a difference. BLEU is recomputed from the draw's summed
counts, brevity penalty and all.

Shapes: N sentences, R resamples, K seeds of a variant, B length buckets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from hourglass.errors import UserError
from hourglass.metrics.scoring import ORDERS, bleu_from_statistics

RESAMPLES = 2000


CONFIDENCE = 0.95


# Share of the dev loss that a run may still gain in the last fifth of its budget and count as converged.
CONVERGED = 0.01


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A quantity of one variant, as results keep it.

    Attributes:
        mean: over seeds.
        by_seed: K values.
        interval: 95 % of the mean over these trained models; None where a resample has no score.
    """

    mean: float
    by_seed: list[float]
    interval: Interval | None

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None for a single seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Quantity:
    """A number of each seed of one variant (BLEU, BLEU in a bucket, a slope), and of each resample.

    Attributes:
        value: [K], on the test set as it is.
        drawn: [K, R], on the resamples; NaN where a resample has no score.
    """

    value: np.ndarray
    drawn: np.ndarray

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
        """Whether every resample has a score, so that there are intervals."""
        return not bool(np.isnan(self.drawn).any())

    @property
    def interval(self) -> Interval | None:
        """Of the mean over these trained models: the sentences vary, the models do not."""
        return percentiles(self.drawn.mean(0))

    @property
    def estimate(self) -> Estimate:
        """The mean, the value of each seed and the interval, without the resamples."""
        return Estimate(self.mean, self.value.tolist(), self.interval)

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.value + other.value, self.drawn + other.drawn)

    def times(self, factor: float) -> "Quantity":
        """Return this quantity, scaled."""
        return Quantity(self.value * factor, self.drawn * factor)


@dataclass(frozen=True)
class Difference:
    """One variant less another, means over seeds.

    Attributes:
        value: the difference.
        trained: interval for "these trained models": the test sentences vary.
        architecture: interval for "this architecture": sentences and seeds vary; None where no variant has two seeds.
        own_spread: the same from the two variants' own seeds alone (Welch 1947), for where pooling misleads because
            variants differ in their spread; None where one of the two has a single seed.
        p: two-sided p-value of the paired bootstrap, over sentences.

    All are None where a resample has no score.
    """

    value: float
    trained: Interval | None
    architecture: Interval | None
    own_spread: Interval | None
    p: float | None


@dataclass(frozen=True)
class SeedVariance:
    """The variance of a quantity over seeds, pooled over all variants.

    Attributes:
        variance: the mean of the variants' variances, weighted by their degrees of freedom.
        freedom: degrees of freedom, the sum of K - 1.
    """

    variance: float
    freedom: int


def draw_resamples(sentences: int, resamples: int = RESAMPLES, seed: int = 12345) -> np.ndarray:
    """Return how often each sentence stands in each resample, [R, N]; from the seed alone."""
    random = np.random.default_rng(seed)
    chosen = random.integers(sentences, size=(resamples, sentences))
    return np.stack([np.bincount(indices, minlength=sentences) for indices in chosen]).astype(np.float64)


def bleu_quantity(statistics: Sequence[np.ndarray], counts: np.ndarray) -> Quantity:
    """Return BLEU of each seed and each resample.

    A resample without a reference of four tokens has no 4-gram to match: sacreBLEU gives it 0 whatever the output, and
    intervals over such zeros would speak of the draw. It has no score here.

    Args:
        statistics: K arrays [N, 10] of `scoring.bleu_statistics`.
        counts: [R, N] of `draw_resamples`.
    """
    value = np.array([bleu_from_statistics(one.sum(0)) for one in statistics])
    drawn = np.stack([bleu_from_statistics(counts @ one) for one in statistics])
    long_enough = (statistics[0][:, -1] >= ORDERS).astype(np.float64)  # [N]
    drawn[:, counts @ long_enough == 0] = np.nan
    return Quantity(value, drawn)


def pool(quantities: Sequence[Quantity]) -> SeedVariance:
    """Return the variance over seeds of a quantity, pooled over the variants."""
    freedom = sum(len(one.value) - 1 for one in quantities)
    squares = sum(float(((one.value - one.value.mean()) ** 2).sum()) for one in quantities)
    return SeedVariance(squares / freedom if freedom else 0.0, freedom)


def compare_quantities(one: Quantity, other: Quantity, seeds: SeedVariance) -> Difference:
    """Return `one` less `other`, with both intervals.

    "This architecture" has the variance of the difference over sentences plus, for each side, the pooled variance
    over seeds divided by its number of seeds, and Student's t with the pooled degrees of freedom. "Own spread" has each
    side's own variance over seeds, and the degrees of freedom of Welch and Satterthwaite.
    """
    value = one.mean - other.mean
    drawn = one.drawn.mean(0) - other.drawn.mean(0)  # [R]
    architecture = own_spread = None
    if seeds.freedom and one.scorable and other.scorable:
        of_seeds = seeds.variance * (1 / len(one.value) + 1 / len(other.value))
        architecture = _student(value, float(drawn.var(ddof=1)) + of_seeds, seeds.freedom)
        if min(len(one.value), len(other.value)) > 1:
            parts = [float(side.value.var(ddof=1)) / len(side.value) for side in (one, other)]
            each = [part**2 / (len(side.value) - 1) for part, side in zip(parts, (one, other), strict=True)]
            # Seeds that agree to the last digit leave the sentences alone.
            freedom = sum(parts) ** 2 / sum(each) if sum(each) else np.inf
            own_spread = _student(value, float(drawn.var(ddof=1)) + sum(parts), freedom)
    return Difference(value, percentiles(drawn), architecture, own_spread, p_value(drawn, value))


def own_spread(one: Quantity) -> Interval | None:
    """Return the interval of a mean when sentences and trainings vary, from its own seeds (Welch and Satterthwaite).

    None of one seed, and where a resample has no score.
    """
    if len(one.value) == 1 or not one.scorable:
        return None
    of_seeds = float(one.value.var(ddof=1)) / len(one.value)
    variance = float(one.drawn.mean(0).var(ddof=1)) + of_seeds
    freedom = variance**2 / (of_seeds**2 / (len(one.value) - 1)) if of_seeds else np.inf
    return _student(one.mean, variance, freedom)


def pooled_spread(one: Quantity, seeds: SeedVariance) -> Interval | None:
    """Return the interval of a mean when sentences and trainings vary, from the variance over seeds of all variants.

    None where no variant has two seeds, and where a resample has no score.
    """
    if not seeds.freedom or not one.scorable:
        return None
    variance = float(one.drawn.mean(0).var(ddof=1)) + seeds.variance / len(one.value)
    return _student(one.mean, variance, seeds.freedom)


def _student(value: float, variance: float, freedom: float) -> Interval:
    width = float(student_t.ppf((1 + CONFIDENCE) / 2, freedom)) * float(np.sqrt(variance))
    return Interval(value - width, value + width)


def percentiles(drawn: np.ndarray) -> Interval | None:
    """Return the middle 95 % of [R] resampled numbers, bounds counted as sacreBLEU counts them; None: one is NaN."""
    if np.isnan(drawn).any():
        return None
    ordered = np.sort(drawn)
    cut = len(ordered) // 40
    return Interval(float(ordered[cut]), float(ordered[len(ordered) - cut - 1]))


def p_value(drawn: np.ndarray, value: float) -> float | None:
    """Return sacreBLEU's two-sided p: how often |difference|, less its mean, exceeds |value|; None: one is NaN."""
    if np.isnan(drawn).any():
        return None
    away = np.abs(drawn)
    return float(((away - away.mean()) > abs(value)).sum() + 1) / (len(drawn) + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given; None where there is none."""
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def slope(buckets: Sequence[Quantity], source_words: Sequence[float], sentences: Sequence[int]) -> Quantity:
    """Return the slope of a length curve in BLEU per 10 source words, by least squares weighted by sentences.

    A slope is linear in the curve, so the slope of a difference is the difference of slopes.

    Args:
        buckets: B quantities, BLEU in each bucket.
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
    first, *rest = (one.times(float(factor)) for one, factor in zip(buckets, factors, strict=True))
    return sum(rest, first)


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
