"""The report of a capacity sweep: bits against the width of the neck, bits per dimension, the longest copy."""

import math
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from hourglass.analysis.capacity import Capacity, CapacityPoint
from hourglass.analysis.convergence import NOT_JUDGED, show_verdict
from hourglass.analysis.evaluation import Tuning
from hourglass.metrics.significance import Interval
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import show_range
from hourglass.reports.plots import Line, draw_lines
from hourglass.reports.sentences import say

# Name of the upper limit in the figures.
SOURCE = "bits in the source"


# The lines whose decoder receives nothing but the neck.
NECKS = ("none", "fixed")


# First part of the names of lines with attention.
CONTROL = "luong_general"


# Standard errors to each side of a 95 % interval.
NORMAL = 1.96


BANDS = say("capacity", "bands")


def report_capacity(name: str, capacity: Capacity) -> list[Block]:
    """Return the report of a sweep.

    Args:
        name: of its file in conf/capacity.
        capacity: its result.
    """
    points = capacity.points
    lowest, highest = points[0].channel.longest_quarter
    order = list(dict.fromkeys(point.line for point in points))
    return [
        Heading(1, say("capacity", "heading", name=name)),
        *map(Paragraph, summarise_capacity(capacity)),
        Picture(
            "capacity-bits",
            _bits_figure(points, order),
            say("capacity", "bits_figure_alt"),
            say("capacity", "bits_figure", lowest=lowest, highest=highest, converged=capacity.converged),
        ),
        Picture(
            "capacity-bits-a-dimension",
            _bits_per_dimension_figure(points, order),
            say("capacity", "dimension_figure_alt"),
            say("capacity", "dimension_figure"),
        ),
        *(_by_length(line, [point for point in points if point.line == line]) for line in order[:2]),
        Picture(
            "capacity-longest-copy",
            _draw(points, order, _longest_copy_line, "symbols"),
            say("capacity", "copy_figure_alt"),
            say("capacity", "copy_figure", shortest=points[0].channel.shortest),
        ),
        *_position_pictures(points, order),
        _table(points),
        Paragraph(_provenance_text(capacity)),
    ]


def summarise_capacity(capacity: Capacity) -> list[str]:
    """Return the findings of a sweep: what a figure means, the bits through each neck, the checks."""
    return [
        _meaning(capacity.points),
        *_neck_paragraphs(capacity.points),
        " ".join(_other_sentences(capacity.points)),
        _check_sentences(capacity.points),
    ]


def _meaning(points: Sequence[CapacityPoint]) -> str:
    channel = points[0].channel
    lowest, highest = channel.longest_quarter
    return say(
        "capacity",
        "meaning",
        lowest=lowest,
        highest=highest,
        source_bits=channel.source_bits,
        precision=max(NORMAL * point.channel.error for point in points),
    )


def _neck_paragraphs(points: Sequence[CapacityPoint]) -> list[str]:
    texts = []
    for line in NECKS:
        group = [point for point in points if point.line == line]
        if not group:
            continue
        first, last = group[0], group[-1]
        limited = sum(point.limited_by_training for point in group)
        texts.append(
            say(
                "capacity",
                "neck",
                line=line,
                first=first,
                last=None if last is first else last,
                widths=len(group),
                limited=limited,
            )
        )
    return texts


def _other_sentences(points: Sequence[CapacityPoint]) -> list[str]:
    """Return the bits of other cells, of the reversed source, and of attention without a neck."""
    texts = []
    width = next((point.width for point in points if point.line == "none, source reversed"), None)
    at_width = {point.line: point for point in points if point.width == width}
    if width is not None and "none" in at_width:
        others = {
            line: point
            for line, point in at_width.items()
            if point.channel.ceiling is None and line.startswith("none, ")
        }
        texts.append(say("capacity", "other_cells", width=width, own=at_width["none"], others=others))
    return [*texts, *(say("capacity", "attention", point=point) for point in points if not point.width)]


def _check_sentences(points: Sequence[CapacityPoint]) -> str:
    rounded = [point.channel for point in points if point.channel.ceiling is not None]
    under = all(channel.bits <= (channel.ceiling or 0) + 3 * channel.error for channel in rounded)
    wrong = max(point.channel.wrong_source_bits - 3 * point.channel.wrong_source_error for point in points)
    return say("capacity", "checks", rounded=rounded, under=under, above_zero=wrong > 0)


