"""The bootstrap against sacreBLEU's own, against plain loops, and against cases whose answer is known."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import run_script
from sacrebleu.metrics import BLEU
from scipy import stats

from hourglass.errors import UserError
from hourglass.metrics.significance import (
    FEWEST_SENTENCES,
    AdjustedDifference,
    Difference,
    Interval,
    Quantity,
    VarianceEstimate,
    adjust_differences,
    compare_quantities,
    converged,
    draw_resamples,
    holm,
    metric_quantity,
    own_spread,
    p_value,
    percentiles,
    pool,
    pooled_spread,
    satterthwaite,
    slope,
)
from hourglass.metrics.translation import Bleu, bleu_statistics

BY_BLEU = Bleu("en")
WORDS = ["the", "a", "dog", "cat", "house", "tree", "runs", "sees", "old", "new", "small", "big", "and", "of", "to"]


def corpus(sentences: int, seed: int) -> list[str]:
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=choose.randrange(5, 25))) for _ in range(sentences)]


def spoilt(texts: list[str], share: float, seed: int) -> list[str]:
    """Return the texts with a share of the words replaced, and now and then one left out."""
    choose = random.Random(seed)
    out = []
    for text in texts:
        words = [choose.choice(WORDS) if choose.random() < share else word for word in text.split()]
        out.append(" ".join(word for word in words if choose.random() > share / 4))
    return out


REFERENCES = corpus(200, 0)


def statistics(share: float, seed: int) -> np.ndarray:
    return bleu_statistics(spoilt(REFERENCES, share, seed), REFERENCES, "en")


@pytest.mark.parametrize("shares", [(0.2, 0.22), pytest.param((0.2, 0.35), marks=[pytest.mark.slow, pytest.mark.more])])
def test_one_pair_is_resampled_as_sacrebleu_does_it(tmp_path: Path, shares: tuple[float, float]) -> None:
    """Each system's mean and interval to 0.1 BLEU, by sacreBLEU's command, both with many resamples.

    The differences are sacreBLEU's too: its rule, applied to ours, gives its p. Ours is that of a normal distribution.
    """
    hypotheses = [spoilt(REFERENCES, share, seed) for seed, share in enumerate(shares, 1)]
    for name, texts in {"references": REFERENCES, "first": hypotheses[0], "second": hypotheses[1]}.items():
        (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
    resamples = 20_000
    done = subprocess.run(
        f"{sys.executable} -m sacrebleu references -i first second -m bleu -f json -w 4".split()
        + f"--paired-bs --paired-bs-n {resamples}".split(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [row["BLEU"] for row in json.loads(done.stdout)]
    counts = draw_resamples(len(REFERENCES), resamples, seed=7)  # Other draws than sacreBLEU's.
    ours = [metric_quantity(BY_BLEU, [bleu_statistics(texts, REFERENCES, "en")], counts) for texts in hypotheses]
    for item, theirs_one in zip(ours, theirs, strict=True):
        assert item.mean == pytest.approx(theirs_one["score"], abs=0.01)
        assert float(item.drawn.mean()) == pytest.approx(theirs_one["mean"], abs=0.1)
        assert item.interval is not None
        assert (item.interval.high - item.interval.low) / 2 == pytest.approx(theirs_one["ci"], abs=0.1)
    difference = compare_quantities(ours[1], ours[0], pool(ours))
    drawn = ours[1].drawn[0] - ours[0].drawn[0]
    assert p_of_sacrebleu(drawn, difference.value) == pytest.approx(theirs[1]["p_value"], abs=0.01)
    assert difference.p == pytest.approx(2 * stats.norm.sf(abs(difference.value) / drawn.std()), abs=0.02)


def p_of_sacrebleu(drawn: np.ndarray, value: float) -> float:
    """Return the p of sacreBLEU's paired bootstrap: absolute values first, centred then."""
    away = np.abs(drawn)
    return float((away - away.mean() > abs(value)).sum() + 1) / (len(drawn) + 1)


