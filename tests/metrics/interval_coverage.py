"""How often intervals and p-values are right, where the truth is known: python tests/metrics/interval_coverage.py

Six tables of simulations, which docs/intervals.md quotes:

means        intervals of a mean over seeds: how often they hold the truth, by the number of seeds and by the ratio of
             the variance of the mean over seeds to that over sentences. Beside the project's rule, two others: a single
             t with Satterthwaite's degrees of freedom over both parts, and a single t with those of the seeds alone.
differences  the same for differences of two variants, from their own seeds, and pooled over four variants.
p            share of differences that p <= 0.05 calls different, where there is none (type I error) and where there is
             one (power), by ours and by sacreBLEU's p.
sentences    BLEU of two equally good systems, by the number of test sentences: how often the interval holds 0, and the
             type I error of p.
slopes       the slope over sentence length of the difference of two variants: how often intervals hold the truth, over
             sentences, and over sentences and the own spread of the seeds. Beside them a bootstrap that draws sentences
             and seeds, and takes percentiles.
plateaus     the same of the plateau of a difference that flattens, where one is reported.

Words choose tables; trials=N sets how many test sets are simulated (2,000; a tenth for slopes and plateaus). The first
four take about ten minutes, each of the others as long again.
"""

import random
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from scipy.stats import t as student_t

from hourglass.metrics.likelihood import mean_quantity
from hourglass.metrics.saturation import RESAMPLES as DRAWS_OF_A_CURVE
from hourglass.metrics.saturation import Saturation, find_plateau, fit_saturating, straight_slope
from hourglass.metrics.significance import (
    Interval,
    Quantity,
    VarianceEstimate,
    compare_quantities,
    draw_resamples,
    metric_quantity,
    own_spread,
    p_value,
    percentiles,
    pool,
    satterthwaite,
)
from hourglass.metrics.translation import Bleu, bleu_statistics

SENTENCES = 200
RESAMPLES = 400
RATIOS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
SEEDS = (2, 3, 5)
VARIANTS = 4
BY_BLEU = Bleu("en")
WORDS = ("the", "a", "dog", "cat", "house", "tree", "runs", "sees", "old", "new", "small", "big", "and", "of", "to")


def half_width_by_one_t(sentences: VarianceEstimate, seeds: VarianceEstimate) -> float:
    """Return the half-width by a single t, with the degrees of freedom of Satterthwaite over both parts."""
    both = satterthwaite([sentences, seeds])
    return float(student_t.ppf(0.975, both.freedom)) * both.variance**0.5


def half_width_by_seeds(sentences: VarianceEstimate, seeds: VarianceEstimate) -> float:
    """Return the half-width by a single t, with the degrees of freedom of the seeds alone."""
    return float(student_t.ppf(0.975, seeds.freedom)) * (sentences.variance + seeds.variance) ** 0.5


@cache
def draw_again(number: int) -> np.ndarray:
    """Return one of several sets of resamples, [R, N]."""
    return draw_resamples(SENTENCES, RESAMPLES, seed=number)


def simulate_variants(draws: np.random.Generator, variants: int, seeds: int, ratio: float) -> list[Quantity]:
    """Return a quantity whose true value is 0 for each variant, on the same N sentences of variance N.

    The mean over sentences has variance 1, of which each variant has its own half, as half of a sentence's difficulty
    is the same for all. The mean over K seeds has the variance `ratio`.
    """
    counts = draw_again(int(draws.integers(50)))
    shared = draws.normal(0, (SENTENCES / 2) ** 0.5, SENTENCES)
    quantities = []
    for _ in range(variants):
        sentences = shared + draws.normal(0, (SENTENCES / 2) ** 0.5, SENTENCES)
        offsets = draws.normal(0, (ratio * seeds) ** 0.5, seeds)
        quantities.append(mean_quantity([sentences + offset for offset in offsets], counts))
    return quantities


def parts_of(drawn: np.ndarray, sides: Sequence[Quantity]) -> tuple[VarianceEstimate, VarianceEstimate]:
    """Return the variance over sentences and that over the sides' own seeds."""
    seeds = [VarianceEstimate(float(side.value.var(ddof=1)) / len(side.value), len(side.value) - 1) for side in sides]
    return VarianceEstimate(float(drawn.var(ddof=1)), SENTENCES - 1), satterthwaite(seeds)


