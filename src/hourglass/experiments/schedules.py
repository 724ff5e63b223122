"""Read the runs of an ablation with whole schedules, and hold the ladder of the default ablation against them."""

import numpy as np

from hourglass.analysis.likelihoods import kept_likelihoods
from hourglass.analysis.schedules import ScheduledRun, Schedules, compare_gaps, compare_schedules
from hourglass.config.differences import changes, known_to
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.evaluation import shared_lengths
from hourglass.metrics.likelihood import sentence_bits
from hourglass.metrics.significance import draw_resamples
from hourglass.training.finished import FinishedRun

# In what a whole schedule may differ from a rung: all else must be the same.
MAY_DIFFER = {"optimizer.decay", "optimizer.learning_rate", "fingerprint", "trainer.test"}


def measure_schedules(whole: Ablation, ladder: Ablation, corpus: str) -> Schedules:
    """Compare every variant and budget of `whole` with that of `ladder`, with the first seed.

    Raises:
        UserError: what is kept of a run is missing or damaged, the ladder has no such variant, budget or seed, or two
            runs differ in more than their schedule.
    """
    settings = whole.corpora[corpus]
    seed, variants = settings.seeds[0], whole.variants(corpus)
    ladder.check_corpus(corpus)
    if unknown := sorted({*settings.budgets} - {*ladder.corpora[corpus].budgets}):
        raise UserError(f"{corpus}.budgets: {unknown[0]} of conf={whole.name} is no rung of conf={ladder.name}")
    for variant in variants:
        ladder.seed(ladder.variant(corpus, variant.name), str(seed))
    metric = whole.metrics(corpus).main
    comparisons, gaps, decays, counts = [], [], ("", ""), np.zeros((0, 0))
    for budget in settings.budgets:
        scores = [
            [ablation.sentence_scores(variant, seed, budget)] for ablation in (whole, ladder) for variant in variants
        ]
        sentences = len(shared_lengths(whole, corpus, metric, scores).source_words)
        counts = draw_resamples(sentences, whole.settings.resamples)
        ours, theirs = (
            {variant.name: _read(ablation, variant, seed, budget) for variant in variants}
            for ablation in (whole, ladder)
        )
        for variant in variants:
            decays = _check_settings(whole, ladder, variant, seed, budget)
            of = variant.name, budget
            comparisons.append(compare_schedules(of, ours[of[0]], theirs[of[0]], metric, counts))
        gaps += compare_gaps(whole.estimands(corpus), budget, ours, theirs, counts)
    return Schedules(corpus, decays, seed, counts.shape[1], metric.title, comparisons, gaps)


def _read(ablation: Ablation, variant: Variant, seed: int, budget: int) -> ScheduledRun:
    kept = ablation.kept(variant, seed, budget)
    return ScheduledRun(
        ablation.tuning(variant).learning_rate,
        FinishedRun.open(kept.path).metrics.dev.loss,
        ablation.sentence_scores(variant, seed, budget).statistics,
        sentence_bits(kept_likelihoods(kept.likelihoods).nats),
    )


def _check_settings(whole: Ablation, ladder: Ablation, variant: Variant, seed: int, budget: int) -> tuple[str, str]:
    """Return the decays of both runs, which differ in their schedule alone."""
    ours, theirs = (FinishedRun.open(ablation.kept(variant, seed, budget).path).config for ablation in (whole, ladder))
    # A setting that a version between the two has added is not compared.
    shared = known_to(ours, known_to(theirs, changes(theirs, ours)))
    if differing := sorted({*shared} - MAY_DIFFER):
        raise UserError(
            f"{variant.name} of conf={whole.name} and of conf={ladder.name} differ in {', '.join(differing)}: give "
            "both the same, as they are to differ in their schedule alone"
        )
    return ours["optimizer"]["decay"], theirs["optimizer"]["decay"]
