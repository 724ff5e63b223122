"""Sweep the width of the neck and report the bits that come through: python pipelines/capacity/sweep.py NAME

NAME is a file of conf/capacity. An interrupted sweep resumes.
"""

from hourglass.analysis.capacity import save_capacity
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.capacity import load_capacity, measure_capacity, train_capacity_runs
from hourglass.reports.capacity import report_capacity
from hourglass.reports.document import write_files
from hourglass.system.project import ROOT


def main(name: str) -> None:
    """Write results/capacity/NAME: capacity.json, and the report with its tables and figures."""
    settings = load_capacity(name)
    runs, results = ROOT / "pipeline" / "capacity" / name, ROOT / "results" / "capacity" / name
    train_capacity_runs(settings, runs)
    capacity = measure_capacity(settings, runs)
    save_capacity(results / "capacity.json", capacity)
    write_files(results, report_capacity(name, capacity))


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("NAME"))
