"""Decide whether a curve over sentence length flattens: a straight line against a saturating one, on held-out data.

straight:    y = a + b x
saturating:  y = p (1 - exp(-x / tau)), which flattens at the plateau p

Both have two parameters and the same noise model: a variance proportional to x, as for a sum of x independent words.
A plateau is reported only if all three hold: held-out likelihood prefers the saturating curve; that curve reaches 90 %
of its plateau within the observed lengths; and the longest third of the sentences is flat by itself, because many
curves that bend go on rising, or fall again. A curve that is flat over all observed lengths has no bend, so neither
model is more likely: its plateau is its mean.

Shapes: N sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from hourglass.metrics.significance import Interval, percentiles

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
        slope_interval: 95 %, over sentences.
        gain: held-out log-likelihood of the saturating curve less that of the straight one, nats over all sentences.
        gain_error: its standard error over sentences.
        plateau: p, or the mean of a flat curve; None if no plateau can be reported.
        plateau_interval: 95 %, over sentences.
        flat: whether the curve is flat from `shortest` to `longest`, without a bend.
        shortest: the 5th percentile of x.
        longest: the 95th percentile of x; few sentences are longer.
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
        y: [N] values at these lengths.
        seed: of folds and resamples.
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
    if interval is None or interval.low <= 0:  # A plateau at zero shows no information, not a full vector.
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
    """Whether y changes by less than the share FLAT of `height` between two x, judged from the points there."""
    first, last = between
    inside = (x >= first) & (x <= last)
    if first >= last or inside.sum() < FEWEST:  # A single length, or too few sentences.
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
    start = int(np.argmin([best(value)[0] for value in grid]))
    bounds = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    log_tau = float(minimize_scalar(lambda value: best(value)[0], bounds=bounds, method="bounded").x)
    return best(log_tau)[1], float(np.exp(log_tau))
