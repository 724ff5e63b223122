"""Write the report of a sweep again, from its recorded result alone: python pipelines/capacity/report_sweep.py NAME"""

from hourglass.analysis.capacity import read_capacity
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.reports.capacity import report_capacity
from hourglass.reports.document import write_files
from hourglass.system.commands import printed_command
from hourglass.system.project import ROOT


def main(name: str) -> None:
    """Read results/capacity/NAME/capacity.json and write the report beside it."""
    results = ROOT / "results" / "capacity" / name
    capacity = read_capacity(results / "capacity.json", printed_command("pipelines/capacity/sweep.py", name))
    write_files(results, report_capacity(name, capacity))
    print(f"written: {results}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("NAME"))
