"""Train the blind decoder of a corpus: python pipelines/ablation/train_blind.py CORPUS

The blind decoder never sees the source. Of its runs, the best on dev is the one that bits are measured against. A
training that was killed resumes from its last checkpoint.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.system.commands import path_override
from hourglass.training.jobs import run_training


def main(corpus: str) -> None:
    """Train one run for each learning rate of the search."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    for run, overrides in ablation.blind_runs(corpus):
        run_training([*overrides, path_override("run_dir", run.path)])


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