def test_p_has_its_nominal_error_and_the_power_of_a_normal_test() -> None:
    """Of 2,000 test sets of 100 sentences: 5 % false rejections; a lead of 2.8 standard errors is found in 80 %."""
    sentences, trials = 100, 2000
    counts = draw_resamples(sentences, 400) / sentences
    rates = []
    for lead in (0.0, 2.8):
        differences = np.random.default_rng(1).normal(lead / sentences**0.5, 1, (sentences, trials))
        drawn, values = (counts @ differences).T, differences.mean(0)
        p_values = [p_value(*pair) for pair in zip(drawn, values.tolist(), strict=True)]
        rates.append(np.mean([p is not None and p <= 0.05 for p in p_values]))
    assert rates[0] == pytest.approx(0.05, abs=0.012)
    assert rates[1] == pytest.approx(stats.norm.sf(1.96 - 2.8), abs=0.03)


def test_an_interval_that_holds_0_goes_with_a_p_above_its_level() -> None:
    """Of the same resamples, both ways, but for the resolution of 2,000 of them; by made numbers and by BLEU."""
    draws = np.random.default_rng(2)
    cases = [(draws.normal(lead, 1, 2000), lead) for lead in np.linspace(-4, 4, 400)]
    counts, shares = draw_resamples(len(REFERENCES), 2000), (0.2, 0.2, 0.2, 0.205, 0.21, 0.215, 0.22, 0.23, 0.25)
    systems = [metric_quantity(BY_BLEU, [statistics(share, seed)], counts) for seed, share in enumerate(shares)]
    cases += [(item.drawn[0] - systems[0].drawn[0], item.mean - systems[0].mean) for item in systems[1:]]
    held = []
    for drawn, value in cases:
        interval, p = percentiles(drawn), p_value(drawn, value)
        assert interval is not None
        assert p is not None
        held.append(interval.low <= 0 <= interval.high)
        assert held[-1] == (p > 0.05) or abs(p - 0.05) < 0.015
    assert any(held[:400])
    assert any(held[400:])
    assert not all(held[400:])


def test_p_counts_the_sample_itself() -> None:
    """Davison and Hinkley 1997: (number + 1) / (R + 1); the resamples are centred, on either side."""
    drawn = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # Distances from their mean: 2, 1, 0, 1, 2.
    assert p_value(drawn, 3.0) == pytest.approx(1 / 6)
    assert p_value(drawn, 2.0) == p_value(drawn, -2.0) == pytest.approx(3 / 6)
    assert p_value(drawn, 0.0) == 1
    assert p_value(np.array([np.nan, 1.0]), 1.0) is None


def random_quantity(draws: np.random.Generator, seeds: int, ratio: float) -> Quantity:
    """Return a quantity of true value 0: its mean varies by 1 over sentences, and by `ratio` over seeds (variances)."""
    of_sentences = draws.normal()
    value = of_sentences + draws.normal(0, (ratio * seeds) ** 0.5, seeds)
    return Quantity(value, value[:, None] + draws.normal(size=200), 200)


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("ratio", [0.1, 3.0])
def test_intervals_over_sentences_and_seeds_hold_the_truth(seeds: int, ratio: float) -> None:
    """Of 95 % or more, where a single t with Satterthwaite's freedom reaches 90 %; and not of all, as by the seeds'."""
    draws, trials = np.random.default_rng(3), 400
    covered = {"own": 0, "difference": 0, "pooled": 0, "pooled difference": 0}
    for _ in range(trials):
        everyone = [random_quantity(draws, seeds, ratio) for _ in range(4)]
        variance = pool(everyone)
        difference = compare_quantities(everyone[0], everyone[1], variance)
        for name, interval in (
            ("own", own_spread(everyone[0])),
            ("difference", difference.own_spread),
            ("pooled", pooled_spread(everyone[0], variance)),
            ("pooled difference", difference.architecture),
        ):
            assert interval is not None
            covered[name] += interval.low <= 0 <= interval.high
    for count in covered.values():
        assert stats.binom.cdf(count, trials, 0.95) > 0.001
        assert count < trials


