"""Train a variant of the ablation with one seed: python pipelines/train_variant.py CORPUS ATTENTION SEED

The run is src/train.py's own; a run that was killed goes on from its last checkpoint.
"""

from hourglass.ablation import load_ablation, run_training
from hourglass.errors import arguments, one_line_errors


def main(corpus: str, attention: str, seed: str) -> None:
    """Train to the end of the budget, with what the variant's search has chosen."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    overrides = ablation.overrides(variant, int(seed), ablation.corpora[corpus].target_tokens)
    run_training([*overrides, *ablation.chosen(variant), f"run_dir={ablation.run(variant, int(seed)).path}"])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION", "SEED"))
