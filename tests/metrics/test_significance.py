"""The bootstrap against sacreBLEU's own, against plain loops, and against cases whose answer is known."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from scipy import stats

from hourglass.errors import UserError
from hourglass.metrics.scoring import bleu_statistics
from hourglass.metrics.significance import (
    Interval,
    Quantity,
    bleu_quantity,
    compare_quantities,
    converged,
    draw_resamples,
    holm,
    own_spread,
    percentiles,
    pool,
    slope,
)

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


@pytest.mark.parametrize("shares", [(0.2, 0.22), (0.2, 0.35)])
def test_one_pair_is_as_sacrebleu_has_it(tmp_path: Path, shares: tuple[float, float]) -> None:
    """Each system's mean and interval to 0.1 BLEU, p to 0.01, by sacreBLEU's command, both with many resamples."""
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
    ours = [bleu_quantity([bleu_statistics(texts, REFERENCES, "en")], counts) for texts in hypotheses]
    for one, theirs_one in zip(ours, theirs, strict=True):
        assert one.mean == pytest.approx(theirs_one["score"], abs=0.01)
        assert float(one.drawn.mean()) == pytest.approx(theirs_one["mean"], abs=0.1)
        assert one.interval is not None
        assert (one.interval.high - one.interval.low) / 2 == pytest.approx(theirs_one["ci"], abs=0.1)
    difference = compare_quantities(ours[1], ours[0], pool(ours))
    assert difference.p == pytest.approx(theirs[1]["p_value"], abs=0.01)


def test_a_difference_is_a_plain_loop_over_corpus_scores() -> None:
    """Two seeds against two, on 30 sentences: every resample by sacreBLEU's corpus_score, brevity recomputed."""
    references = REFERENCES[:30]
    outputs = {
        name: [spoilt(references, share, seed) for seed in seeds]
        for name, share, seeds in (("one", 0.2, (1, 2)), ("other", 0.3, (3, 4)))
    }
    counts = draw_resamples(30, 40)
    ours = {
        name: bleu_quantity([bleu_statistics(texts, references, "en") for texts in outputs[name]], counts)
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
    found = compare_quantities(ours["one"], ours["other"], pool(list(ours.values())))
    everything = list(range(30))
    assert found.value == pytest.approx(mean_bleu("one", everything) - mean_bleu("other", everything))
    interval = percentiles(np.array(differences))
    assert found.trained is not None
    assert interval is not None
    assert (found.trained.low, found.trained.high) == pytest.approx((interval.low, interval.high))


def test_draws_are_shared_and_whole() -> None:
    counts = draw_resamples(50, 100)
    assert (counts.sum(1) == 50).all()
    assert (draw_resamples(50, 100) == counts).all()
    assert (draw_resamples(50, 100, seed=1) != counts).any()
    # About 1/e of the sentences are left out of a resample.
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_a_system_against_itself_differs_by_nothing() -> None:
    one = bleu_quantity([statistics(0.2, 1)], draw_resamples(200, 500))
    found = compare_quantities(one, one, pool([one]))
    assert (found.value, found.trained, found.architecture) == (0, Interval(0, 0), None)


def test_where_references_are_too_short_for_bleu_there_is_no_interval() -> None:
    """One sentence of four tokens among five: about a third of the resamples have none, and sacreBLEU gives them 0."""
    references = ["a b c", "a c", "b", "c a b", "a b c d"]
    counts = draw_resamples(5, 200)
    one = bleu_quantity([bleu_statistics(references, references, "en")], counts)
    other = bleu_quantity([bleu_statistics(spoilt(references, 0.5, 1), references, "en")], counts)
    without = (counts[:, 4] == 0).nonzero()[0]
    assert (np.isnan(one.drawn[0]).nonzero()[0] == without).all()
    rows = [i for i, count in enumerate(counts[without[0]]) for _ in range(int(count))]
    texts = [references[i] for i in rows]
    assert BLEU().corpus_score(texts, [texts]).score == 0
    assert one.mean == pytest.approx(100)
    found = compare_quantities(one, other, pool([one, other]))
    assert (one.interval, found.trained, found.architecture, found.p) == (None,) * 4
    # An output too short for a 4-gram is another thing: a score of 0, which counts.
    empty = bleu_quantity([bleu_statistics([""] * 200, REFERENCES, "en")], draw_resamples(200, 50))
    assert empty.interval == Interval(0, 0)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Differences of two made systems: 95 % of intervals over fresh test sets hold the difference on a huge one."""
    huge = corpus(20_000, 5)
    truth = [bleu_statistics(spoilt(huge, share, 6), huge, "en").sum(0) for share in (0.2, 0.25)]
    from hourglass.metrics.scoring import bleu_from_statistics

    difference = float(bleu_from_statistics(truth[0]) - bleu_from_statistics(truth[1]))
    counts, covered, trials = draw_resamples(150, 200), 0, 40
    for trial in range(trials):
        references = corpus(150, 100 + trial)
        pair = [
            bleu_quantity([bleu_statistics(spoilt(references, share, 1000 + trial), references, "en")], counts)
            for share in (0.2, 0.25)
        ]
        found = compare_quantities(pair[0], pair[1], pool(pair)).trained
        assert found is not None
        covered += found.low <= difference <= found.high
    assert stats.binom.cdf(covered, trials, 0.95) > 0.001


def test_the_interval_by_own_spread_is_that_of_welch() -> None:
    """Where the sentences do not vary it is scipy's, of seeds alone."""
    sides = [np.array([8.0, 7.3, 4.3]), np.array([99.8, 100.0, 99.9])]
    one, other = (Quantity(values, np.repeat(values[:, None], 50, axis=1)) for values in sides)
    found = compare_quantities(one, other, pool([one, other])).own_spread
    expected = stats.ttest_ind(*sides, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert compare_quantities(one, Quantity(sides[1][:1], other.drawn[:1]), pool([one])).own_spread is None


def test_the_architectures_interval_adds_the_variance_of_seeds() -> None:
    """By the formula, in plain numbers: variances add, and t has the pooled degrees of freedom."""
    draws = np.random.default_rng(0)
    values = {"a": [50.0, 53.0, 51.0], "b": [40.0, 41.0], "c": [60.0]}
    quantities = {}
    for name, value in values.items():
        noise = draws.normal(0, 0.5, size=400)
        quantities[name] = Quantity(np.array(value), np.array(value)[:, None] + noise)
    seeds = pool(list(quantities.values()))
    pooled = (stats.tvar(values["a"]) * 2 + stats.tvar(values["b"]) * 1) / 3
    assert seeds.freedom == 3
    assert seeds.variance == pytest.approx(pooled)
    found = compare_quantities(quantities["a"], quantities["c"], seeds)
    drawn = quantities["a"].drawn.mean(0) - quantities["c"].drawn.mean(0)
    half = stats.t.ppf(0.975, 3) * (np.var(drawn, ddof=1) + pooled * (1 / 3 + 1 / 1)) ** 0.5
    assert found.architecture is not None
    assert found.value == pytest.approx(np.mean(values["a"]) - 60)
    assert (found.architecture.low, found.architecture.high) == pytest.approx((found.value - half, found.value + half))
    assert quantities["a"].spread == pytest.approx(np.std(values["a"], ddof=1))
    assert quantities["c"].spread is None


def test_holm() -> None:
    # Holm 1979: the smallest times 3, the next times 2, never falling.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_slope_against_polyfit() -> None:
    lengths, sentences = [5.0, 15.0, 24.0, 40.0], [10, 200, 100, 7]
    draws = np.random.default_rng(0)
    buckets = [Quantity(draws.normal(size=2), draws.normal(size=(2, 9))) for _ in lengths]
    found = slope(buckets, lengths, sentences)

    def by_numpy(curve: list[float]) -> float:
        return 10 * float(np.polyfit(lengths, curve, 1, w=np.sqrt(sentences))[0])

    for seed in range(2):
        assert found.value[seed] == pytest.approx(by_numpy([one.value[seed] for one in buckets]))
        for resample in range(9):
            assert found.drawn[seed, resample] == pytest.approx(
                by_numpy([one.drawn[seed, resample] for one in buckets])
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
    still = Quantity(np.array([1.0, 2.0, 3.0]), np.array([[1.0] * 4, [2.0] * 4, [3.0] * 4]))
    interval = own_spread(still)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 2, loc=2, scale=3**-0.5))
    # Where seeds do not vary, that of the sentences alone, as if they were normal.
    drawn = np.random.default_rng(1).normal(2.0, 0.5, 4000)
    interval = own_spread(Quantity(np.array([2.0, 2.0]), np.stack([drawn, drawn])))
    assert interval is not None
    assert interval.high - 2 == pytest.approx(1.96 * 0.5, rel=0.05)
    assert own_spread(Quantity(np.array([2.0]), drawn[np.newaxis])) is None
