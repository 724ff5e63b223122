"""Keep in git what is needed of a variant's runs: python pipelines/ablation/keep_runs.py CORPUS VARIANT SEED"""

from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.keeping import keep_runs


def main(ablation: Ablation, corpus: str, name: str, seed: str) -> None:
    """Write results/CORPUS/runs/VARIANT-SEED/BUDGET for each budget."""
    variant = ablation.variant(corpus, name)
    keep_runs(ablation, variant, ablation.seed(variant, seed))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS", "VARIANT", "SEED"))
