"""Keep small models of a corpus in git: python pipelines/ablation/keep_models.py CORPUS"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.keeping import keep_model


def main(corpus: str) -> None:
    """Write results/CORPUS/models/VARIANT for each variant of `models`, and for the baseline if there is none."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    for name in ablation.corpora[corpus].models or [ablation.settings.baseline]:
        print(keep_model(ablation, ablation.variant(corpus, name)))


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
