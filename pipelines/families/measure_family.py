"""Train and measure a family by a channel: python pipelines/families/measure_family.py SCALE CHANNEL FAMILY

SCALE, CHANNEL and FAMILY are of conf/families/default.yaml. What is trained already is left alone; a training that was
killed resumes from its last checkpoint.
"""

from hourglass.analysis.families import write_points
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.config.options import choose
from hourglass.experiments.families import list_points, load_families, measure_points, train_points
from hourglass.system.project import ROOT


def main(name: str, channel: str, family: str) -> None:
    """Write results/families/SCALE/points/CHANNEL-FAMILY.json; the runs are in pipeline/families/SCALE."""
    settings = load_families()
    scale = choose(settings.scales, name, "scale")
    points = list_points(settings, scale, channel, family)
    folder = ROOT / "pipeline" / "families" / name / f"{channel}-{family}"
    train_points(scale, points, folder)
    measured = measure_points(scale, points, folder)
    write_points(ROOT / "results" / "families" / name / "points" / f"{channel}-{family}.json", measured)
    minutes = sum(point.seconds for point in measured.points) / 60
    print(f"{channel}, {family}: {len(measured.points)} points, {minutes:z.1f} minutes of training", flush=True)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("SCALE", "CHANNEL", "FAMILY"))