def covers(interval: Interval | None, truth: float = 0.0) -> bool:
    """Return whether an interval holds the truth."""
    assert interval is not None
    return interval.low <= truth <= interval.high


def coverage_of_means(seeds: int, ratio: float, trials: int) -> list[float]:
    """Return shares of intervals of a mean that hold the truth: the project's, by one t, by the seeds' t.

    The last number is the median width of the project's, over that of an interval whose variances are known.
    """
    draws = np.random.default_rng([1, seeds, round(10 * ratio)])
    hits, widths = np.zeros(3), []
    for _ in range(trials):
        (item,) = simulate_variants(draws, 1, seeds, ratio)
        parts = parts_of(item.drawn.mean(0), [item])
        interval = own_spread(item)
        assert interval is not None
        others = [abs(item.mean) <= width(*parts) for width in (half_width_by_one_t, half_width_by_seeds)]
        hits += [covers(interval), *others]
        widths.append(interval.high - interval.low)
    return [*(hits / trials), float(np.median(widths)) / (2 * 1.96 * (1 + ratio) ** 0.5)]


def coverage_of_differences(seeds: int, ratio: float, trials: int) -> list[float]:
    """Return shares of intervals of a difference that hold the truth: own spread, pooled, by one t, by the seeds' t."""
    draws = np.random.default_rng([2, seeds, round(10 * ratio)])
    hits = np.zeros(4)
    for _ in range(trials):
        everyone = simulate_variants(draws, VARIANTS, seeds, ratio)
        first, other = everyone[:2]
        difference = compare_quantities(first, other, pool(everyone))
        parts = parts_of(first.drawn.mean(0) - other.drawn.mean(0), [first, other])
        hits += [
            covers(difference.own_spread),
            covers(difference.architecture),
            *(abs(difference.value) <= width(*parts) for width in (half_width_by_one_t, half_width_by_seeds)),
        ]
    return list(hits / trials)


def p_of_sacrebleu(drawn: np.ndarray, value: float) -> float:
    """Return the p of sacreBLEU's paired bootstrap, which centres absolute values."""
    away = np.abs(drawn)
    return float((away - away.mean() > abs(value)).sum() + 1) / (len(drawn) + 1)


def rejections(lead: float, trials: int, p_of: Callable[[np.ndarray, float], float | None] = p_value) -> float:
    """Return the share of differences that p <= 0.05 calls different.

    Args:
        lead: the true difference, in standard errors of the difference.
        trials: how many test sets are simulated.
        p_of: of the resampled differences and the difference.
    """
    draws = np.random.default_rng(3)
    counts = draw_resamples(SENTENCES, RESAMPLES)
    differences = draws.normal(lead / SENTENCES**0.5, 1, (SENTENCES, trials))
    values, drawn = differences.mean(0), counts @ differences / SENTENCES
    p_values = [p_of(drawn[:, trial], float(values[trial])) for trial in range(trials)]
    return float(np.mean([p is not None and p <= 0.05 for p in p_values]))


@cache
def statistics_of_two_systems(share: float) -> np.ndarray:
    """Return BLEU's counts [2, sentences, 10] of two systems that have a share of the words wrong."""
    choose = random.Random(4)
    references = [" ".join(choose.choices(WORDS, k=choose.randrange(6, 20))) for _ in range(4000)]
    outputs = [spoilt(references, share, seed) for seed in (5, 6)]
    return np.stack([bleu_statistics(output, references, "en") for output in outputs])


def spoilt(references: Sequence[str], share: float, seed: int) -> list[str]:
    """Return references in which words are replaced, and some left out; the share differs from one to the next."""
    choose = random.Random(seed)
    outputs = []
    for text in references:
        wrong = min(1.0, 2 * share * choose.random())
        words = [choose.choice(WORDS) if choose.random() < wrong else word for word in text.split()]
        outputs.append(" ".join(word for word in words if choose.random() > wrong / 4))
    return outputs


