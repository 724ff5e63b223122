"""Write the explorer page of a corpus's variants: python pipelines/ablation/explore_variants.py CORPUS"""

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation

# Few enough for a page in git.
SENTENCES = 40


def main(corpus: str) -> None:
    """Write results/CORPUS/explorer.html with the first seed of each variant, and the bits over the blind decoder.

    It takes the variants' weights, which git does not keep: a page that is there stays where some are missing.
    """
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    seed, page = ablation.corpora[corpus].seeds[0], ablation.results(corpus) / "explorer.html"
    runs = [ablation.run(variant, seed) for variant in ablation.variants(corpus)]
    absent = [run.path for run in runs if not run.best.exists()]
    if absent and page.exists():
        print(f"left as it is: {page} (no weights of {', '.join(map(str, absent))} on this machine)")
        return
    blind = ablation.open_runs(ablation.blind(corpus), ablation.corpora[corpus].budgets[-1])
    paths = [str(run.path) for run in runs]
    print(f"written: {explore(paths, SENTENCES, page, [str(run.path) for run in blind])}")


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
