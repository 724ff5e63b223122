"""Write the explorer page of a corpus's variants: python pipelines/ablation/explore_variants.py CORPUS"""

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation

# Few enough for a page in git.
SENTENCES = 40


def main(corpus: str) -> None:
    """Write results/CORPUS/explorer.html with the first seed of each variant."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    seed = ablation.corpora[corpus].seeds[0]
    paths = [str(ablation.run(variant, seed).path) for variant in ablation.variants(corpus)]
    print(f"written: {explore(paths, SENTENCES, ablation.results(corpus) / 'explorer.html')}")


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
