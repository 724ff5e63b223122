"""The search for the learning rate of a variant of the ablation."""

from hourglass.analysis.evaluation import Tuning
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.rate_search import run_search


def tune_variant(ablation: Ablation, variant: Variant) -> Tuning:
    """Train all candidates of a variant's search, and write and return the outcome.

    Raises:
        UserError: a training failed, or all diverged.
    """
    settings = ablation.corpora[variant.corpus]
    common = ablation.overrides(variant, settings.seeds[0], settings.tune_tokens)
    return run_search(
        ablation.tune.learning_rates,
        [*common, ablation.fingerprint_override(variant)],
        lambda number: ablation.made(variant.corpus) / "tune" / f"{variant.name}-{number}",
        ablation.tuning_file(variant),
    )
