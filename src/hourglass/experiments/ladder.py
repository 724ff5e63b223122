"""Measure the gaps of an ablation with every budget: bits between the variants of each estimand, and BLEU."""

from hourglass.analysis.comparing import bleu_by_length, make_draws, make_test_set
from hourglass.analysis.ladder import Ladder, Rung, RungScores, climb, gap_of
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.information import measure_information
from hourglass.runs.translations import Translation, read_translations
from hourglass.training.finished import FinishedRun


def measure_ladder(ablation: Ablation, corpus: str) -> Ladder:
    """Read the runs of every budget.

    Raises:
        UserError: a run or its translations are missing or damaged.
    """
    settings, facts = ablation.corpora[corpus], ablation.facts(corpus)
    estimands = ablation.estimands(corpus)
    rungs, information, test = [], None, None
    for budget in settings.budgets:
        runs = {variant: ablation.open_runs(variant, budget) for variant in ablation.variants(corpus)}
        outputs = {
            f"{variant.name} seed {seed} of {budget}": _translations(ablation, variant, seed, run, budget)
            for variant, opened in runs.items()
            for seed, run in zip(ablation.seeds(variant), opened, strict=True)
        }
        test = make_test_set(outputs, settings.edges, facts.source, facts.target)
        draws = make_draws(test, ablation.settings.resamples)
        # The stage `information` has measured the bits of the largest.
        last = budget == settings.budgets[-1]
        information = ablation.information(corpus) if last else measure_information(ablation, corpus, budget)
        scores = {}
        for variant, opened in runs.items():
            names = [f"{variant.name} seed {seed} of {budget}" for seed in ablation.seeds(variant)]
            bleu = bleu_by_length([[row.hypothesis for row in outputs[name]] for name in names], test, draws)
            scores[variant.name] = RungScores(
                dev_loss=[run.metrics.dev.loss for run in opened],
                bleu=bleu.whole.estimate,
                bleu_by_length=[
                    bleu.buckets[bucket].estimate if bucket in bleu.buckets else None
                    for bucket in range(len(test.bounds))
                ],
            )
        rungs.append(Rung(budget, scores, [gap_of(information, pair) for pair in estimands]))
    assert information is not None
    buckets = {bucket.source_words: bucket.sentences for bucket in information.lengths}
    return climb(corpus, estimands, rungs, buckets, ablation.settings.flattened)


def _translations(ablation: Ablation, variant: Variant, seed: int, run: FinishedRun, budget: int) -> list[Translation]:
    """Return the translations of test: those of the largest budget have a stage of their own."""
    if budget == ablation.corpora[variant.corpus].budgets[-1]:
        return read_translations(ablation.translations(variant, seed, "test"))
    return run.translations
