"""Train the blind decoder of a corpus: python pipelines/ablation/train_blind.py CORPUS

The blind decoder never sees the source. Of its runs, the best on dev is the one that bits are measured against. The
grid of learning rates is extended as in the search of a variant. A training that was killed resumes from its last
checkpoint.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.rate_search import run_search


def main(corpus: str) -> None:
    """Train one run for each learning rate of the search, and write the outcome."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    run_search(
        ablation.tune.learning_rates,
        ablation.blind_candidates,
        ablation.blind_overrides(corpus),
        lambda number: ablation.blind_run(corpus, number).path,
        ablation.blind_search_file(corpus),
    )


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
