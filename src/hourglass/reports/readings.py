"""What the points of a figure say to a reader who rests on one, and where they are in its SVG."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter

from hourglass.reports.plots import Line, LineFigure
from hourglass.reports.sentences import say

# matplotlib's SVG has so many units an inch.
SVG_UNITS = 72.0


@dataclass(frozen=True)
class ReadPoint:
    """A point of a line.

    Attributes:
        x: in the units of the SVG, from the left.
        y: from the top.
        text: what it says.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class ReadSeries:
    """A line with its points, in the order of the ids series-0-..., series-1-... of its elements.

    Attributes:
        name: of the line.
        colour: of the line, as #rrggbb.
        points: those that are drawn.
    """

    name: str
    colour: str
    points: list[ReadPoint]


def read_figure(figure: LineFigure) -> list[ReadSeries]:
    """Return the readings of a figure that has been written as SVG: before that, its layout is not known."""
    axes = figure.axes[0]
    return [
        ReadSeries(name, colour, [_point(figure, axes, name, line, at) for at in _drawn(line)])
        for name, line, colour in figure.drawn
    ]


def _drawn(line: Line) -> list[int]:
    return [at for at, value in enumerate(line.y) if math.isfinite(value)]


def _point(figure: LineFigure, axes: Axes, name: str, line: Line, at: int) -> ReadPoint:
    x, y = axes.transData.transform((line.x[at], line.y[at])) * SVG_UNITS / figure.dpi
    interval = None
    if line.low is not None and line.high is not None and math.isfinite(line.low[at]):
        interval = (line.low[at], line.high[at])
    text = say(
        "figures",
        "reading",
        name=name,
        value=line.y[at],
        unit=" ".join(axes.get_ylabel().split()),
        interval=interval,
        x=_tick_labels(axes).get(line.x[at], f"{line.x[at]:z.4g}"),
        x_label=axes.get_xlabel(),
        few=line.few is not None and line.few[at],
    )
    return ReadPoint(x, figure.get_figheight() * SVG_UNITS - y, text)


def _tick_labels(axes: Axes) -> Mapping[float, str]:
    """Return the labels of the horizontal axis by their places, where it has labels of its own."""
    if not isinstance(axes.xaxis.get_major_formatter(), FixedFormatter):
        return {}
    return {
        float(tick): label.get_text() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
