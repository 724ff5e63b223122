"""Decide whether a curve over sentence length flattens: a straight line against a saturating one, on held-out data.

straight:    y = a + b x
saturating:  y = p (1 - exp(-x / tau)), which flattens at the plateau p

Both have two parameters and the same noise model: a variance proportional to x, as for a sum of x independent words.
A plateau is reported only if all three hold: held-out likelihood prefers the saturating curve; that curve reaches 90 %
of its plateau within the observed lengths; and the longest third of the sentences is flat by itself, because many
curves that bend go on rising, or fall again. A curve that is flat over all observed lengths has no bend, so neither
model is more likely: its plateau is its mean.

The curve is a mean over the seeds of one variant, or that of one variant less that of another, sentence by sentence.
An interval "over sentences" is the bootstrap's: it speaks of these trained models. One with the "own spread" of the
seeds speaks of the architectures, by the rule of `significance`: the squares of the half-widths over sentences and over
seeds add up, each with its own degrees of freedom. The variance over seeds is the jackknife's (Efron and Stein 1981),
for each variant by itself: it is exact for a slope, which is linear in the values, and needs no second draw of two or
three seeds, of which a bootstrap's spread would be a half or a third too small. `interval_coverage.py curves` in
tests/metrics/ simulates how often both hold the truth.

Shapes: N sentences, K seeds of a variant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from hourglass.metrics.significance import (
    FEWEST_SENTENCES,
    Interval,
    VarianceEstimate,
    half_width,
    percentiles,
    satterthwaite,
)

FOLDS = 10


RESAMPLES = 200


# Share of its plateau that a curve has to reach within the observed lengths.
REACHED = 0.9


# Standard errors by which held-out likelihood has to prefer the saturating curve.
ERRORS = 2.0


# Fewest sentences from which flatness is judged.
FEWEST = 20


# A flat curve changes by less than this share of its height over a range of lengths, with 95 % confidence.
FLAT = 0.1


Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Saturation:
    """Slope and plateau of a curve over sentence length.

    Attributes:
        slope: of the straight line, y per unit of x.
        slope_interval: 95 %, over sentences; the trained models do not vary, whether there is one seed or several. None
            of fewer than 30 sentences.
        gain: held-out log-likelihood of the saturating curve less that of the straight one, nats over all sentences.
        gain_error: its standard error over sentences.
        plateau: p, or the mean of a flat curve; None if no plateau can be reported.
        plateau_interval: 95 %, over sentences.
        flat: whether the curve is flat from `shortest` to `longest`, without a bend.
        shortest: the 5th percentile of x.
        longest: the 95th percentile of x; few sentences are longer.
        slope_own_spread: 95 %, over sentences and the variants' own seeds; None where a variant has a single seed,
            whose spread is unknown, and in older results.
        plateau_own_spread: the same of the plateau.
    """

    slope: float
    slope_interval: Interval | None
    gain: float
    gain_error: float
    plateau: float | None
    plateau_interval: Interval | None
    flat: bool
    shortest: float
    longest: float
    slope_own_spread: Interval | None = None  # Older results lack it.
    plateau_own_spread: Interval | None = None  # Older results lack it.


def find_plateau(
    x: np.ndarray, values: Sequence[np.ndarray], less: Sequence[np.ndarray] = (), seed: int = 12345
) -> Saturation:
    """Fit both curves and decide between them, for these trained models.

    Args:
        x: [N] lengths, above 0.
        values: of each of K seeds of a variant, [N] at these lengths.
        less: of each seed of another variant, on the same sentences: the curve is that of the differences, and a
            plateau may lie below zero. Empty: the curve is that of `values`.
        seed: of folds and resamples.
    """
    x = np.asarray(x, dtype=float)
    sides = [[np.asarray(each, dtype=float) for each in side] for side in (values, less) if len(side)]
    y = _curve(sides)
    random = np.random.default_rng(seed)
    fold = random.permutation(len(x)) % FOLDS
    gains = np.empty(len(x))
    for number in range(FOLDS):
        inside, outside = fold == number, fold != number
        gains[inside] = log_likelihood(x[outside], y[outside], x[inside], y[inside], fit_saturating) - log_likelihood(
            x[outside], y[outside], x[inside], y[inside], fit_straight
        )
    gain, error = float(gains.sum()), float(gains.std(ddof=1) * np.sqrt(len(gains)))
    drawn = [random.integers(len(x), size=len(x)) for _ in range(RESAMPLES)]
    slopes = np.array([_straight(x[rows], y[rows])[1] for rows in drawn])
    shortest, longest = (float(np.quantile(x, share)) for share in (0.05, 0.95))
    p, tau = _saturating(x, y)
    plateau: float | None = None
    interval: Interval | None = None
    statistic: Callable[[np.ndarray, np.ndarray], float] = _mean
    flat = _is_flat(x, y, drawn, (shortest, longest), float(y.mean()))
    if flat:
        plateau = float(y.mean())
    elif (
        gain > ERRORS * error
        and longest >= -tau * np.log(1 - REACHED)
        and _is_flat(x, y, drawn, (float(np.quantile(x, 2 / 3)), longest), p)
    ):
        plateau, statistic = p, _height
    plateaus = np.array([] if plateau is None else [statistic(x[rows], y[rows]) for rows in drawn])
    if plateau is not None:
        interval = percentiles(plateaus)
    # A plateau at zero shows no information, not a full vector; nor does one of bits below zero.
    if interval is None or interval.holds(0) or (interval.high < 0 and not len(less)):
        plateau, interval, flat = None, None, False
    return Saturation(
        slope=straight_slope(x, y),
        slope_interval=percentiles(slopes) if len(x) >= FEWEST_SENTENCES else None,
        gain=gain,
        gain_error=error,
        plateau=plateau,
        plateau_interval=interval,
        flat=flat,
        shortest=shortest,
        longest=longest,
        slope_own_spread=_own_spread(x, sides, straight_slope, slopes),
        plateau_own_spread=None if plateau is None else _own_spread(x, sides, statistic, plateaus),
    )


def _curve(sides: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return [N]: the mean over seeds of the first side, less that of the second if there is one."""
    first, *rest = (np.mean(side, 0) for side in sides)
    curve: np.ndarray = first - rest[0] if rest else first
    return curve


