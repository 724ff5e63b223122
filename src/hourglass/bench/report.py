"""Print the tables of measurements, and draw their growth: `bench.py table FILE`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hourglass.bench.measurements import read_measurements
from hourglass.bench.peers import read_targets
from hourglass.bench.settings import BenchSettings
from hourglass.bench.tables import (
    by_size,
    cell_rows,
    contention_rows,
    device_rows,
    gpu_rows,
    growth_rows,
    other_rows,
    peer_rows,
    precision_rows,
    profile_rows,
    search_rows,
    target_rows,
)
from hourglass.reports.document import Table, to_markdown
from hourglass.reports.plots import Line, draw_lines, to_svg
from hourglass.system.files import write_whole


class _Plot(NamedTuple):
    size: str  # as it ends the measurements' names: "NAME by SIZE"
    suffix: str  # of the file
    x_label: str
    y_label: str
    key: str  # of the plotted value
    unit: str  # of the measurements


_PLOTS = (
    _Plot("tokens a sentence", "", "tokens in a sentence, on each side", "µs per target token", "value", "us"),
    _Plot("tokens a sentence", "-memory", "tokens in a sentence, on each side", "MB", "more_mb", "us"),
    _Plot("beam", "-beam", "beam", "µs per sentence", "value", "us"),
    _Plot("pairs", "-corpus", "sentence pairs in the corpus", "seconds", "value", "s"),
    _Plot("variants of 2 seeds and 1,000 sentences", "-variants", "variants compared", "µs", "value", "us"),
)


def print_tables(_: BenchSettings, path: str) -> None:
    """Print the tables of the measurements in a file as Markdown, and draw their growth as SVG files beside it.

    Args:
        path: a file with the lines that other commands of bench.py have printed.

    Raises:
        UserError: the file has other lines.
    """
    lines, targets = read_measurements(path), read_targets()
    groups = by_size(lines)
    ratios = ", ".join(f"{ratio:g} times the speed of {way}" for way, ratio in targets.device_ratios.items())
    tables = [
        _table(
            "peers",
            peer_rows(lines, targets.peers),
            "Comparison with peers. The shares of the rate are the distance to the machine, and no target. In "
            "brackets: the range of the rounds, the share of the rate that the peer would reach if it did the work "
            "that is counted for ours, and the share that the target asks for."
            f"{_square_rates(lines, targets.square_rates)} Commits: {', '.join(_commits(lines))}.",
        ),
        _table("targets", target_rows(lines, targets), "Other targets. In brackets: the range of the rounds."),
        _table(
            "device",
            device_rows(lines, targets.device_ratios),
            "Training steps on a device: the ratio of our speed to that of other ways to run them, with their speed "
            f"in target tokens/s. Target: {ratios}.",
        ),
        _table(
            "gpu",
            gpu_rows(lines, targets.gpu_peers),
            "Whole trainings on a GPU, with the values of the seeds in brackets; loss in nats a target token. Peers "
            "are compared on the same GPU only.",
        ),
        _table(
            "contention",
            contention_rows(lines),
            "Speed beside processes that want the cores, too: the share of the speed of one thread alone, with the "
            "range of the rounds in brackets. Of two at once, each one's.",
        ),
        _table(
            "precision",
            precision_rows(lines, targets.precision_ratios),
            "Training steps on a CPU by precision, all taking turns in one run. In brackets: the range of the rounds.",
        ),
        _table(
            "cells",
            cell_rows(lines),
            "Training steps at the default settings by the cell of encoder and decoder, all taking turns in one run. "
            "Ratios are those of a round; in brackets: their range.",
        ),
        _table(
            "searches",
            search_rows(lines),
            "Translation of a test set by the precision of the search, all taking turns in one run. Ratios are those "
            "of a round; in brackets: their range.",
        ),
        _table(
            "profile",
            profile_rows(lines),
            "Shares of the parts in the time of a training step, by torch's profiler. In brackets: the range of the "
            "rounds. The milliseconds are those of a step that is not profiled.",
        ),
        _table("others", other_rows(lines), "All other measurements."),
        _table("growth", growth_rows(groups), "Growth: the slope of the logarithm over the logarithm of the size."),
    ]
    print(to_markdown([table for table in tables if table.rows], figures=""))
    _draw_growth(groups, Path(path))


def _table(name: str, rows: list[list[str]], caption: str) -> Table:
    return Table(name, rows[0], rows[1:], caption)


def _draw_growth(groups: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Draw each plot that has measurements, as an SVG file beside `file`."""
    for plot in _PLOTS:
        lines = {}
        for name, group in groups.items():
            measurement, _, size = name.partition(" by ")
            if size == plot.size and all(line["unit"] == plot.unit and plot.key in line for line in group):
                kind, *variant, _ = measurement.split(", ")
                values = [line[plot.key] for line in group]
                lines[", ".join(variant) or kind] = Line([line["size"] for line in group], values)
        if lines:
            figure = draw_lines(lines, x_label=plot.x_label, y_label=plot.y_label)
            write_whole(file.with_name(f"{file.stem}{plot.suffix}.svg"), to_svg(figure, f"speed{plot.suffix}"))


def _square_rates(lines: Iterable[Mapping[str, Any]], rates: Mapping[str, float]) -> str:
    """Return sentences with the rate of products of the machines of the measurements, when peers ran there."""
    processors = sorted({line["processor"] for line in lines} & rates.keys())
    return "".join(
        f" {processor} made {rates[processor]:g} GFLOP/s of square products of 1,024 when the peers were measured."
        for processor in processors
    )


def _commits(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the commits of the measurements; "modified": files of the code differed from the commit."""
    commits = {(line.get("commit"), line.get("dirty")) for line in lines}
    return sorted(
        f"{commit[:12]}{' (modified)' if dirty else ''}" if commit else "not recorded" for commit, dirty in commits
    )
