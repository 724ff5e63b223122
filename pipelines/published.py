"""Train and score the published systems on Multi30k: python pipelines/published.py FOLDER [SOURCE-TARGET ...]

FOLDER holds the corpus's raw files. Several directions may run at the same time, each as a process of its own with its
share of the cores (OMP_NUM_THREADS=1). An interrupted run resumes; a run that has a record is not made again. The
report is results/published/report.html.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import check
from hourglass.experiments.published import (
    PublishedSettings,
    command_line,
    list_published_runs,
    make_published_run,
    published_settings,
)
from hourglass.experiments.published_report import report_published
from hourglass.experiments.published_scores import score_published, write_scores
from hourglass.reports.document import write_files
from hourglass.system.project import ROOT
from hourglass.training.preparation import folder_override

# All but the keys of the command alone.
RECORDED = {field.name for field in fields(PublishedSettings)}


def main(values: Mapping[str, Any]) -> None:
    """Make the runs that have no record yet, and write scores and report."""
    corpus, only = check(str, values["corpus"], "corpus"), check(list[str], values["only"], "only")
    settings = published_settings(values)
    runs = list_published_runs(settings, only or settings.directions)
    folder_override(corpus, command_line(runs[0], settings))  # What is missing is said once, before any training.
    for number, run in enumerate(runs, 1):
        made = make_published_run(run, settings, corpus)
        print(f"{number}/{len(runs)}: {run.folder.path if made else f'{run.record_file} exists'}", flush=True)
    scores, folder = score_published(settings), ROOT / "results" / "published"
    write_scores(folder / "scores.json", scores)
    write_files(folder, report_published(scores, settings))
    print(f"written: {folder}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("published", "corpus", "only...", recorded=RECORDED))