def bleu_of_few_sentences(sentences: int, share: float, trials: int) -> list[float]:
    """Return how often the interval of a difference holds 0, and how often p <= 0.05; the systems are equally good.

    Args:
        sentences: of the test set.
        share: of the words that are wrong.
        trials: how many test sets are simulated.
    """
    draws, pair = np.random.default_rng([4, sentences]), statistics_of_two_systems(share)
    counts = draw_resamples(sentences, RESAMPLES)
    held = rejected = 0
    for _ in range(trials):
        rows = draws.integers(pair.shape[1], size=sentences)
        # Each sentence's two outputs change places at random, so that neither system is better.
        first = draws.integers(2, size=sentences)
        left, other = (metric_quantity(BY_BLEU, [pair[side, rows]], counts) for side in (first, 1 - first))
        drawn = left.drawn[0] - other.drawn[0]
        p = p_value(drawn, left.mean - other.mean)
        held += covers(percentiles(drawn))
        rejected += p is not None and p <= 0.05
    return [held / trials, rejected / trials]


# Of the simulated curves: bits per source word, and the plateau and its bend in source words.
SLOPE, PLATEAU, BEND = 3.0, 60.0, 6.0
SENTENCES_OF_A_PLATEAU = 800


def simulate_pair(
    draws: np.random.Generator, seeds: int, spread: float, curve: Callable[[np.ndarray], np.ndarray], sentences: int
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return lengths [N] and, for each seed of two variants, bits [N] whose true difference is the curve.

    A sentence's difficulty is the same for both variants. Each seed stretches its variant's curve.

    Args:
        draws: of all random numbers.
        seeds: of each variant.
        spread: standard deviation over seeds, as a share of the curve.
        curve: of the lengths.
        sentences: N.
    """
    x = draws.integers(1, 41, sentences).astype(float)
    shared = draws.normal(0, 3, sentences) * np.sqrt(x)

    def variant(level: float) -> list[np.ndarray]:
        return [
            level * curve(x) + spread * draws.normal() * curve(x) + shared + draws.normal(0, 2, sentences) * np.sqrt(x)
            for _ in range(seeds)
        ]

    return x, variant(2.0), variant(1.0)


def draw_both(
    draws: np.random.Generator,
    x: np.ndarray,
    sides: Sequence[Sequence[np.ndarray]],
    statistic: Callable[[np.ndarray, np.ndarray], float],
) -> Interval | None:
    """Return the percentile interval of a bootstrap that draws sentences, and the seeds of each variant."""
    drawn = []
    for _ in range(DRAWS_OF_A_CURVE):
        rows = draws.integers(len(x), size=len(x))
        first, other = (np.mean([side[i] for i in draws.integers(len(side), size=len(side))], 0) for side in sides)
        drawn.append(statistic(x[rows], (first - other)[rows]))
    return percentiles(np.array(drawn))


def plateau_of(x: np.ndarray, y: np.ndarray) -> float:
    """Return the height that the saturating curve comes to."""
    return float(fit_saturating(x, y)(np.array([1e9]))[0])


def coverage_of_curves(seeds: int, spread: float, trials: int, flattens: bool) -> list[float]:
    """Return shares of intervals of a slope, or of a plateau, that hold the truth.

    Over sentences, with the own spread of the seeds (NaN of one seed), and by a bootstrap over both; last the share of
    curves that have such intervals.
    """
    random_numbers = np.random.default_rng([5, seeds, round(100 * spread), flattens])
    hits, reported = np.zeros(3), 0
    curve = (lambda x: PLATEAU * (1 - np.exp(-x / BEND))) if flattens else (lambda x: SLOPE * x)
    truth, statistic = (PLATEAU, plateau_of) if flattens else (SLOPE, straight_slope)
    for trial in range(trials):
        x, first, other = simulate_pair(
            random_numbers, seeds, spread, curve, SENTENCES_OF_A_PLATEAU if flattens else SENTENCES
        )
        fitted: Saturation = find_plateau(x, first, other, seed=trial)
        own = fitted.plateau_own_spread if flattens else fitted.slope_own_spread
        if flattens and (fitted.plateau is None or fitted.flat):
            continue
        reported += 1
        over_sentences = fitted.plateau_interval if flattens else fitted.slope_interval
        both = draw_both(random_numbers, x, [first, other], statistic)
        hits += [covers(over_sentences, truth), np.nan if own is None else covers(own, truth), covers(both, truth)]
    return [*(hits / reported if reported else np.full(3, np.nan)), reported / trials]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(head)} |\n|{' --: |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def percent(shares: Sequence[float]) -> list[str]:
    """Return shares in percent, to one decimal; a dash for NaN."""
    return ["-" if np.isnan(share) else f"{100 * share:.1f}" for share in shares]


def print_means(trials: int) -> None:
    """Print the table `means`."""
    rows = []
    for seeds in SEEDS:
        for ratio in RATIOS:
            *shares, width = coverage_of_means(seeds, ratio, trials)
            rows.append([str(seeds), f"{ratio:g}", *percent(shares), f"{width:.1f}"])
    print("Intervals of a mean that hold the truth, %\n")
    head = ["seeds", "seeds / sentences", "ours", "one t, Satterthwaite", "one t, of seeds"]
    print_table([*head, "width of ours, over that of known variances"], rows)


def print_differences(trials: int) -> None:
    """Print the table `differences`."""
    rows = [
        [str(seeds), f"{ratio:g}", *percent(coverage_of_differences(seeds, ratio, trials))]
        for seeds in SEEDS
        for ratio in RATIOS
    ]
    print("Intervals of a difference that hold the truth, %\n")
    head = ["seeds", "seeds / sentences", "ours, own spread", "ours, pooled over 4 variants"]
    print_table([*head, "one t, Satterthwaite, own spread", "one t, of seeds, own spread"], rows)


def print_p(trials: int) -> None:
    """Print the table `p`."""
    rows = [
        [f"{lead:g}", *percent([rejections(lead, trials), rejections(lead, trials, p_of_sacrebleu)])]
        for lead in (0.0, 1.0, 2.0, 2.8, 4.0)
    ]
    print("Differences with p <= 0.05, %\n")
    print_table(["true difference, standard errors", "ours", "sacreBLEU's"], rows)


def print_sentences(trials: int) -> None:
    """Print the table `sentences`."""
    rows = [
        [str(sentences), f"{share:g}", *percent(bleu_of_few_sentences(sentences, share, trials))]
        for sentences in (2, 5, 10, 20, 30, 50, 100)
        for share in (0.05, 0.3)
    ]
    print("BLEU of two equally good systems, %\n")
    print_table(["sentences", "share of wrong words", "interval holds 0", "p <= 0.05"], rows)


def print_curves(trials: int, flattens: bool) -> None:
    """Print the table `slopes` or `plateaus`, of a tenth of the test sets: many curves are fitted for each."""
    trials = max(trials // 10, 1)
    rows = [
        [str(seeds), f"{100 * spread:g}", *percent(coverage_of_curves(seeds, spread, trials, flattens))]
        for seeds in (1, *SEEDS)
        for spread in (0.0, 0.03, 0.1)
    ]
    what = "a plateau" if flattens else "a slope"
    of = f" ({trials} test sets{f' of {SENTENCES_OF_A_PLATEAU} sentences' if flattens else ''})"
    print(f"Intervals of {what} of the difference of two variants that hold the truth, %{of}\n")
    head = ["seeds", "spread of seeds, % of the curve", "over sentences", "own spread", "bootstrap of both"]
    print_table([*head, "reported"], rows)


TABLES: dict[str, Callable[[int], None]] = {
    "means": print_means,
    "differences": print_differences,
    "p": print_p,
    "sentences": print_sentences,
    "slopes": partial(print_curves, flattens=False),
    "plateaus": partial(print_curves, flattens=True),
}


def main(words: Sequence[str]) -> None:
    """Print the tables that are named, or all."""
    trials = next((int(word.removeprefix("trials=")) for word in words if word.startswith("trials=")), 2000)
    names = [word for word in words if not word.startswith("trials=")]
    if unknown := [name for name in names if name not in TABLES]:
        raise SystemExit(f"error: {unknown[0]}: no such table; choose from {', '.join(TABLES)}")
    print(f"{trials:,} test sets of {SENTENCES} sentences each, if not said otherwise\n")
    for name in names or TABLES:
        TABLES[name](trials)


if __name__ == "__main__":
    main(sys.argv[1:])
