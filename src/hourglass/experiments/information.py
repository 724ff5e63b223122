"""Measure the bits that reach the decoders of an ablation's variants with one budget."""

from dataclasses import replace

from hourglass.analysis.bits import measure_bits
from hourglass.analysis.information import Information
from hourglass.experiments.ablation import Ablation


def measure_information(ablation: Ablation, corpus: str, budget: int) -> Information:
    """Measure the bits of all variants, against the blind decoder with the same budget.

    Raises:
        UserError: a run or the blind decoder's search is missing or damaged.
    """
    blind = ablation.blind(corpus)
    information = measure_bits(
        ablation.open_runs(blind, budget),
        {variant.name: ablation.open_runs(variant, budget) for variant in ablation.variants(corpus)},
        baseline=ablation.settings.baseline,
        edges=ablation.corpora[corpus].edges,
        resamples=ablation.settings.resamples,
        converged=ablation.settings.converged,
        blind_rates=[own.learning_rate for own in ablation.tuning(blind).candidates if own.dropout is None],
    )
    return replace(information, corpus=corpus)  # As the ablation calls it, see `evaluate`.
