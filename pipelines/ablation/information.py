"""Count the bits that reach each variant's decoder: python pipelines/ablation/information.py CORPUS"""

from hourglass.analysis.bits import choose_blind, measure_bits
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.system.files import write_json


def main(corpus: str) -> None:
    """Write them by length, position and training."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    settings = ablation.corpora[corpus]
    found = measure_bits(
        choose_blind([run for run, _ in ablation.blind_runs(corpus)]),
        {
            variant.attention: [ablation.run(variant, seed) for seed in settings.seeds]
            for variant in ablation.variants(corpus)
        },
        baseline=ablation.settings.baseline,
        edges=settings.edges,
        resamples=ablation.settings.resamples,
        converged=ablation.settings.converged,
    )
    write_json(ablation.results(corpus) / "information.json", found)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
