"""Measure the bits that reach each variant's decoder: python pipelines/ablation/information.py CORPUS"""

from hourglass.analysis.bits import measure_bits
from hourglass.analysis.comparability import choose_blind
from hourglass.analysis.information import write_information
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.training.finished import FinishedRun


def main(corpus: str) -> None:
    """Write results/information/CORPUS.json: bits by sentence length, by position, and during training."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    settings = ablation.corpora[corpus]
    information = measure_bits(
        choose_blind([FinishedRun.open(run.path, "blind") for run in ablation.blind_runs(corpus)]),
        {
            variant.name: [FinishedRun.open(ablation.run(variant, seed).path) for seed in ablation.seeds(variant)]
            for variant in ablation.variants(corpus)
        },
        baseline=ablation.settings.baseline,
        edges=settings.edges,
        resamples=ablation.settings.resamples,
        converged=ablation.settings.converged,
        blind_rates=[candidate.learning_rate for candidate in ablation.tuning(ablation.blind(corpus)).candidates],
    )
    write_information(ablation.information_file(corpus), information)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