def test_no_interval_leaves_what_is_possible() -> None:
    """Two seeds of a score near its bound: by Student's t alone it would reach far beyond."""
    draws = np.random.default_rng(4)
    value = np.array([99.0, 93.0])
    near = Quantity(value, value[:, None] + draws.normal(0, 0.1, 300), 300, Interval(0, 100))
    interval = own_spread(near)
    assert interval is not None
    half = 96 - interval.low
    assert interval.high == 100 < 96 + half
    assert near.estimate.widest == interval
    low = Quantity(value - 92, near.drawn - 92, 300, Interval(0, 100))
    difference = compare_quantities(near, low, VarianceEstimate(5000.0, 2))
    assert (difference.architecture, difference.value) == (Interval(-100, 100), 92)
    pooled = pooled_spread(near, VarianceEstimate(5000.0, 2))
    assert pooled == Interval(0, 100)
    # A slope over two buckets of BLEU 10 words apart: at most 100 per 10 words.
    steep = slope([near, low], [5.0, 15.0], [40, 50])
    assert (steep.bounds.low, steep.bounds.high) == pytest.approx((-100, 100))
    assert steep.sentences == 90
    assert metric_quantity(BY_BLEU, [statistics(0.2, 1)], draw_resamples(200, 50)).bounds == Interval(0, 100)


def test_too_few_sentences_have_neither_interval_nor_p_and_do_not_count_in_holms_method() -> None:
    draws = np.random.default_rng(5)
    value = np.array([5.0, 6.0])

    def compared(sentences: int) -> Difference:
        first, other = (
            Quantity(value + lead, value[:, None] + draws.normal(lead, 1, 400), sentences) for lead in (0, 1)
        )
        assert (first.interval is None) == (first.estimate.own_spread is None) == (sentences < FEWEST_SENTENCES)
        assert (pooled_spread(first, pool([first, other])) is None) == (sentences < FEWEST_SENTENCES)
        return compare_quantities(first, other, pool([first, other]))

    few, enough = compared(FEWEST_SENTENCES - 1), compared(FEWEST_SENTENCES)
    assert few == Difference(-1.0, None, None, None, None)
    assert None not in (enough.trained, enough.architecture, enough.own_spread, enough.p)
    adjusted = adjust_differences({"few": few, "two": enough, "three": enough})
    assert adjusted["few"] == AdjustedDifference(-1.0, None, None, None, None, None)
    assert enough.p is not None
    assert adjusted["two"].p_holm == min(1.0, 2 * enough.p)  # Not 3 times.
    sentences = REFERENCES[: FEWEST_SENTENCES - 1]
    result = metric_quantity(
        BY_BLEU, [bleu_statistics(spoilt(sentences, 0.3, 1), sentences, "en")], draw_resamples(len(sentences), 50)
    )
    assert (result.interval, result.estimate.own_spread) == (None, None)
    assert 0 < result.mean < 100


@pytest.mark.more
@pytest.mark.slow
def test_the_tables_of_coverage() -> None:
    done = run_script("tests/metrics/interval_coverage.py", "trials=10")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 21 + 21 + 5 + 14 + 12 + 12 + 2 * 6  # A heading and a rule for each.
    unknown = run_script("tests/metrics/interval_coverage.py", "tables")
    assert unknown.stderr.startswith("error: tables: no such table; choose from means, ")


def test_a_difference_is_a_plain_loop_over_corpus_scores() -> None:
    """Two seeds against two, on 30 sentences: every resample by sacreBLEU's corpus_score, brevity recomputed."""
    references = REFERENCES[:30]
    outputs = {
        name: [spoilt(references, share, seed) for seed in seeds]
        for name, share, seeds in (("one", 0.2, (1, 2)), ("other", 0.3, (3, 4)))
    }
    counts = draw_resamples(30, 40)
    ours = {
        name: metric_quantity(BY_BLEU, [bleu_statistics(texts, references, "en") for texts in outputs[name]], counts)
        for name in outputs
    }
    metric = BLEU()

    def mean_bleu(name: str, rows: list[int]) -> float:
        wanted = [[references[i] for i in rows]]
        return float(np.mean([metric.corpus_score([texts[i] for i in rows], wanted).score for texts in outputs[name]]))

    differences = []
    for resample in counts:
        rows = [i for i, count in enumerate(resample) for _ in range(int(count))]
        assert len(rows) == 30
        differences.append(mean_bleu("one", rows) - mean_bleu("other", rows))
    result = compare_quantities(ours["one"], ours["other"], pool(list(ours.values())))
    everything = list(range(30))
    assert result.value == pytest.approx(mean_bleu("one", everything) - mean_bleu("other", everything))
    interval = percentiles(np.array(differences))
    assert result.trained is not None
    assert interval is not None
    assert (result.trained.low, result.trained.high) == pytest.approx((interval.low, interval.high))


