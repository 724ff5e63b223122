"""Train a seed of a corpus's blind decoder: python pipelines/ablation/train_blind.py CORPUS SEED

The blind decoder never sees the source. It gets the search of every variant (tune.py CORPUS blind), and is trained with
every seed and budget. With each budget, the seed that is best on dev is the one that bits are measured against. It
cannot translate: its likelihoods alone are kept.
"""

from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.keeping import keep_runs
from hourglass.experiments.remaining import remaining_training
from hourglass.training.jobs import run_training


def main(ablation: Ablation, corpus: str, number: str) -> None:
    """Climb the ladder of budgets with one seed, and keep what the bits need."""
    ablation.check_corpus(corpus)
    blind = ablation.blind(corpus)
    seed = ablation.seed(blind, number)
    print(remaining_training(ablation), flush=True)
    for overrides in ablation.ladder(blind, seed):
        run_training(overrides)
    keep_runs(ablation, blind, seed)


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS", "SEED"))
