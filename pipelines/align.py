"""Alignment error rates of runs on copy or reverse, on their test split: python pipelines/align.py RUN ..."""

import sys

from hourglass.analysis.alignment import TRUE, align, check_aligns, score_alignment
from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import open_run
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json


def main(runs: list[str]) -> None:
    """Print a line for each run."""
    if not runs:
        raise UserError("usage: python pipelines/align.py RUN ...")
    opened, tests = [open_run(path, "run") for path in runs], []
    for run, config in opened:  # All of them, before the work begins.
        if config["data"]["name"] not in TRUE:
            raise UserError(
                f"{run.path}: the true alignment of data={config['data']['name']} is not known: name runs of copy or "
                "reverse"
            )
        check_aligns(config["attention"]["name"], config["tokenizer"]["model"])
        tests.append(read_translations(run.translations))
    print(f"{'corpus':<8}  {'attention':<16}  {'seed':>4}  {'BLEU':>6}  {'AER %':>6}  {'within 1 %':>10}  {'links':>7}")
    for (run, config), rows in zip(opened, tests, strict=True):
        trained, corpus = load_trained(run.best), config["data"]["name"]
        found = align(trained, [row.source for row in rows], [row.reference for row in rows])
        score, bleu = score_alignment(found, TRUE[corpus]), read_json(run.metrics)["test"]["bleu"]
        print(
            f"{corpus:<8}  {config['attention']['name']:<16}  {config['seed']:>4}  {bleu:>6.2f}  "
            f"{100 * score.error_rate:>6.2f}  {100 * score.error_rate_near:>10.2f}  {score.links:>7,}",
            flush=True,
        )
    print(
        "\nAER: alignment error rate of the largest weight, the model reading the reference (Och and Ney 2003, all "
        "links sure).\nWithin 1: were a link to a neighbour of the true word right. BLEU: of the run's own translation "
        "of test."
    )


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
