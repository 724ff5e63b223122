"""Straight against saturating, on curves that are known, and against scipy's own fitting."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import curve_fit

from hourglass.metrics.saturation import find_plateau, fit_saturating, fit_straight

RANDOM = np.random.default_rng(3)
X = RANDOM.integers(1, 41, size=800).astype(float)
NOISE = RANDOM.normal(size=800) * np.sqrt(X)


def test_a_curve_that_flattens_has_its_plateau_inside_the_interval() -> None:
    result = find_plateau(X, [60 * (1 - np.exp(-X / 8)) + 2 * NOISE])
    assert result.plateau is not None
    assert result.plateau_interval is not None
    assert result.plateau_interval.low < 60 < result.plateau_interval.high
    assert result.plateau_interval.high - result.plateau_interval.low < 6


@pytest.mark.parametrize("intercept", [0.0, 5.0])
def test_a_straight_line_has_none_and_its_slope_inside_the_interval(intercept: float) -> None:
    result = find_plateau(X, [intercept + 3 * X + 2 * NOISE])
    assert (result.plateau, result.plateau_interval, result.longest) == (None, None, np.quantile(X, 0.95))
    assert result.slope_interval is not None
    assert result.slope_interval.low < 3 < result.slope_interval.high


def test_a_plateau_beyond_the_lengths_that_were_seen_is_not_reported() -> None:
    """It bends, and clearly so, but what it bends to is a guess."""
    result = find_plateau(X, [300 * (1 - np.exp(-X / 40)) + NOISE])
    assert result.gain > 2 * result.gain_error
    assert result.plateau is None


def test_nothing_but_noise_is_no_plateau() -> None:
    assert find_plateau(X, [NOISE]).plateau is None
    assert not find_plateau(X, [NOISE]).flat


def test_what_is_full_before_the_shortest_is_flat_at_its_mean() -> None:
    x = RANDOM.integers(6, 27, size=2000).astype(float)
    result = find_plateau(x, [12 + RANDOM.normal(size=2000) * np.sqrt(x)])
    assert result.flat
    assert result.plateau_interval is not None
    assert result.plateau_interval.low < 12 < result.plateau_interval.high
    assert (result.shortest, result.longest) == (np.quantile(x, 0.05), np.quantile(x, 0.95))
    assert result.slope_interval is not None
    assert result.slope_interval.low < 0 < result.slope_interval.high


@pytest.mark.parametrize("count", [3, 5, 12])
def test_a_handful_of_sentences_is_no_curve(count: int) -> None:
    assert find_plateau(np.arange(1.0, count + 1), [7 + 0.1 * NOISE[:count]]).plateau is None


def test_one_length_says_nothing_of_flatness() -> None:
    x = np.full(500, 9.0)
    assert find_plateau(x, [12 + RANDOM.normal(size=500)]).plateau is None


@pytest.mark.parametrize(
    "curve",
    [
        lambda x: 30 * (1 - np.exp(-x / 3)) + x,  # Bends, and goes on rising.
        lambda x: np.where(x < 20, 3 * x, 60 - 0.5 * (x - 20)),  # Rises to 60, and falls again.
        lambda x: 30 * (1 - np.exp(-x / 2)) * (1 - 0.008 * x),  # Rises at once, and falls all the way.
    ],
)
def test_what_bends_need_not_flatten(curve: Callable[[np.ndarray], np.ndarray]) -> None:
    result = find_plateau(X, [curve(X) + 2 * NOISE])
    assert result.gain > 2 * result.gain_error  # It bends.
    assert result.plateau is None


def test_both_fits_are_those_of_weighted_least_squares() -> None:
    y = 60 * (1 - np.exp(-X / 8)) + 2 * NOISE
    at = np.linspace(1, 40, 7)
    line, _ = curve_fit(lambda x, a, b: a + b * x, X, y, sigma=np.sqrt(X))
    assert fit_straight(X, y)(at) == pytest.approx(line[0] + line[1] * at, rel=1e-6)
    (p, tau), _ = curve_fit(lambda x, p, tau: p * (1 - np.exp(-x / tau)), X, y, p0=(50, 10), sigma=np.sqrt(X))
    assert fit_saturating(X, y)(at) == pytest.approx(p * (1 - np.exp(-at / tau)), rel=1e-3)
