"""Draw the reference picture of a scale from its recorded points: python pipelines/families/draw_picture.py SCALE

SCALE is a block of `scales` in conf/families/default.yaml, such as cpu.
"""

from hourglass.analysis.families import read_family_points
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.config.options import choose
from hourglass.experiments.families import load_families
from hourglass.reports.document import write_files
from hourglass.reports.families import report_families
from hourglass.system.commands import printed_command
from hourglass.system.project import ROOT


def main(name: str) -> None:
    """Read results/families/SCALE/points and write the report with its table and figures beside the folder."""
    scale, results = choose(load_families().scales, name, "scale"), ROOT / "results" / "families" / name
    points = [
        read_family_points(
            results / "points" / f"{channel}-{family}.json",
            printed_command("pipelines/families/measure_family.py", name, channel, family),
        )
        for channel in scale.channels
        for family in scale.families
    ]
    write_files(results, report_families(name, points))
    print(f"written: {results}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("SCALE"))
