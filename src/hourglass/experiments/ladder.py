"""Measure the gaps of an ablation with every budget: bits between the variants of each estimand, and BLEU."""

from hourglass.analysis.comparing import bleu_from_sentences, make_draws
from hourglass.analysis.ladder import Ladder, Rung, RungScores, climb, gap_of
from hourglass.experiments.ablation import Ablation
from hourglass.experiments.evaluation import shared_lengths
from hourglass.experiments.information import measure_information


def measure_ladder(ablation: Ablation, corpus: str) -> Ladder:
    """Read what is kept of the runs of every budget.

    Raises:
        UserError: what is kept of a run is missing or damaged.
    """
    settings, estimands = ablation.corpora[corpus], ablation.estimands(corpus)
    rungs, information = [], None
    for budget in settings.budgets:
        kept = {
            variant: [ablation.sentence_scores(variant, seed, budget) for seed in ablation.seeds(variant)]
            for variant in ablation.variants(corpus)
        }
        lengths = shared_lengths(ablation, corpus, kept.values())
        draws = make_draws(lengths, ablation.settings.resamples)
        # The stage `information` has measured the bits of the largest.
        last = budget == settings.budgets[-1]
        information = ablation.information(corpus) if last else measure_information(ablation, corpus, budget)
        scores = {}
        for variant, seeds in kept.items():
            bleu = bleu_from_sentences([own.bleu for own in seeds], lengths, draws)
            scores[variant.name] = RungScores(
                dev_loss=[run.metrics.dev.loss for run in ablation.open_runs(variant, budget)],
                bleu=bleu.whole.estimate,
                bleu_by_length=bleu.estimates(len(lengths.bounds)),
            )
        rungs.append(Rung(budget, scores, [gap_of(information, pair) for pair in estimands]))
    assert information is not None
    buckets = {bucket.source_words: bucket.sentences for bucket in information.lengths}
    return climb(corpus, estimands, rungs, buckets, ablation.settings.flattened)
