"""Write the explorer page of a corpus's variants: python pipelines/ablation/explore_variants.py CORPUS"""

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage

# Few enough for a page in git.
SENTENCES = 40


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/CORPUS/explorer.html with the small models and the blind runs that git keeps."""
    ablation.check_corpus(corpus)
    settings = ablation.corpora[corpus]
    names = settings.models or [ablation.settings.baseline]
    models = [str(ablation.model(ablation.variant(corpus, name)).path) for name in names]
    blind = [str(run.path) for run in ablation.open_runs(ablation.blind(corpus), settings.budgets[-1])]
    page = ablation.results(corpus) / "explorer.html"
    print(f"written: {explore(models, SENTENCES, page, blind)}")


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
