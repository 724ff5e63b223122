"""Figures: lines that are told apart by colour, dash and marker, so that they stay legible in greyscale."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with any colour vision. Yellow, too light on white, is left out.
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


# As many lines have their names among them; the names of more stand above.
SPACE = 4


@dataclass(frozen=True)
class Line:
    """One line: points, a band round them where there is one, and which points rest on few sentences."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    few: Sequence[bool] | None = None
    level: bool = False  # one measurement, the same at every x: a line without points


def look(number: int) -> tuple[str, Any, str]:
    """Return colour, dash and marker of the line of that number; no two of the first 49 are the same."""
    lap, at = divmod(number, len(COLOURS))
    return COLOURS[at], DASHES[(at + lap) % len(DASHES)], MARKERS[(at + 2 * lap) % len(MARKERS)]


def draw_lines(
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    zero: bool = False,
    order: Sequence[str] | None = None,
    floor: tuple[str, Line] | None = None,
    span: float = 0,
) -> Figure:
    """Draw named lines over each other.

    Args:
        lines: by name.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        zero: mark the height 0, for differences.
        order: all names of the report, so that a name has one look in all its figures; None: those of `lines`.
        span: the least that the vertical axis spans, so that nothing does not look like much.
        floor: name and line of what needs no model; a thin one, without points.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    looks = list(order or lines)
    for name, line in lines.items():
        colour, dash, marker = look(looks.index(name))
        points: dict[str, Any] = {} if line.level else {"marker": marker, "markersize": 5}
        axes.plot(line.x, line.y, label=name, color=colour, linestyle=dash, **points)
        hollow = [i for i, few in enumerate(line.few or ()) if few]
        if hollow:
            x, y = [line.x[i] for i in hollow], [line.y[i] for i in hollow]
            axes.plot(x, y, color=colour, linestyle="", marker=marker, markersize=5, markerfacecolor="white")
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    if floor:
        axes.plot(floor[1].x, floor[1].y, label=floor[0], color="#666666", linestyle=(0, (1, 3)), linewidth=1)
    if zero:
        axes.axhline(0, color="#666666", linewidth=0.8)
    bottom, top = axes.get_ylim()
    if top - bottom < span:
        axes.set_ylim((bottom + top - span) / 2, (bottom + top + span) / 2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(lines) > SPACE:
        figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside upper left")
    else:
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_points(x: Sequence[float], y: Sequence[float], *, x_label: str, y_label: str) -> Figure:
    """Draw points, and the diagonal on which both sides are equal; where many fall together it is darker."""
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max([1, *x, *y])
    axes.plot([0, most], [0, most], color="#666666", linewidth=0.8)
    axes.scatter(x, y, s=12, color=COLOURS[2], alpha=0.3, linewidth=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_matrices(columns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """Draw weights as matrices, dark where they are large: a column for each heading, a row for each sentence.

    Args:
        columns: heading, and of each sentence its `source` and `target` pieces and `weights` [T, S].
    """
    sentences = len(columns[0][1])
    figure = Figure(figsize=(3.6 * len(columns), 3.6 * sentences), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(sentences, len(columns), squeeze=False)
    for column, (heading, some) in enumerate(columns):
        for row, one in enumerate(some):
            axes = grid[row][column]
            axes.imshow(one["weights"], cmap="Greys", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(range(len(one["source"])), one["source"], rotation=90, fontsize=6)
            axes.set_yticks(range(len(one["target"])), one["target"] if column == 0 else [], fontsize=6)
            if row == 0:
                axes.set_title(heading, fontsize=9)
    return figure


def to_svg(figure: Figure, salt: str) -> str:
    """Return a figure as an SVG element that scales with the page; the same figure is the same text.

    Args:
        figure: the figure.
        salt: names the figure, so that the ids in it are its own where several stand in one page.
    """
    # Text stays text: smaller, searchable, and read out by a screen reader.
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    # An id is one of the whole page that the figure stands in.
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{salt}-", text)
    return text[text.index("<svg") :]


def to_pdf(figure: Figure) -> bytes:
    """Return a figure as PDF; the same figure is the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="pdf", metadata={"CreationDate": None})
    return stream.getvalue()
