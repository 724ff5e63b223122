"""Train a variant of the ablation with one seed: python pipelines/train_variant.py CORPUS ATTENTION SEED

The run is src/train.py's own; a run that was killed goes on from its last checkpoint.
"""

from hourglass.ablation import load_ablation, run_training
from hourglass.errors import arguments, one_line_errors
from hourglass.options import path_override


def main(corpus: str, attention: str, seed: str) -> None:
    """Train to the end of the budget, with what the variant's search has chosen."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    number = ablation.seed(corpus, seed)
    overrides = ablation.overrides(variant, number, ablation.corpora[corpus].target_tokens)
    run_dir = path_override("run_dir", ablation.run(variant, number).path)
    run_training([*overrides, *ablation.chosen(variant), run_dir])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION", "SEED"))
