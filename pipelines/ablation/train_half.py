"""Train a variant with half the budget: python pipelines/ablation/train_half.py CORPUS ATTENTION

What doubling the budget brings tells whether the variant had converged. It calls src/train.py, with the first seed and
a whole schedule, and scores test. A training that was killed resumes from its last checkpoint.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.system.commands import path_override
from hourglass.training.jobs import run_training


def main(corpus: str, attention: str) -> None:
    """Train with half the budget and the settings that the variant's search chose."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    run_training([*ablation.half_overrides(variant), path_override("run_dir", ablation.half_run(variant).path)])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION"))
