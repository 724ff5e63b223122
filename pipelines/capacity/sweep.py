"""Sweep the width of the neck and report what came through: python pipelines/capacity/sweep.py NAME

NAME is a file of conf/capacity. Killed, it goes on where it was.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.capacity import load_capacity, measure, run_all
from hourglass.reports.capacity import write_capacity
from hourglass.reports.document import write_files
from hourglass.system.files import write_json
from hourglass.system.project import ROOT, code_version


def main(name: str) -> None:
    """Write results/capacity/NAME: what came through as JSON, and the report with its tables and figures."""
    settings = load_capacity(name)
    folder = ROOT / "pipeline" / "capacity" / name
    run_all(settings, folder)
    found = measure(settings, folder)
    results = ROOT / "results" / "capacity" / name
    write_json(results / "capacity.json", found)
    write_files(results, write_capacity(name, found, str(code_version()["commit"])))


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("NAME"))
