"""Train the blind decoder of a corpus: python pipelines/ablation/train_blind.py CORPUS

The blind decoder never sees the source. It gets the search of every variant, and is trained with every seed and budget.
With each budget, the seed that is best on dev is the one that bits are measured against.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.keeping import keep_runs
from hourglass.experiments.remaining import remaining_training
from hourglass.experiments.tuning import tune_variant
from hourglass.training.jobs import run_training


def main(corpus: str) -> None:
    """Search for its learning rate, and climb the ladder of budgets with each seed."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    blind = ablation.blind(corpus)
    print(remaining_training(ablation), flush=True)
    tune_variant(ablation, blind)
    for seed in ablation.seeds(blind):
        for overrides in ablation.ladder(blind, seed):
            run_training(overrides)
        keep_runs(ablation, blind, seed)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
