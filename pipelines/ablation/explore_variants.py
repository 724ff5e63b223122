"""Write the explorer page of a corpus's variants: python pipelines/ablation/explore_variants.py CORPUS"""

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.keeping import left_as_it_is

# Few enough for a page in git.
SENTENCES = 40


def main(corpus: str) -> None:
    """Write results/CORPUS/explorer.html with the first seed of each variant.

    It takes their weights, which git does not keep: a page that is there stays where those of a variant are not.
    """
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    seed, page = ablation.corpora[corpus].seeds[0], ablation.results(corpus) / "explorer.html"
    runs = [ablation.run(variant, seed) for variant in ablation.variants(corpus)]
    line = left_as_it_is(page, runs)
    print(line or f"written: {explore([str(run.path) for run in runs], SENTENCES, page)}")


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