def test_draws_are_shared_and_whole() -> None:
    counts = draw_resamples(50, 100)
    assert (counts.sum(1) == 50).all()
    assert (draw_resamples(50, 100) == counts).all()
    assert (draw_resamples(50, 100, seed=1) != counts).any()
    # About 1/e of the sentences are left out of a resample.
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_a_system_against_itself_differs_by_nothing() -> None:
    item = metric_quantity(BY_BLEU, [statistics(0.2, 1)], draw_resamples(200, 500))
    result = compare_quantities(item, item, pool([item]))
    assert (result.value, result.trained, result.architecture) == (0, Interval(0, 0), None)


def test_where_references_are_too_short_for_bleu_there_is_no_interval() -> None:
    """One sentence of four tokens among 41: about a third of the resamples have none, and sacreBLEU gives them 0."""
    references = [*["a b c", "a c", "b", "c a b"] * 10, "a b c d"]
    counts = draw_resamples(41, 200)
    first = metric_quantity(BY_BLEU, [bleu_statistics(references, references, "en")], counts)
    other = metric_quantity(BY_BLEU, [bleu_statistics(spoilt(references, 0.5, 1), references, "en")], counts)
    without = (counts[:, 40] == 0).nonzero()[0]
    assert (np.isnan(first.drawn[0]).nonzero()[0] == without).all()
    rows = [i for i, count in enumerate(counts[without[0]]) for _ in range(int(count))]
    texts = [references[i] for i in rows]
    assert BLEU().corpus_score(texts, [texts]).score == 0
    assert first.mean == pytest.approx(100)
    result = compare_quantities(first, other, pool([first, other]))
    assert (first.interval, result.trained, result.architecture, result.p) == (None,) * 4
    # An output too short for a 4-gram is another thing: a score of 0, which counts.
    empty = metric_quantity(BY_BLEU, [bleu_statistics([""] * 200, REFERENCES, "en")], draw_resamples(200, 50))
    assert empty.interval == Interval(0, 0)


@pytest.mark.more
@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Differences of two made systems: 95 % of intervals over fresh test sets hold the difference on a huge one."""
    huge = corpus(20_000, 5)
    truth = [bleu_statistics(spoilt(huge, share, 6), huge, "en").sum(0) for share in (0.2, 0.25)]
    from hourglass.metrics.translation import bleu_from_statistics

    difference = float(bleu_from_statistics(truth[0]) - bleu_from_statistics(truth[1]))
    counts, covered, trials = draw_resamples(150, 200), 0, 40
    for trial in range(trials):
        references = corpus(150, 100 + trial)
        pair = [
            metric_quantity(
                BY_BLEU, [bleu_statistics(spoilt(references, share, 1000 + trial), references, "en")], counts
            )
            for share in (0.2, 0.25)
        ]
        result = compare_quantities(pair[0], pair[1], pool(pair)).trained
        assert result is not None
        covered += result.low <= difference <= result.high
    assert stats.binom.cdf(covered, trials, 0.95) > 0.001


def test_the_interval_by_own_spread_is_that_of_welch() -> None:
    """Where the sentences do not vary it is scipy's, of seeds alone."""
    sides = [np.array([8.0, 7.3, 4.3]), np.array([99.8, 100.0, 99.9])]
    first, other = (Quantity(values, np.repeat(values[:, None], 50, axis=1), 50) for values in sides)
    result = compare_quantities(first, other, pool([first, other])).own_spread
    expected = stats.ttest_ind(*sides, equal_var=False).confidence_interval(0.95)
    assert result is not None
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert compare_quantities(first, Quantity(sides[1][:1], other.drawn[:1], 50), pool([first])).own_spread is None


