"""Write the explorer page of a corpus's variants: python pipelines/ablation/explore_variants.py CORPUS"""

from hourglass.analysis.explorer import explore
from hourglass.analysis.histories import Course
from hourglass.analysis.width import find_width_families
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, Variant, read_stage
from hourglass.training.finished import FinishedRun

# Few enough for a page in git.
SENTENCES = 40


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/CORPUS/explorer.html with the small models and what git keeps of the runs."""
    ablation.check_corpus(corpus)
    settings = ablation.corpora[corpus]
    names = settings.models or [ablation.settings.baseline]
    models = [str(ablation.model(ablation.variant(corpus, name)).path) for name in names]
    blind = [str(run.path) for run in ablation.open_runs(ablation.blind(corpus), settings.budgets[-1])]
    page = ablation.results(corpus) / "explorer.html"
    print(f"written: {explore(models, SENTENCES, page, blind, ladders=kept_ladders(ablation, corpus, names))}")


def kept_ladders(ablation: Ablation, corpus: str, names: list[str]) -> list[Course]:
    """Return what is kept of the first seed with each budget: of the variants of the page, and of their other widths.

    Args:
        ablation: settings and paths.
        corpus: of the page.
        names: of the variants whose models the page shows.
    """

    def ladder(variant: Variant) -> list[FinishedRun]:
        seed, budgets = ablation.seeds(variant)[0], ablation.corpora[corpus].budgets
        return [FinishedRun.open(ablation.kept(variant, seed, budget).path) for budget in budgets]

    ladders = {variant.name: ladder(variant) for variant in ablation.variants(corpus)}
    families = find_width_families(
        {name: runs[-1].config for name, runs in ladders.items()}, ablation.settings.baseline
    )
    widths = [
        name
        for family in families
        if set(family.variants.values()) & set(names)
        for name in family.variants.values()
        if name not in names
    ]
    shown = [Course.of_ladder(ladders[name], number) for number, name in enumerate(names)]
    return [*shown, *(Course.of_ladder(ladders[name]) for name in widths)]


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
