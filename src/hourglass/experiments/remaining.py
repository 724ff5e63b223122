"""What is left to train of an ablation, for the line that each stage that trains begins with."""

from collections.abc import Iterator
from dataclasses import dataclass

from hourglass.experiments.ablation import Ablation, Variant
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.training.optimizer import COOLDOWN


@dataclass(frozen=True)
class Remaining:
    """Target tokens of an ablation's trainings.

    Attributes:
        left: still to be read; a training that was interrupted counts as a whole one, and a search as its first grid.
        whole: by all trainings.
        tokens_per_second: of the trainings that have ended; None before the first.
    """

    left: int
    whole: int
    tokens_per_second: float | None

    def __str__(self) -> str:
        text = f"left to train, in all: {self.left / 1e6:,.1f} of {self.whole / 1e6:,.1f} million target tokens"
        if self.tokens_per_second is None:
            return text
        minutes = self.left / self.tokens_per_second / 60
        return f"{text}, about {minutes:,.0f} minutes one after the other, as fast as so far"


def remaining_training(ablation: Ablation) -> Remaining:
    """Count what is left to train. Evaluation and translation take a tenth as long, and are not counted."""
    left, whole, tokens, seconds = 0, 0, 0, 0.0
    for cost, done, folder in _trainings(ablation):
        whole += cost
        left += 0 if done else cost
        if done and folder.metrics.exists():
            metrics = read_json(folder.metrics)
            # A run that starts from another has that one's tokens and seconds in its own.
            tokens += metrics["train_target_tokens"]
            seconds += metrics["train_seconds"]
    return Remaining(left, whole, tokens / seconds if seconds else None)


def _trainings(ablation: Ablation) -> Iterator[tuple[int, bool, RunFolder]]:
    """Yield of each training its target tokens, whether it has ended, and a folder with its metrics."""
    for corpus, settings in ablation.corpora.items():
        for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
            candidates = {f"{number}": settings.tune_tokens for number in range(len(ablation.tune.learning_rates))}
            for number in range(len(ablation.tune.dropouts)):
                candidates[f"dropout-{number}"] = ablation.tune.dropout_tokens
            for name, budget in candidates.items():
                searched = RunFolder(ablation.made(corpus) / "tune" / f"{variant.name}-{name}")
                yield budget, ablation.tuning_file(variant).exists() or searched.metrics.exists(), searched
            shared = 1 - COOLDOWN if ablation.is_branching(variant) else 0.0
            for seed in ablation.seeds(variant):
                yield from _ladder(ablation, variant, seed, shared)


def _ladder(ablation: Ablation, variant: Variant, seed: int, shared: float) -> Iterator[tuple[int, bool, RunFolder]]:
    """Yield the trainings of a ladder, of which each shares a part of the one before."""
    before = 0
    for budget in ablation.corpora[variant.corpus].budgets:
        made, kept = ablation.rung(variant, seed, budget), ablation.kept(variant, seed, budget)
        done = made.metrics.exists() or kept.metrics.exists()
        yield round(budget - shared * before), done, made if made.metrics.exists() else kept
        before = budget