def _bits_figure(points: Sequence[CapacityPoint], order: Sequence[str]) -> Figure:
    widths = _widths(points)
    limit = [points[0].channel.source_bits] * len(widths)
    figure = _draw(points, order, _bits_line, "bits per sequence that came through", limit=limit)
    for point in points:
        if point.channel.ceiling is not None:
            figure.axes[0].hlines(point.channel.ceiling, point.width / 1.2, point.width * 1.2, color="#666666")
    return figure


def _bits_per_dimension_figure(points: Sequence[CapacityPoint], order: Sequence[str]) -> Figure:
    necks = [point for point in points if _has_neck_only(point)]
    # The limit rises steeply for narrow necks; cut off, it leaves room for the points.
    top = 1.3 * max(point.channel.bits / point.width for point in necks)
    limit = [min(points[0].channel.source_bits / width, top) for width in _widths(points)]
    return _draw(necks, order, _bits_per_dimension_line, "bits per dimension", limit=limit, widths=_widths(points))


def _draw(
    points: Sequence[CapacityPoint],
    order: Sequence[str],
    make_line: Callable[[Sequence[CapacityPoint]], Line],
    y_label: str,
    *,
    limit: Sequence[float] | None = None,
    widths: Sequence[int] | None = None,
) -> Figure:
    """Draw one line for each name in `order` against the width, on a logarithmic axis.

    Args:
        points: to draw.
        order: names of lines.
        make_line: returns the line of some points.
        y_label: of the vertical axis.
        limit: height of the dotted line at each width.
        widths: of the axis; None: those of the points.
    """
    widths = widths or _widths(points)
    lines = {}
    for name in order:
        group = [point for point in points if point.line == name]
        if group:
            lines[name] = _level(make_line(group), widths) if not group[0].width else make_line(group)
    figure = draw_lines(
        lines,
        x_label="width D of the neck, numbers projected from the states",
        y_label=y_label,
        order=order,
        zero=True,
        floor=None if limit is None else (SOURCE, Line([float(width) for width in widths], limit)),
        bands=BANDS if any(line.low for line in lines.values()) else "",
    )
    axes = figure.axes[0]
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    return figure


def _widths(points: Sequence[CapacityPoint]) -> list[int]:
    return sorted({point.width for point in points if point.width})


def _has_neck_only(point: CapacityPoint) -> bool:
    return point.width > 0 and not point.line.startswith(CONTROL)


def _level(line: Line, widths: Sequence[int]) -> Line:
    """Return the line of a run without a neck: its height at every width, without marks."""

    def both(values: Sequence[float] | None) -> list[float] | None:
        return None if values is None else [values[0]] * 2

    ends = [float(widths[0]), float(widths[-1])]
    return Line(ends, [line.y[0]] * 2, both(line.low), both(line.high), level=True)


def _bits_line(points: Sequence[CapacityPoint]) -> Line:
    return _scaled_line(points, [1] * len(points))


def _bits_per_dimension_line(points: Sequence[CapacityPoint]) -> Line:
    return _scaled_line(points, [point.width for point in points])


def _scaled_line(points: Sequence[CapacityPoint], divisors: Sequence[int]) -> Line:
    y = [point.channel.bits / divisor for point, divisor in zip(points, divisors, strict=True)]
    error = [NORMAL * point.channel.error / divisor for point, divisor in zip(points, divisors, strict=True)]
    low = [value - e for value, e in zip(y, error, strict=True)]
    high = [
        min(value + e, point.channel.source_bits / divisor)
        for value, e, point, divisor in zip(y, error, points, divisors, strict=True)
    ]
    return Line(_x(points), y, low, high, [point.limited_by_training for point in points])


def _longest_copy_line(points: Sequence[CapacityPoint]) -> Line:
    y = [float(point.longest_copied) for point in points]
    return Line(_x(points), y, few=[point.limited_by_training for point in points])


def _x(points: Sequence[CapacityPoint]) -> list[float]:
    return [float(point.width) for point in points]


