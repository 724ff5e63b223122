"""Train a variant of the ablation with one seed: python pipelines/ablation/train_variant.py CORPUS VARIANT SEED

It climbs the ladder of budgets: it calls src/train.py for each, and every run but the first starts where the rate of
the one before began to fall. What is trained already is left alone; a training that was killed resumes from its last
checkpoint.
"""

from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.remaining import remaining_training
from hourglass.training.jobs import run_training


def main(ablation: Ablation, corpus: str, name: str, seed: str) -> None:
    """Train with every budget and the settings that the variant's search chose."""
    variant = ablation.variant(corpus, name)
    print(remaining_training(ablation), flush=True)
    for overrides in ablation.ladder(variant, ablation.seed(variant, seed)):
        run_training(overrides)


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS", "VARIANT", "SEED"))
