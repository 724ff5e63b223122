"""The recorded results follow from what is kept of the runs: computed again from the counts of single sentences."""

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers import ROOT
from sacrebleu.metrics import BLEU
from scipy.stats import t as student_t

from hourglass.analysis.ladder import read_ladder
from hourglass.analysis.likelihoods import kept_likelihoods
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant, load_ablation
from hourglass.runs.folder import resume_run

CORPORA = load_ablation().corpora


@pytest.fixture(scope="module")
def ablation() -> Ablation:
    return load_ablation()


def corpus_bleu(counts: np.ndarray) -> float:
    """Return sacreBLEU's score of summed counts."""
    summed = counts.sum(0).tolist()
    score = BLEU.compute_bleu(summed[:4], summed[4:8], sys_len=summed[8], ref_len=summed[9], smooth_method="exp")
    return float(score.score)


def exact_match(counts: np.ndarray) -> float:
    """Return the percentage of sentences whose first count, of an output that is right, is 1."""
    return 100 * float(counts[:, 0].mean())


def error_rate(counts: np.ndarray) -> float:
    """Return errors, the first count of a sentence, a hundred units of its reference, the second."""
    return 100 * float(counts[:, 0].sum()) / float(counts[:, 1].sum())


SCORES = {"bleu": corpus_bleu, "exact": exact_match, "phoneme_error_rate": error_rate}


def bits_needed(ablation: Ablation, variant: Variant, budget: int) -> np.ndarray:
    """Return the bits of each seed and test sentence, [K, N]."""
    files = [ablation.kept(variant, seed, budget).likelihoods for seed in ablation.seeds(variant)]
    return np.array([[row.sum() / math.log(2) for row in kept_likelihoods(file).nats] for file in files])


def half_width(first: np.ndarray, second: np.ndarray) -> float:
    """Return half the 95 % interval of a difference of means, of [K, N] each: Welch over seeds, and over sentences."""
    by_sentence = first.mean(0) - second.mean(0)
    parts = [own.mean(1).var(ddof=1) / len(own) for own in (first, second)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(own) - 1) for part, own in zip(parts, (first, second), strict=True))
    sentences = student_t.ppf(0.975, len(by_sentence) - 1) ** 2 * by_sentence.var(ddof=1) / len(by_sentence)
    return math.sqrt(sentences + student_t.ppf(0.975, freedom) ** 2 * sum(parts))


@pytest.mark.parametrize("corpus", CORPORA)
def test_recorded_scores_are_those_of_the_kept_sentences(ablation: Ablation, corpus: str) -> None:
    evaluation, last = ablation.evaluation(corpus), ablation.corpora[corpus].budgets[-1]
    score_of = SCORES[evaluation.main]
    assert list(evaluation.variants) == [variant.name for variant in ablation.variants(corpus)]
    for variant in ablation.variants(corpus):
        kept = [ablation.sentence_scores(variant, seed, last) for seed in ablation.seeds(variant)]
        recorded = evaluation.variants[variant.name]
        assert recorded.score.by_seed == pytest.approx([score_of(own.statistics) for own in kept])
        for bucket, scores in zip(evaluation.buckets, recorded.buckets, strict=True):
            low, high = bucket.source_words
            inside = [
                own.statistics[(own.source_words >= low) & (own.source_words <= (high or math.inf))] for own in kept
            ]
            assert [len(part) for part in inside] == [bucket.sentences] * len(kept)
            assert scores.score is not None
            assert scores.score.by_seed == pytest.approx([score_of(part) for part in inside])


@pytest.mark.parametrize("corpus", CORPORA)
def test_recorded_gaps_are_those_of_the_kept_likelihoods(ablation: Ablation, corpus: str) -> None:
    ladder = read_ladder(ablation.ladder_file(corpus), "dvc repro")
    assert [rung.budget for rung in ladder.rungs] == ablation.corpora[corpus].budgets
    for rung in ladder.rungs:
        for (first, second), gap in zip(ladder.estimands, rung.gaps, strict=True):
            needed = [bits_needed(ablation, Variant(corpus, name), rung.budget) for name in (first, second)]
            assert gap.whole.value == pytest.approx(float(needed[1].mean() - needed[0].mean()), abs=1e-4)
    for before, rung in pairwise(ladder.rungs):
        doublings = math.log2(rung.budget / before.budget)
        for (first, second), change in zip(ladder.estimands, rung.changes, strict=True):
            variants = [Variant(corpus, name) for name in (first, second)]
            less, more = (
                [bits_needed(ablation, variant, budget) for variant in variants]
                for budget in (before.budget, rung.budget)
            )
            gained = [(one - other) / doublings for one, other in zip(less, more, strict=True)]
            assert change.whole.value == pytest.approx(float(gained[0].mean() - gained[1].mean()), abs=1e-4)
            interval = change.whole.own_spread
            assert interval is not None
            assert (interval.high - interval.low) / 2 == pytest.approx(half_width(*gained), rel=0.05)


@pytest.mark.parametrize("corpus", CORPORA)
def test_kept_runs_are_of_the_fingerprints_and_hold_no_weights(ablation: Ablation, corpus: str) -> None:
    for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
        for budget in ablation.corpora[corpus].budgets:
            for run in ablation.open_runs(variant, budget):
                assert f"fingerprint={run.config['fingerprint']}" == ablation.fingerprint_override(variant)
                assert run.metrics.commit
                assert not run.metrics.dirty
                assert {file.suffix for file in run.path.iterdir()} <= {".csv", ".json", ".npz", ".yaml"}
    kept = [path for path in (ROOT / "results").rglob("*") if path.suffix == ".ckpt"]
    assert kept
    assert all(path.stat().st_size < 6_000_000 for path in kept)


def test_a_small_model_is_not_resumed(ablation: Ablation) -> None:
    """It has no checkpoint to go on from, and a training from the start would overwrite it."""
    for corpus in CORPORA:
        for name in ablation.corpora[corpus].models:
            path = ablation.model(Variant(corpus, name)).path
            with pytest.raises(UserError, match=r"resume=.*: its training is complete, and last\.ckpt is not there"):
                resume_run(str(path), [])
