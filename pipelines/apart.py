"""Translate the same clauses apart and joined: python pipelines/apart.py RUN [RUN ...]

This separates what length costs from what other words cost. The runs are of a corpus whose sentences are joined from
clauses (data=kjv_web). Runs that differ in the seed alone are one variant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field, NonNegativeInt

from hourglass.analysis.apart import compare_apart
from hourglass.analysis.grouping import open_finished
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.metrics.significance import RESAMPLES
from hourglass.reports.apart import write_apart
from hourglass.reports.document import Picture, to_markdown, write_made_by


@dataclass(frozen=True)
class ApartSettings:
    """conf/apart.yaml.

    Attributes:
        run: run folders.
        sentences: at most so many of each number of clauses; 0: all.
        out: folder of the report.
    """

    run: RunPaths
    sentences: NonNegativeInt
    out: Annotated[str, Field(min_length=1)] | None


def main(values: Mapping[str, Any]) -> None:
    """Print the tables, and write the report if there is a folder for it."""
    settings = build(ApartSettings, values, "")
    runs, left_out = open_finished(settings.run)
    if not runs:
        raise UserError(f"no finished run: {'; '.join(list(left_out.values())[:3])}")
    blocks = write_apart(compare_apart(runs, RESAMPLES, settings.sentences), left_out)
    print(to_markdown([block for block in blocks if not isinstance(block, Picture)], figures=""))
    if settings.out is not None:
        write_made_by(Path(settings.out).expanduser(), blocks, "pipelines/apart.py")
        print(f"written: {settings.out}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("apart", "run..."))
