"""Train and score the published systems on Multi30k: python pipelines/published.py FOLDER [SOURCE-TARGET ...]

FOLDER holds the corpus's raw files. Several directions may be made at once, each by a process of its own with its share
of the cores (OMP_NUM_THREADS=1). Killed, it goes on where it was. What is made goes into results/published.md.
"""

import sys

from hourglass.errors import UserError, one_line_errors
from hourglass.published import load_published, make_run, runs_of, write_summary


def main(words: list[str]) -> None:
    """Make what is not made yet, and write the table."""
    if not words:
        raise UserError("usage: python pipelines/published.py FOLDER [SOURCE-TARGET ...]")
    folder, *directions = words
    settings = load_published()
    runs = runs_of(settings, directions or settings.directions)
    for number, run in enumerate(runs, 1):
        done = make_run(run, settings, folder)
        print(f"{number}/{len(runs)}: {run.folder.path if done else f'{run.record} was there'}", flush=True)
    print(f"written: {', '.join(map(str, write_summary(settings)))}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
