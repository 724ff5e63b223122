"""Straight against saturating, on curves that are known, and against scipy's own fitting."""

from collections.abc import Callable

import numpy as np
import pytest
from interval_coverage import PLATEAU, SLOPE, coverage_of_curves, simulate_pair
from scipy.optimize import curve_fit
from scipy.stats import t as student_t

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


def pair(seeds: int, spread: float) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return lengths, and the bits of each seed of two variants, whose difference grows with length."""
    return simulate_pair(np.random.default_rng(6), seeds, spread, lambda x: SLOPE * x, 800)


def flat_pair() -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return the same of a difference that levels off, of two seeds and little noise."""
    x, curve = X[:300], PLATEAU * (1 - np.exp(-X[:300] / 4))
    first, other = ([level * curve + RANDOM.normal(0, 1, 300) for _ in range(2)] for level in (2, 1))
    return x, first, other


def test_what_two_variants_share_cancels_in_their_difference() -> None:
    """A blind decoder, and the difficulty of each sentence: the curve is that of the difference, to the last digit."""
    x, first, other = pair(3, 0.05)
    blind = RANDOM.normal(0, 100, len(x))
    plain, against_blind = (
        find_plateau(x, first, other),
        find_plateau(x, [blind + each for each in first], [blind + each for each in other]),
    )
    assert plain.slope == pytest.approx(against_blind.slope, abs=1e-9)
    assert plain.slope_own_spread is not None
    assert against_blind.slope_own_spread is not None
    assert plain.slope_own_spread.low == pytest.approx(against_blind.slope_own_spread.low, abs=1e-9)
    assert plain.slope == pytest.approx(find_plateau(x, [np.mean(first, 0) - np.mean(other, 0)]).slope)


def test_the_interval_of_a_slope_adds_sentences_and_seeds() -> None:
    """As that of any other difference: the squares of the half-widths, each by its own t."""
    x, first, other = pair(3, 0.1)
    result = find_plateau(x, first, other)
    slopes = [[np.polyfit(x, each, 1, w=1 / np.sqrt(x))[0] for each in side] for side in (first, other)]
    variances = [np.var(side, ddof=1) / 3 for side in slopes]
    freedom = sum(variances) ** 2 / sum(variance**2 / 2 for variance in variances)  # Welch 1947.
    seeds = student_t.ppf(0.975, freedom) * sum(variances) ** 0.5
    assert result.slope_interval is not None
    assert result.slope_own_spread is not None
    sentences = (result.slope_interval.high - result.slope_interval.low) / 2
    width = (result.slope_own_spread.high - result.slope_own_spread.low) / 2
    assert width == pytest.approx((seeds**2 + sentences**2) ** 0.5, rel=0.02)
    assert (result.slope_own_spread.high + result.slope_own_spread.low) / 2 == pytest.approx(result.slope)


def test_one_seed_has_an_interval_over_sentences_alone() -> None:
    x, first, other = flat_pair()
    for one in (find_plateau(x, first[:1], other), find_plateau(x, first, other[:1])):
        assert one.slope_own_spread is None
        assert one.plateau_own_spread is None
    both = find_plateau(x, first, other)
    assert both.plateau_interval is not None
    assert both.plateau_own_spread is not None
    assert both.plateau_own_spread.low < both.plateau_interval.low < both.plateau_interval.high
    assert both.plateau_interval.high < both.plateau_own_spread.high


def test_only_a_difference_levels_off_below_zero() -> None:
    x, first, other = flat_pair()
    lead, lag = find_plateau(x, first, other), find_plateau(x, other, first)
    assert lead.plateau is not None
    assert lag.plateau == pytest.approx(-lead.plateau)
    assert find_plateau(x, [np.mean(other, 0) - np.mean(first, 0)]).plateau is None


def test_fewer_than_30_sentences_have_no_interval() -> None:
    x, first, other = pair(2, 0.0)
    few = find_plateau(x[:29], [each[:29] for each in first], [each[:29] for each in other])
    assert (few.slope_interval, few.slope_own_spread) == (None, None)


@pytest.mark.more
@pytest.mark.slow
def test_intervals_of_a_slope_hold_the_truth() -> None:
    """Over sentences and seeds; those over sentences alone do not hold that of the architectures."""
    over_sentences, own_spread, both, _ = coverage_of_curves(seeds=3, spread=0.1, trials=40, flattens=False)
    assert own_spread >= 0.84  # Three standard errors below 95 % of 40.
    assert over_sentences < 0.6
    assert both < own_spread


@pytest.mark.slow
@pytest.mark.more
def test_intervals_of_a_plateau_hold_the_truth() -> None:
    over_sentences, own_spread, _, reported = coverage_of_curves(seeds=3, spread=0.1, trials=20, flattens=True)
    assert reported > 0.5
    assert own_spread >= 0.8
    assert over_sentences < 0.6


@pytest.mark.slow
@pytest.mark.more
def test_equal_variants_differ_in_slope_in_few_cases() -> None:
    """The type I error at 5 %: two variants of one slope, whose seeds differ."""
    random, different = np.random.default_rng(7), np.zeros(2)
    for trial in range(100):
        x = random.integers(1, 41, 200).astype(float)
        seeds = [random.normal(0, 0.3) * x + random.normal(0, 2, 200) * np.sqrt(x) for _ in range(6)]
        result = find_plateau(x, seeds[:3], seeds[3:], seed=trial)
        for at, interval in enumerate((result.slope_own_spread, result.slope_interval)):
            assert interval is not None
            different[at] += not interval.low <= 0 <= interval.high
    assert different[0] <= 12  # Three standard errors above 5 of 100.
    assert different[1] > 30  # What sentences alone would call different.
