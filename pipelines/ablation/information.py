"""Measure the bits that reach each variant's decoder: python pipelines/ablation/information.py CORPUS"""

from hourglass.analysis.information import write_information
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.information import measure_information


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/information/CORPUS.json: bits by sentence length, by position, and during training."""
    ablation.check_corpus(corpus)
    information = measure_information(ablation, corpus, ablation.corpora[corpus].budgets[-1])
    write_information(ablation.information_file(corpus), information)


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
