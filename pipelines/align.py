"""Alignment error rates of runs on copy or reverse, on their test split: python pipelines/align.py RUN ..."""

from collections.abc import Mapping
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.analysis.alignment import TRUE, align, check_aligns, score_alignment
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import check
from hourglass.errors import UserError
from hourglass.metrics.scoring import main_of
from hourglass.training.finished import FinishedRun


def main(values: Mapping[str, Any]) -> None:
    """Print a line for each run."""
    finished = [FinishedRun.open(path) for path in check(RunPaths, values["run"], "run")]
    for run in finished:  # Check all of them before the first model is read.
        if run.config["data"]["name"] not in TRUE:
            raise UserError(
                f"{run.path}: the true alignment of data={run.config['data']['name']} is not known: name runs of copy "
                "or reverse"
            )
        check_aligns(run.config["attention"]["name"], run.config["tokenizer"]["model"])
        _ = run.translations  # A missing file ends the command here.
    print(
        f"{'corpus':<8}  {'encoder':<11}  {'attention':<16}  {'seed':>4}  {'score':>7}  {'AER %':>6}  "
        f"{'within 1 %':>10}  {'links':>7}"
    )
    for run in finished:
        corpus, rows = run.config["data"]["name"], run.translations
        links = align(run.trained, [row.source for row in rows], [row.reference for row in rows])
        score, test = score_alignment(links, TRUE[corpus]), run.metrics.test
        assert test is not None  # As there are translations of test.
        print(
            f"{corpus:<8}  {run.config['encoder']['name']:<11}  {run.config['attention']['name']:<16}  "
            f"{run.config['seed']:>4}  {test[main_of(test)]:>7.2f}  {100 * score.error_rate:>6.2f}  "
            f"{100 * score.error_rate_near:>10.2f}  {score.links:>7,}",
            flush=True,
        )
    print(
        "\nAER: alignment error rate of the largest weight under teacher forcing (Och and Ney 2003, all links sure).\n"
        "Within 1: the same if a link to a neighbour of the true word counts as correct. Score: the main "
        "metric (BLEU, where nothing else was asked for) of the run's own translation of test."
    )


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("align", "run..."))
