"""Search for a variant's learning rate on dev: python pipelines/ablation/tune.py CORPUS VARIANT

Every candidate is a short run with the first seed; the candidate with the lowest dev loss is chosen. The grid of
learning rates is extended until the best is no end of it. A search that was killed resumes with the unfinished
candidate.
"""

from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.remaining import remaining_training
from hourglass.experiments.tuning import tune_variant


def main(ablation: Ablation, corpus: str, name: str) -> None:
    """Train all candidates, and write their dev losses and costs and the choice."""
    print(remaining_training(ablation), flush=True)
    tune_variant(ablation, ablation.variant(corpus, name))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS", "VARIANT"))