def _own_spread(
    x: np.ndarray,
    sides: Sequence[Sequence[np.ndarray]],
    statistic: Callable[[np.ndarray, np.ndarray], float],
    drawn: np.ndarray,
) -> Interval | None:
    """Return the interval of a statistic when sentences and seeds vary.

    None where a side has a single seed, and of too few sentences.

    Args:
        x: [N].
        sides: [N] of each seed, for one variant or two.
        statistic: of x and the curve.
        drawn: [R] the statistic on resamples of the sentences.
    """
    if min(map(len, sides)) < 2 or len(x) < FEWEST_SENTENCES:
        return None
    seeds = []
    for number, side in enumerate(sides):
        without = [
            [*sides[:number], [*side[:left_out], *side[left_out + 1 :]], *sides[number + 1 :]]
            for left_out in range(len(side))
        ]
        values = np.array([statistic(x, _curve(rest)) for rest in without])
        freedom = len(side) - 1
        seeds.append(VarianceEstimate(freedom * float(values.var()), freedom))
    width = half_width([VarianceEstimate(float(drawn.var(ddof=1)), len(x) - 1), satterthwaite(seeds)])
    value = statistic(x, _curve(sides))
    return Interval(value - width, value + width)


def _mean(x: np.ndarray, y: np.ndarray) -> float:
    return float(y.mean())


def _height(x: np.ndarray, y: np.ndarray) -> float:
    """Return the plateau of the saturating curve."""
    return _saturating(x, y)[0]


def _is_flat(
    x: np.ndarray, y: np.ndarray, drawn: list[np.ndarray], between: tuple[float, float], height: float
) -> bool:
    """Whether y changes by less than the share FLAT of `height` between two x, judged from the points there."""
    first, last = between
    inside = (x >= first) & (x <= last)
    if first >= last or inside.sum() < FEWEST:  # A single length, or too few sentences.
        return False
    slopes = np.array([_straight(x[rows][inside[rows]], y[rows][inside[rows]])[1] for rows in drawn])
    interval, most = percentiles(slopes), FLAT * abs(height) / (last - first)
    return interval is not None and -most < interval.low and interval.high < most


def log_likelihood(
    x: np.ndarray,
    y: np.ndarray,
    held_x: np.ndarray,
    held_y: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Curve],
) -> np.ndarray:
    """Return the log-likelihood of each held-out y under a curve fitted to (x, y), with noise N(0, s^2 x)."""
    curve = fit(x, y)
    variance = np.mean((y - curve(x)) ** 2 / x)
    spread = variance * held_x
    likelihood: np.ndarray = -0.5 * (np.log(2 * np.pi * spread) + (held_y - curve(held_x)) ** 2 / spread)
    return likelihood


def straight_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the line of `fit_straight`, y per unit of x."""
    return _straight(x, y)[1]


def fit_straight(x: np.ndarray, y: np.ndarray) -> Curve:
    """Fit a straight line by least squares with weights 1/x."""
    a, b = _straight(x, y)
    return lambda at: a + b * at


def fit_saturating(x: np.ndarray, y: np.ndarray) -> Curve:
    """Fit a saturating curve by least squares with weights 1/x."""
    p, tau = _saturating(x, y)
    return lambda at: p * (1 - np.exp(-at / tau))


def _straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    weight = 1 / x
    centre, mean = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = float((weight * (x - centre) ** 2).sum())
    b = float((weight * (x - centre) * (y - mean)).sum()) / spread if spread else 0.0
    return float(mean - b * centre), b


def _saturating(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return p and tau. Given tau, the best p has a closed form, so the search is over tau alone.

    It ranges from a curve that is a step to one that is nearly a straight line.
    """

    def best(log_tau: float) -> tuple[float, float]:
        shape = -np.expm1(-x / np.exp(log_tau))
        p = float((y * shape / x).sum() / (shape**2 / x).sum())
        return float(((y - p * shape) ** 2 / x).sum()), p

    low, high = np.log(x.min() / 5), np.log(x.max() * 100)
    grid = np.linspace(low, high, 40)
    shapes = -np.expm1(-x / np.exp(grid)[:, None])  # [40, N]
    heights = (y * shapes / x).sum(1) / (shapes**2 / x).sum(1)
    start = int(np.argmin(((y - heights[:, None] * shapes) ** 2 / x).sum(1)))
    bounds = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    log_tau = float(minimize_scalar(lambda value: best(value)[0], bounds=bounds, method="bounded").x)
    return best(log_tau)[1], float(np.exp(log_tau))
