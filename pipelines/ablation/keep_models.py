"""Keep small models of a corpus in git: python pipelines/ablation/keep_models.py CORPUS"""

from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.keeping import keep_model


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/CORPUS/models/VARIANT for each variant of `models`, and for the baseline if there is none."""
    ablation.check_corpus(corpus)
    for name in ablation.corpora[corpus].models or [ablation.settings.baseline]:
        print(keep_model(ablation, ablation.variant(corpus, name)))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
