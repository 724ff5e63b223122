"""Train and score the published systems on Multi30k: python pipelines/published.py FOLDER [SOURCE-TARGET ...]

FOLDER holds the corpus's raw files. Several directions may be made at once, each by a process of its own with its share
of the cores (OMP_NUM_THREADS=1). Killed, it goes on where it was. What is made goes into results/published/report.html.
"""

import sys

from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.experiments.published import load_published, make_run, runs_of, summarise
from hourglass.experiments.published_report import write_published
from hourglass.reports.document import write_files
from hourglass.system.files import write_json
from hourglass.system.project import ROOT


def main(words: list[str]) -> None:
    """Make what is not made yet, and write the table."""
    if not words:
        raise UserError("usage: python pipelines/published.py FOLDER [SOURCE-TARGET ...]")
    corpus, *directions = words
    settings = load_published()
    runs = runs_of(settings, directions or settings.directions)
    for number, run in enumerate(runs, 1):
        done = make_run(run, settings, corpus)
        print(f"{number}/{len(runs)}: {run.folder.path if done else f'{run.record} was there'}", flush=True)
    summary, folder = summarise(settings), ROOT / "results" / "published"
    write_json(folder / "scores.json", summary)
    write_files(folder, write_published(summary, settings))
    print(f"written: {folder}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
