"""Train a variant of the ablation with one seed: python pipelines/ablation/train_variant.py CORPUS ATTENTION SEED

It calls src/train.py. A training that was killed resumes from its last checkpoint.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.system.commands import path_override
from hourglass.training.jobs import run_training


def main(corpus: str, attention: str, seed: str) -> None:
    """Train with the full budget and the settings that the variant's search chose."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    number = ablation.seed(corpus, seed)
    overrides = ablation.overrides(variant, number, ablation.corpora[corpus].target_tokens)
    run_dir = path_override("run_dir", ablation.run(variant, number).path)
    run_training([*overrides, *ablation.chosen(variant), run_dir])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION", "SEED"))