def test_the_architectures_interval_adds_the_variance_of_seeds() -> None:
    """By the formula, in plain numbers: the squares of both half-widths add, each with its own t."""
    draws = np.random.default_rng(0)
    values = {"a": [50.0, 53.0, 51.0], "b": [40.0, 41.0], "c": [60.0]}
    quantities = {}
    for name, value in values.items():
        noise = draws.normal(0, 0.5, size=400)
        quantities[name] = Quantity(np.array(value), np.array(value)[:, None] + noise, 60)
    seeds = pool(list(quantities.values()))
    pooled = (stats.tvar(values["a"]) * 2 + stats.tvar(values["b"]) * 1) / 3
    assert seeds.freedom == 3
    assert seeds.variance == pytest.approx(pooled)
    result = compare_quantities(quantities["a"], quantities["c"], seeds)
    drawn = quantities["a"].drawn.mean(0) - quantities["c"].drawn.mean(0)
    of_sentences = stats.t.ppf(0.975, 59) ** 2 * np.var(drawn, ddof=1)
    half = (of_sentences + stats.t.ppf(0.975, 3) ** 2 * pooled * (1 / 3 + 1 / 1)) ** 0.5
    assert result.architecture is not None
    assert result.value == pytest.approx(np.mean(values["a"]) - 60)
    assert (result.architecture.low, result.architecture.high) == pytest.approx(
        (result.value - half, result.value + half)
    )
    assert quantities["a"].spread == pytest.approx(np.std(values["a"], ddof=1))
    assert quantities["c"].spread is None


def test_satterthwaite_is_the_freedom_of_welchs_test() -> None:
    sides = [np.array([8.0, 7.3, 4.3]), np.array([9.8, 10.0, 9.1, 7.0])]
    result = satterthwaite([VarianceEstimate(side.var(ddof=1) / len(side), len(side) - 1) for side in sides])
    expected = stats.ttest_ind(*sides, equal_var=False)
    assert result.freedom == pytest.approx(expected.df)
    assert abs(sides[0].mean() - sides[1].mean()) / result.variance**0.5 == pytest.approx(abs(expected.statistic))
    still = satterthwaite([VarianceEstimate(0.0, 1), VarianceEstimate(0.0, 2)])
    assert (still.variance, still.freedom) == (0, 3)


def test_holm() -> None:
    # Holm 1979: the smallest times 3, the next times 2, never falling.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_slope_against_polyfit() -> None:
    lengths, sentences = [5.0, 15.0, 24.0, 40.0], [10, 200, 100, 7]
    draws = np.random.default_rng(0)
    buckets = [Quantity(draws.normal(size=2), draws.normal(size=(2, 9)), 50) for _ in lengths]
    result = slope(buckets, lengths, sentences)

    def by_numpy(curve: list[float]) -> float:
        return 10 * float(np.polyfit(lengths, curve, 1, w=np.sqrt(sentences))[0])

    for seed in range(2):
        assert result.value[seed] == pytest.approx(by_numpy([item.value[seed] for item in buckets]))
        for resample in range(9):
            assert result.drawn[seed, resample] == pytest.approx(
                by_numpy([item.drawn[seed, resample] for item in buckets])
            )
    with pytest.raises(UserError, match="needs two buckets"):
        slope(buckets[:1], [5.0], [10])


def test_converged_looks_at_the_last_fifth() -> None:
    assert converged({0.2: 4.0, 0.8: 2.0, 1.0: 1.99})[0]
    still, gained = converged({0.2: 4.0, 0.8: 2.0, 1.0: 1.5})
    assert not still
    assert gained == pytest.approx(0.25)
    # What counts is the best so far: a loss that rose, or that came back from a rise, has gained nothing.
    assert converged({0.2: 1.0, 0.8: 1.2, 1.0: 1.3}) == (True, 0)
    assert converged({0.2: 1.0, 0.8: 1.2, 1.0: 1.1}) == (True, 0)
    # Between validations the loss is read off the line.
    assert converged({0.5: 2.0, 1.0: 1.0})[1] == pytest.approx((1.4 - 1.0) / 1.4)
    with pytest.raises(UserError, match=r"trainer\.validations=5"):
        converged({1.0: 2.0})


def test_own_spread_is_students_interval_of_the_seeds_where_sentences_do_not_vary() -> None:
    still = Quantity(np.array([1.0, 2.0, 3.0]), np.array([[1.0] * 4, [2.0] * 4, [3.0] * 4]), 50)
    interval = own_spread(still)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 2, loc=2, scale=3**-0.5))
    # Where seeds do not vary, that of the sentences alone, as if they were normal.
    drawn = np.random.default_rng(1).normal(2.0, 0.5, 4000)
    interval = own_spread(Quantity(np.array([2.0, 2.0]), np.stack([drawn, drawn]), 4000))
    assert interval is not None
    assert interval.high - 2 == pytest.approx(1.96 * 0.5, rel=0.05)
    assert own_spread(Quantity(np.array([2.0]), drawn[np.newaxis], 4000)) is None
