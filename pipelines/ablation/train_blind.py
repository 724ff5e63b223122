"""Train the runs of an ablation that are blind to the source: python pipelines/ablation/train_blind.py CORPUS

The best of them on dev is what the bits of all variants are counted from. Killed, it goes on where it was.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.config.compose import path_override
from hourglass.experiments.ablation import load_ablation
from hourglass.training.jobs import run_training


def main(corpus: str) -> None:
    """Train one for each learning rate of the search."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    for run, overrides in ablation.blind_runs(corpus):
        run_training([*overrides, path_override("run_dir", run.path)])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