def _by_length(line: str, points: Sequence[CapacityPoint]) -> Picture:
    """Draw bits against the length of a sequence, one curve for each width."""
    curves = {}
    for point in points:
        rows = point.channel.by_length
        low = [row.bits - NORMAL * row.error for row in rows]
        high = [min(row.bits + NORMAL * row.error, row.source_bits) for row in rows]
        curves[f"D = {point.width}"] = Line([row.symbols for row in rows], [row.bits for row in rows], low, high)
    rows = points[0].channel.by_length
    figure = draw_lines(
        curves,
        x_label="symbols of the sequence",
        y_label="bits that came through",
        zero=True,
        floor=(SOURCE, Line([row.symbols for row in rows], [row.source_bits for row in rows])),
        bands=BANDS,
    )
    return Picture(
        f"capacity-by-length-{line}",
        figure,
        say("capacity", "length_figure_alt", line=line),
        say("capacity", "length_figure", line=line),
    )


def _position_pictures(points: Sequence[CapacityPoint], order: Sequence[str]) -> list[Picture]:
    """Draw the bits of each symbol by its position: for each width of a line, and for each line of a width."""
    by_width = {f"D = {point.width}": _positions(point) for point in points if point.line == order[0]}
    # The width at which the source was also read in reverse.
    width = next((point.width for point in points if "reversed" in point.line), points[0].width)
    by_line = {
        point.line: _positions(point) for point in points if point.width in (width, 0) and not point.channel.ceiling
    }
    position = "position of the symbol"
    return [
        Picture(
            "capacity-by-position",
            draw_lines(by_width, x_label=position, y_label="bits that came through", order=list(by_width)),
            say("capacity", "position_figure_alt", line=order[0]),
            say("capacity", "position_figure", line=order[0]),
        ),
        Picture(
            "capacity-by-position-and-variant",
            draw_lines(by_line, x_label=position, y_label="bits that came through", order=order),
            say("capacity", "variants_figure_alt", width=width),
            say("capacity", "variants_figure", width=width),
        ),
    ]


def _positions(point: CapacityPoint) -> Line:
    bits = point.channel.by_position
    return Line([float(position + 1) for position in range(len(bits))], bits)


def _table(points: Sequence[CapacityPoint]) -> Table:
    head = ["variant", "converged", "D", "bits", "95 %", "ceiling", "bits per dimension", "longest copy"]
    head += ["bits, wrong source", "bits of end of sequence", "last fifth, %", "parameters", "M tokens", "minutes"]
    lengths, searched = len(points[0].channel.by_length), any(point.tuning for point in points)
    caption = say(
        "capacity",
        "table",
        source_bits=points[0].channel.source_bits,
        lengths=lengths,
        length_bits=math.log2(lengths),
        not_judged=NOT_JUDGED if any(point.converged is None for point in points) else "",
        searched=searched,
    )
    rows = [_row(point) for point in points]
    if searched:
        head.append("learning rate")
        rows = [[*row, _learning_rate(point.tuning)] for row, point in zip(rows, points, strict=True)]
    return Table("capacity", head, rows, caption, text_columns=2)


def _learning_rate(tuning: Tuning | None) -> str:
    return "-" if tuning is None else f"{tuning.learning_rate:zg}{'*' if tuning.edge else ''}"


def _row(point: CapacityPoint) -> list[str]:
    channel = point.channel
    width = NORMAL * channel.error
    return [
        point.line,
        "reads all" if point.reads_all and not point.converged else show_verdict(point.converged),
        str(point.width or "-"),
        f"{channel.bits:z.2f}",
        # No more bits than the source has. Whether a ceiling holds is what the readings show.
        show_range(Interval(channel.bits - width, min(channel.bits + width, channel.source_bits))),
        "-" if channel.ceiling is None else str(channel.ceiling),
        f"{channel.bits / point.width:z.2f}" if _has_neck_only(point) else "-",
        str(point.longest_copied or f"under {channel.shortest}"),
        f"{channel.wrong_source_bits:z.2f}",
        f"{channel.end_bits:z.3f}",
        f"{100 * point.gain_of_last_fifth:z.1f}",
        f"{point.parameters:,}",
        f"{point.train_target_tokens / 1e6:z.2f}",
        f"{point.train_seconds / 60:z.1f}",
    ]


def _provenance_text(capacity: Capacity) -> str:
    points = capacity.points
    return say(
        "capacity",
        "provenance",
        commits=sorted({str(point.commit)[:12] for point in points}),
        dirty=any(point.dirty for point in points),
        minutes=sum(point.train_seconds for point in points) / 60,
        machine=points[0].machine,
        measured=[capacity.commit],
        one_seed=True,
    )
