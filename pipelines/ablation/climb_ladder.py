"""Measure the gaps between variants with every budget: python pipelines/ablation/climb_ladder.py CORPUS"""

from hourglass.analysis.ladder import write_ladder
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.ladder import measure_ladder


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/ladders/CORPUS.json."""
    ablation.check_corpus(corpus)
    write_ladder(ablation.ladder_file(corpus), measure_ladder(ablation, corpus))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
