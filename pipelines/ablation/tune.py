"""Search for a variant's settings on dev: python pipelines/ablation/tune.py CORPUS ATTENTION

Every candidate is a short run with the first seed; the candidate with the lowest dev loss is chosen. The grid of
learning rates is extended until the best is no end of it. A search that was killed resumes with the unfinished
candidate.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.rate_search import run_search


def main(corpus: str, attention: str) -> None:
    """Train all candidates, and write their dev losses and costs and the choice."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    settings = ablation.corpora[corpus]
    common = ablation.overrides(variant, settings.seeds[0], settings.tune_tokens)
    run_search(
        ablation.tune.learning_rates,
        lambda rate: ablation.candidates(variant, rate),
        common,
        lambda number: ablation.made(corpus) / "tune" / f"{attention}-{number}",
        ablation.tuning_file(variant),
    )


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION"))
