"""Measure the gaps of an ablation with every budget: bits between the variants of each estimand, and scores."""

import math

import numpy as np

from hourglass.analysis.comparing import make_draws, score_from_sentences
from hourglass.analysis.ladder import GapChange, Ladder, Rung, RungScores, climb, gap_changes
from hourglass.analysis.likelihoods import kept_likelihoods
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.evaluation import shared_lengths
from hourglass.experiments.information import measure_information
from hourglass.metrics.likelihood import sentence_bits


def measure_ladder(ablation: Ablation, corpus: str) -> Ladder:
    """Read what is kept of the runs of every budget.

    Raises:
        UserError: what is kept of a run is missing or damaged.
    """
    settings, estimands = ablation.corpora[corpus], ablation.estimands(corpus)
    metric = ablation.metrics(corpus).main
    rungs: list[Rung] = []
    information = None
    before: dict[str, list[np.ndarray]] = {}
    for budget in settings.budgets:
        kept = ablation.scores(corpus, budget)
        lengths = shared_lengths(ablation, corpus, metric, kept.values())
        draws = make_draws(lengths, ablation.settings.resamples)
        # The stage `information` has measured the bits of the largest.
        last = budget == settings.budgets[-1]
        information = ablation.information(corpus) if last else measure_information(ablation, corpus, budget)
        scores = {}
        for variant, seeds in kept.items():
            score = score_from_sentences(metric, [own.statistics for own in seeds], lengths, draws)
            scores[variant.name] = RungScores(
                dev_loss=[run.metrics.dev.loss for run in ablation.open_runs(variant, budget)],
                score=score.whole.estimate,
                score_by_length=score.estimates(len(lengths.bounds)),
            )
        needed = {variant.name: _needed_bits(ablation, variant, budget) for variant in kept}
        changes: list[GapChange] = []
        if rungs:
            doublings = math.log2(budget / rungs[-1].budget)
            gained = {
                name: [(less - more) / doublings for less, more in zip(before[name], bits, strict=True)]
                for name, bits in needed.items()
            }
            changes = gap_changes(estimands, gained, lengths, draws)
        rungs.append(Rung(budget, scores, [information.differences[pair] for pair in estimands], changes))
        before = needed
    assert information is not None
    buckets = {bucket.source_words: bucket.sentences for bucket in information.lengths}
    return climb(corpus, estimands, rungs, buckets, ablation.settings.flattened)


def _needed_bits(ablation: Ablation, variant: Variant, budget: int) -> list[np.ndarray]:
    """Return the bits that each seed of a variant needs for each reference of test."""
    folders = [ablation.kept(variant, seed, budget) for seed in ablation.seeds(variant)]
    return [sentence_bits(kept_likelihoods(folder.likelihoods).nats) for folder in folders]
