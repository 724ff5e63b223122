"""Hold the ladder of the default ablation against whole schedules: python pipelines/schedules.py

The ladder's budgets branch short decays off one training; python pipelines/ablate.py schedules trains the same budgets
with whole schedules. This compares dev loss, the main score and bits, and prints the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field

from hourglass.analysis.schedules import write_schedules
from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.experiments.ablation import load_ablation, refuse_default
from hourglass.experiments.schedules import measure_schedules
from hourglass.reports.document import to_markdown, write_files
from hourglass.reports.schedules import write_schedules_report
from hourglass.system.project import ROOT


@dataclass(frozen=True)
class SchedulesSettings:
    """conf/schedules.yaml.

    Attributes:
        conf: the ablation with whole schedules.
        out: folder of the record and the report, from the project's.
    """

    conf: str
    out: Annotated[str, Field(min_length=1)]


def main(values: Mapping[str, Any]) -> None:
    """Write and print the comparison of each corpus."""
    settings = build(SchedulesSettings, values, "")
    refuse_default(settings.conf, "has the ladder: name the ablation with whole schedules, as conf=schedules")
    whole, ladder = load_ablation(name=settings.conf), load_ablation()
    folder = ROOT / Path(settings.out).expanduser()
    for corpus in whole.corpora:
        schedules = measure_schedules(whole, ladder, corpus)
        write_schedules(folder / f"{corpus}.json", schedules)
        blocks = write_schedules_report(schedules)
        print(to_markdown(blocks, figures=""))
        write_files(folder / corpus, blocks)
        print(f"written: {folder / corpus}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("schedules"))
