"""Does a curve over sentence length flatten? A straight line against one that saturates, judged on held-out sentences.

straight:    y = a + b x
saturating:  y = p (1 - exp(-x / tau)), which flattens at the plateau p

Both have two parameters and the same noise, of a variance that grows with x as that of a sum of x words does. The
plateau is reported only where held-out likelihood prefers the saturating curve, where that has come near it (to 90 %)
within the lengths that were seen, and where the longest third of the sentences is flat by itself: much that bends goes
on rising, or falls again. A curve that is flat over all lengths that were seen bends nowhere: neither is the
likelier, and the plateau is its mean.

Shapes: N sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from hourglass.metrics.significance import Interval, percentiles

FOLDS = 10


RESAMPLES = 200


# Share of its plateau that a curve has to reach within the lengths that were seen.
REACHED = 0.9


# Standard errors by which the saturating curve has to be the likelier one.
ERRORS = 2.0


# Fewer sentences are no curve.
FEWEST = 20


# What is flat changes over the lengths looked at by less than this share of its height, with 95 % confidence.
FLAT = 0.1


Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Saturation:
    """What the lengths say of a curve.

    Attributes:
        slope: of the straight line, y for each unit of x.
        slope_interval: 95 %, over sentences.
        gain: held-out log-likelihood of the saturating curve less that of the straight one, nats in all.
        gain_error: its standard error over sentences.
        plateau: p, or the mean where it is flat; None where there is none to report.
        plateau_interval: 95 %, over sentences.
        flat: whether there is no bend, the curve being flat from the shortest to the longest.
        shortest: the 5th percentile of x.
        longest: the 95th percentile of x: beyond it there is little to go by.
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


def find_plateau(x: np.ndarray, y: np.ndarray, seed: int = 12345) -> Saturation:
    """Fit both curves and decide between them.

    Args:
        x: [N] lengths, above 0.
        y: [N] what is measured at them.
        seed: of the folds and the resamples.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
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
    flat = _is_flat(x, y, drawn, (shortest, longest), float(y.mean()))
    if flat:
        plateau, interval = float(y.mean()), percentiles(np.array([y[rows].mean() for rows in drawn]))
    elif (
        gain > ERRORS * error
        and longest >= -tau * np.log(1 - REACHED)
        and _is_flat(x, y, drawn, (float(np.quantile(x, 2 / 3)), longest), p)
    ):
        plateau, interval = p, percentiles(np.array([_saturating(x[rows], y[rows])[0] for rows in drawn]))
    if interval is None or interval.low <= 0:  # Nothing at all is no plateau.
        plateau, interval, flat = None, None, False
    return Saturation(
        slope=straight_slope(x, y),
        slope_interval=percentiles(slopes),
        gain=gain,
        gain_error=error,
        plateau=plateau,
        plateau_interval=interval,
        flat=flat,
        shortest=shortest,
        longest=longest,
    )


def _is_flat(
    x: np.ndarray, y: np.ndarray, drawn: list[np.ndarray], between: tuple[float, float], height: float
) -> bool:
    """Say whether y certainly changes by less than a share of `height` between two x, by what lies there."""
    first, last = between
    inside = (x >= first) & (x <= last)
    if first >= last or inside.sum() < FEWEST:  # All of one length, or hardly any: nothing can be seen of it.
        return False
    slopes = np.array([_straight(x[rows][inside[rows]], y[rows][inside[rows]])[1] for rows in drawn])
    interval, most = percentiles(slopes), FLAT * height / (last - first)
    return interval is not None and -most < interval.low and interval.high < most


def log_likelihood(
    x: np.ndarray,
    y: np.ndarray,
    held_x: np.ndarray,
    held_y: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Curve],
) -> np.ndarray:
    """Return the log-likelihood of each held-out y under a curve fitted to the others, with noise N(0, s^2 x)."""
    curve = fit(x, y)
    variance = np.mean((y - curve(x)) ** 2 / x)
    spread = variance * held_x
    found: np.ndarray = -0.5 * (np.log(2 * np.pi * spread) + (held_y - curve(held_x)) ** 2 / spread)
    return found


def straight_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of `fit_straight`'s line, y for each unit of x."""
    return _straight(x, y)[1]


def fit_straight(x: np.ndarray, y: np.ndarray) -> Curve:
    """Return the straight line of the least squares, weighted by 1/x."""
    a, b = _straight(x, y)
    return lambda at: a + b * at


def fit_saturating(x: np.ndarray, y: np.ndarray) -> Curve:
    """Return the saturating curve of the least squares, weighted by 1/x."""
    p, tau = _saturating(x, y)
    return lambda at: p * (1 - np.exp(-at / tau))


def _straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    weight = 1 / x
    centre, mean = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = float((weight * (x - centre) ** 2).sum())
    b = float((weight * (x - centre) * (y - mean)).sum()) / spread if spread else 0.0
    return float(mean - b * centre), b


def _saturating(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Given tau the best p is a weighted mean; so only tau is searched, from a step to nearly a straight line."""

    def best(log_tau: float) -> tuple[float, float]:
        shape = -np.expm1(-x / np.exp(log_tau))
        p = float((y * shape / x).sum() / (shape**2 / x).sum())
        return float(((y - p * shape) ** 2 / x).sum()), p

    low, high = np.log(x.min() / 5), np.log(x.max() * 100)
    grid = np.linspace(low, high, 40)
    start = int(np.argmin([best(value)[0] for value in grid]))
    bounds = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    log_tau = float(minimize_scalar(lambda value: best(value)[0], bounds=bounds, method="bounded").x)
    return best(log_tau)[1], float(np.exp(log_tau))
