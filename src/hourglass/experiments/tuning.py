"""The search of a variant of the ablation on dev: for its learning rate, and then for its dropout."""

from hourglass.analysis.evaluation import SCHEMA_VERSION, Tuning
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.rate_search import best_candidate, train_candidate, train_rates
from hourglass.system.records import write_record


def tune_variant(ablation: Ablation, variant: Variant) -> Tuning:
    """Train all candidates of a variant's search, and write and return the outcome.

    Raises:
        UserError: a training failed, or all of the rates or of the dropouts diverged.
    """
    settings, tune = ablation.corpora[variant.corpus], ablation.tune
    folder = ablation.made(variant.corpus) / "tune"

    def common(target_tokens: int) -> list[str]:
        words = ablation.overrides(variant, settings.seeds[0], target_tokens)
        return [*words, ablation.fingerprint_override(variant)]

    rates = train_rates(
        tune.learning_rates, common(settings.tune_tokens), lambda number: folder / f"{variant.name}-{number}"
    )
    best = best_candidate(rates)
    dropouts = [
        train_candidate(
            common(tune.dropout_tokens),
            [*best.overrides, *ablation.dropout_words(variant, dropout)],
            folder / f"{variant.name}-dropout-{number}",
        )
        for number, dropout in enumerate(tune.dropouts)
    ]
    if dropouts:  # Compared with each other alone: they have another budget than the rates.
        best = best_candidate(dropouts)
        if best.dev_loss is None:
            raise UserError(f"tune.dropouts={tune.dropouts}: all trainings of {variant.name} diverged: set others")
    tuning = Tuning(best.overrides, [*rates, *dropouts])
    write_record(ablation.tuning_file(variant), tuning, SCHEMA_VERSION)
    return tuning
