"""Figures with matplotlib; lines differ in colour, dash and marker, so that they stay legible in greyscale."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from hourglass.system.markup import visible

# Okabe and Ito (2008): distinct for any colour vision. Yellow is left out: it is too light on white.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 1)),
)


MARKERS = ("o", "s", "^", "D", "v", "P", "X")


# Names are text: a dollar sign starts no formula, whatever the user's matplotlibrc says.
_PLAIN_TEXT: Any = {"text.parse_math": False, "text.usetex": False}


# With more points than this, an SVG holds them as an image, so that its size is bounded.
MOST_POINTS = 5000


# With more lines than this, the legend moves from inside the axes to above them.
MOST_INSIDE = 4


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        x: of the points.
        y: of the points.
        low: lower edge of the band; None: no band.
        high: upper edge of the band.
        few: whether a point rests on few sentences; its marker is hollow.
        level: whether the line is a single measurement, drawn at all x without markers.
        each: at each point the values of single seeds, drawn as small dots.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    few: Sequence[bool] | None = None
    level: bool = False
    each: Sequence[Sequence[float]] = ()


class LineFigure(Figure):
    """A figure of named lines, which can be read.

    Attributes:
        drawn: name, line and colour; the elements of number N have ids that begin with series-N-.
    """

    drawn: Sequence[tuple[str, Line, str]]


def look(number: int) -> tuple[str, Any, str]:
    """Return colour, dash and marker of a line by its number; the first 49 differ from each other."""
    lap, at = divmod(number, len(COLOURS))
    return COLOURS[at], DASHES[(at + lap) % len(DASHES)], MARKERS[(at + 2 * lap) % len(MARKERS)]


@mpl.rc_context(_PLAIN_TEXT)
def draw_lines(
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    zero: bool = False,
    order: Sequence[str] | None = None,
    floor: tuple[str, Line] | None = None,
    span: float = 0,
    x_values: Sequence[float] = (),
    log_x: bool = False,
    bands: str = "",
) -> LineFigure:
    """Draw named lines over each other.

    Args:
        lines: by name.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit; a line feed breaks the line.
        zero: draw a line at height 0, for differences.
        order: all names of the report, so that a name looks the same in all figures; None: those of `lines`.
        floor: name and line of a reference that needs no model; drawn thin, without markers.
        span: smallest range of the vertical axis, so that a negligible difference does not look large.
        x_values: values that the horizontal axis shows; none: matplotlib chooses.
        log_x: whether the horizontal axis is logarithmic.
        bands: what the bands cover, which the figure says; empty: there are none.
    """
    figure = LineFigure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    looks = list(order or lines)
    handles = []
    drawn = []
    for number, (name, line) in enumerate(lines.items()):
        own = look(looks.index(name))
        handles += _draw_line(axes, line, number, own)
        drawn.append((name, line, own[0]))
    if floor:
        thin: dict[str, Any] = {"color": "#666666", "linestyle": (0, (1, 3)), "linewidth": 1}
        handles += axes.plot(floor[1].x, floor[1].y, gid=f"series-{len(lines)}-line", **thin)
        drawn.append((*floor, "#666666"))
    figure.drawn = drawn
    if zero:
        axes.axhline(0, color="#666666", linewidth=0.8)
    bottom, top = axes.get_ylim()
    if top - bottom < span:
        axes.set_ylim((bottom + top - span) / 2, (bottom + top + span) / 2)
    if log_x:
        axes.set_xscale("log")
    if x_values:
        axes.set_xticks(x_values, [f"{value:zg}" for value in x_values])
        axes.set_xticks([], minor=True)
    axes.set_xlabel(visible(x_label))
    axes.set_ylabel("\n".join(map(visible, y_label.split("\n"))))
    if bands:
        axes.set_title(f"bands: 95 %, {bands}", loc="right", fontsize=7, color="#666666")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    # Handles with labels: matplotlib leaves a line out whose own label begins with an underscore.
    names = [visible(name) for name in [*lines, *([floor[0]] if floor else [])]]
    legend: dict[str, Any] = {"handles": handles, "labels": names, "frameon": False, "fontsize": 8}
    if len(lines) > MOST_INSIDE:
        _name_legend(figure.legend(**legend, ncols=3, loc="outside upper left"))
    else:
        _name_legend(axes.legend(**legend))
    return figure


def _draw_line(axes: Axes, line: Line, number: int, looks: tuple[str, Any, str]) -> list[Line2D]:
    """Draw a line with its band and the values of its seeds, and return what the legend shows.

    Args:
        axes: to draw on.
        line: to draw.
        number: of its ids.
        looks: colour, dash and marker.
    """
    gid, (colour, dash, marker) = f"series-{number}", looks
    points: dict[str, Any] = {} if line.level else {"marker": marker, "markersize": 5}
    handles = axes.plot(line.x, line.y, color=colour, linestyle=dash, gid=f"{gid}-line", **points)
    hollow = [i for i, few in enumerate(line.few or ()) if few]
    if hollow:
        x, y = [line.x[i] for i in hollow], [line.y[i] for i in hollow]
        points = {"marker": marker, "markersize": 5, "markerfacecolor": "white"}
        axes.plot(x, y, color=colour, linestyle="", gid=f"{gid}-few", **points)
    if line.low is not None and line.high is not None:
        band: dict[str, Any] = {"color": colour, "alpha": 0.15, "linewidth": 0}
        axes.fill_between(line.x, line.low, line.high, gid=f"{gid}-band", **band)
    for place, (x_of_seeds, values) in enumerate(zip(line.x, line.each, strict=False)):
        points = {"marker": ".", "markersize": 4}
        own = f"{gid}-seeds-{place}"
        axes.plot([x_of_seeds] * len(values), values, color=colour, linestyle="", gid=own, **points)
    return handles


def _name_legend(shown: Legend) -> None:
    """Give the entries of a legend the ids of their lines."""
    for number, (handle, text) in enumerate(zip(shown.legend_handles, shown.get_texts(), strict=True)):
        if handle is not None:
            handle.set_gid(f"series-{number}-handle")
        text.set_gid(f"series-{number}-name")


@mpl.rc_context(_PLAIN_TEXT)
def draw_estimates(
    values: Mapping[str, Sequence[float]], intervals: Sequence[Sequence[float] | None], *, x_label: str, bands: str
) -> Figure:
    """Draw rows, the first at the top: the values as small dots, their mean as a mark, and an interval as a line.

    Args:
        values: by the name of the row.
        intervals: lower and upper end for each row; None: there is none.
        x_label: of the horizontal axis, with its unit.
        bands: what the intervals cover, which the figure says.
    """
    figure = Figure(figsize=(6.4, 1.2 + 0.35 * len(values)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, (each, interval) in enumerate(zip(values.values(), intervals, strict=True)):
        colour, _, marker = look(row)
        if interval is not None:
            axes.plot(interval, [row, row], color=colour, linewidth=1)
        axes.plot(each, [row] * len(each), color=colour, linestyle="", marker=".", markersize=4)
        axes.plot(sum(each) / len(each), row, color=colour, marker=marker, markersize=6)
    axes.set_yticks(range(len(values)), list(map(visible, values)))
    axes.invert_yaxis()
    axes.set_title(f"lines: 95 %, {bands}", loc="right", fontsize=7, color="#666666")
    axes.set_xlabel(visible(x_label))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


@mpl.rc_context(_PLAIN_TEXT)
def draw_points(x: Sequence[float], y: Sequence[float], *, x_label: str, y_label: str) -> Figure:
    """Draw points and the diagonal x = y; the points are translucent, so crowded places are darker."""
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max([1, *x, *y])
    axes.plot([0, most], [0, most], color="#666666", linewidth=0.8)
    axes.scatter(x, y, s=12, color=COLOURS[2], alpha=0.3, linewidth=0, rasterized=len(x) > MOST_POINTS)
    axes.set_xlabel(visible(x_label))
    axes.set_ylabel(visible(y_label))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@mpl.rc_context(_PLAIN_TEXT)
def draw_words(words: Sequence[str], places: Sequence[Sequence[float]], *, title: str) -> Figure:
    """Draw words at their places in a plane.

    Args:
        words: N.
        places: [N, 2].
        title: what the figure says of itself.
    """
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter([x for x, _ in places], [y for _, y in places], s=4, color=COLOURS[2])
    for word, (x, y) in zip(words, places, strict=True):
        axes.annotate(visible(word), (x, y), xytext=(2, 2), textcoords="offset points", fontsize=7)
    axes.set_title(visible(title), loc="right", fontsize=7, color="#666666")
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second principal component")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@mpl.rc_context(_PLAIN_TEXT)
def draw_matrices(columns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """Draw attention weights as matrices, dark where they are large: a row of matrices for each sentence.

    Args:
        columns: heading, and for each sentence its `source` and `target` pieces and `weights` [T, S].
    """
    sentences = len(columns[0][1])
    figure = Figure(figsize=(3.6 * len(columns), 3.6 * sentences), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(sentences, len(columns), squeeze=False)
    for column, (heading, alignments) in enumerate(columns):
        for row, alignment in enumerate(alignments):
            axes = grid[row][column]
            axes.imshow(alignment["weights"], cmap="Greys", vmin=0, vmax=1, aspect="auto")
            source, target = (list(map(visible, alignment[side])) for side in ("source", "target"))
            axes.set_xticks(range(len(source)), source, rotation=90, fontsize=6)
            axes.set_yticks(*((range(len(target)), target) if column == 0 else ([], [])), fontsize=6)
            if row == 0:
                axes.set_title(visible(heading), fontsize=9)
    return figure


def draw_over_pictures(pairs: Sequence[Mapping[str, Any]], columns: int = 10) -> Figure:
    """Draw attention weights over pictures: each picture by itself, then once for each word, bright where it is read.

    Args:
        pairs: for each picture its `pixels` [H, H, 3], `target` pieces and `weights` [T, S], S patches row by row.
        columns: panels in a row.
    """
    rows = [1 + len(pair["target"]) // columns for pair in pairs]  # With the picture by itself.
    figure = Figure(figsize=(1.05 * columns, 1.2 * sum(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(sum(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for pair, first in zip(pairs, np.cumsum(rows) - rows, strict=True):
        panels = grid[first:].flat
        pixels, weights = np.array(pair["pixels"]), np.array(pair["weights"])
        next(panels).imshow(pixels)
        side = math.isqrt(weights.shape[1])
        enlarged = np.ones((len(pixels) // side,) * 2)
        for word, row in zip(pair["target"], weights, strict=True):
            axes = next(panels)
            light = np.kron(row.reshape(side, side) / max(row.max(), 1e-9), enlarged)
            axes.imshow(pixels * (0.15 + 0.85 * light[..., None]))
            axes.set_title(visible(word.replace("\u2581", " ").strip()), fontsize=7, pad=2)
    return figure


def to_svg(figure: Figure, salt: str) -> str:
    """Return a figure as an SVG element that scales with the page; equal figures give equal text.

    Args:
        figure: the figure.
        salt: a name that makes the ids in the SVG unique among the figures of a page.
    """
    # Keep text as text: it is smaller, searchable, and accessible to screen readers.
    with mpl.rc_context({**_PLAIN_TEXT, "svg.hashsalt": salt, "svg.fonttype": "none"}):
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    # Ids are global in the page that embeds the figure. The text between tags may spell the same.
    mark = re.sub(r"[^\w.-]", "-", salt)  # What an id may hold.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r'\bid="|xlink:href="#|url\(#', rf"\g<0>{mark}-", tag[0]), text)
    return text[text.index("<svg") :]


@mpl.rc_context(_PLAIN_TEXT)
def to_pdf(figure: Figure) -> bytes:
    """Return a figure as PDF; equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="pdf", metadata={"CreationDate": None})
    return stream.getvalue()
