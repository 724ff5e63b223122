"""Train and score the published systems on Multi30k: python pipelines/published.py FOLDER [SOURCE-TARGET ...]

FOLDER holds the corpus's raw files. Several directions may run at the same time, each as a process of its own with its
share of the cores (OMP_NUM_THREADS=1). An interrupted run resumes; a run that has a record is not made again. The
report is results/published/report.html.
"""

import sys

from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.experiments.published import list_published_runs, load_published, make_published_run
from hourglass.experiments.published_report import report_published
from hourglass.experiments.published_scores import score_published, write_scores
from hourglass.reports.document import write_files
from hourglass.system.project import ROOT


def main(words: list[str]) -> None:
    """Make the runs that have no record yet, and write scores and report."""
    if not words:
        raise UserError("usage: python pipelines/published.py FOLDER [SOURCE-TARGET ...]")
    corpus, *directions = words
    settings = load_published()
    runs = list_published_runs(settings, directions or settings.directions)
    for number, run in enumerate(runs, 1):
        made = make_published_run(run, settings, corpus)
        print(f"{number}/{len(runs)}: {run.folder.path if made else f'{run.record_file} exists'}", flush=True)
    scores, folder = score_published(settings), ROOT / "results" / "published"
    write_scores(folder / "scores.json", scores)
    write_files(folder, report_published(scores, settings))
    print(f"written: {folder}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
