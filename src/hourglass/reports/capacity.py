"""The report of a capacity sweep: bits against the width of the neck, bits per dimension, the longest copy."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from hourglass.analysis.capacity import Capacity, CapacityPoint
from hourglass.analysis.convergence import NOT_JUDGED, show_verdict
from hourglass.analysis.evaluation import Tuning
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.plots import Line, draw_lines

# Name of the upper limit in the figures.
SOURCE = "bits in the source"


# How the decoder receives the neck, by the names of the lines.
NECKS = {"none": "is handed to the decoder once, as its first state", "fixed": "is read by the decoder at every step"}


# First part of the names of lines with attention.
CONTROL = "luong_general"


# Standard errors to each side of a 95 % interval.
NORMAL = 1.96


BANDS = "over test sequences; one seed each, so not over seeds"


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
        Heading(1, f"How much a neck of D numbers carries ({name})"),
        *map(Paragraph, summarise_capacity(capacity)),
        Picture(
            "capacity-bits",
            _bits_figure(points, order),
            "Bits that came through the neck against its width",
            f"Bits per sequence that came through, against the width of the neck, for sequences of {lowest} to "
            f"{highest} symbols. (This is the longest quarter. Shorter sequences hold less than a wide neck carries.) "
            f"Bands: 95 %, {BANDS}. Hollow marks: the last fifth of training still lowered the dev loss by "
            f"{100 * capacity.converged:zg} % or more, so more training would probably raise the point. A point near "
            "the dotted line is filled: there the sequences are the limit. Short bars: the hard ceiling of a rounded "
            "neck, D times the bits per number. A line without marks is a single run without a neck, drawn at every "
            "width.",
        ),
        Picture(
            "capacity-bits-a-dimension",
            _bits_per_dimension_figure(points, order),
            "Bits per dimension against the width of the neck",
            "The same bits divided by D. For wide necks the bits in the source are the limit (dotted, cut off at the "
            "top). Lines with attention are left out: what attention reads does not pass through the neck.",
        ),
        *(_by_length(line, [point for point in points if point.line == line]) for line in order[:2]),
        Picture(
            "capacity-longest-copy",
            _draw(points, order, _longest_copy_line, "symbols"),
            "The longest sequence copied against the width of the neck",
            "The longest sequences that the model copies when it decodes greedily: 99 % of their symbols are right, "
            f"and so are those of all shorter sequences. The shortest test sequences have {points[0].channel.shortest} "
            "symbols; 0 means that not even these are copied.",
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
        " ".join(_check_sentences(capacity.points)),
    ]


def _meaning(points: Sequence[CapacityPoint]) -> str:
    channel = points[0].channel
    lowest, highest = channel.longest_quarter
    widest = max(NORMAL * point.channel.error for point in points)
    return (
        "How to read it. A model copies sequences of random symbols. The encoder writes a sequence into D numbers (the "
        f"neck), and the decoder writes the symbols from them. Sequences of {lowest} to {highest} symbols hold "
        f"{channel.source_bits:z.0f} bits on average. This is known exactly, and earlier symbols tell nothing about "
        "later ones. So the bits that the decoder saves are a lower bound on the bits that came through the neck. Each "
        f"figure comes from one training. It is precise to {widest:z.1f} bits over test sequences (95 %), but no second "
        "seed was trained. It is what this cell learnt to use in this training, not what a vector of floating-point "
        "numbers could hold: more training, another cell or another task may change it."
    )


def _neck_paragraphs(points: Sequence[CapacityPoint]) -> list[str]:
    texts = []
    for line, described in NECKS.items():
        group = [point for point in points if point.line == line]
        if not group:
            continue
        first, last = group[0], group[-1]
        text = f"In variant {line}, the neck {described}. {_bits(first)} come through {_per_number(first)}"
        if last is not first:
            text += f", and {_bits(last)} through {_per_number(last)}"
        limited = sum(point.limited_by_training for point in group)
        learning = f" At {limited} of these {len(group)} widths the model was still learning." if limited else ""
        texts.append(f"{text}.{learning}")
    return texts


def _other_sentences(points: Sequence[CapacityPoint]) -> list[str]:
    """Return the bits of other cells, of the reversed source, and of attention without a neck."""
    texts = []
    width = next((point.width for point in points if point.line == "none, source reversed"), None)
    at_width = {point.line: point for point in points if point.width == width}
    if width is not None and "none" in at_width:
        others = " and ".join(
            f"{_bits(point)} with {line.removeprefix('none, ').replace('source', 'the source')}"
            for line, point in at_width.items()
            if point.channel.ceiling is None and line.startswith("none, ")
        )
        texts.append(f"Through {width} numbers, variant none passes {_bits(at_width['none'])}; {others}.")
    texts += [f"With attention and no neck at all, {_bits(point)} arrive." for point in points if not point.width]
    return texts


def _check_sentences(points: Sequence[CapacityPoint]) -> list[str]:
    texts = ["Two checks of the method."]
    rounded = [point.channel for point in points if point.channel.ceiling is not None]
    if rounded:
        under = all(channel.bits <= (channel.ceiling or 0) + 3 * channel.error for channel in rounded)
        readings = ", ".join(f"{channel.bits:z.1f} of {channel.ceiling}" for channel in rounded)
        texts.append(
            "A neck whose D numbers are rounded to b bits each cannot carry more than D times b bits: the readings "
            f"{'stay below this ceiling' if under else 'EXCEED this ceiling'} ({readings})."
        )
    wrong = max(point.channel.wrong_source_bits - 3 * point.channel.wrong_source_error for point in points)
    texts.append(
        "When the encoder reads another sequence than the decoder should write, nothing can come through: "
        f"{'no reading is above zero' if wrong <= 0 else 'SOME READINGS ARE ABOVE ZERO'}."
    )
    return texts


def _bits(point: CapacityPoint) -> str:
    return f"{point.channel.bits:z.1f} bits"


def _per_number(point: CapacityPoint) -> str:
    return f"{point.width} numbers ({point.channel.bits / point.width:z.1f} per number)"


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
        f"Bits that came through the neck of {line} against the length of the sequence, for each width",
        f"Bits that came through by the length of the sequence, {line}. The curve of a neck that is full leaves the "
        f"dotted line (the bits in the source) and levels off. Bands: 95 %, {BANDS}.",
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
            f"Bits of each symbol by its position, {order[0]}",
            f"Bits of each symbol by its position, {order[0]}, in the longest quarter of the sequences.",
        ),
        Picture(
            "capacity-by-position-and-variant",
            draw_lines(by_line, x_label=position, y_label="bits that came through", order=order),
            f"Bits of each symbol by its position, D = {width}",
            f"The same for each variant with D = {width}, and for attention without a neck. The symbols are copied, so "
            "a position in the target is the same position in the source. A position that is low for none but not for "
            "fixed is what forgetting by the decoder would look like. A position that changes when the source is read "
            "in reverse is what forgetting by the encoder would look like. Encoder and decoder are trained together, "
            "so neither is proved.",
        ),
    ]


def _positions(point: CapacityPoint) -> Line:
    bits = point.channel.by_position
    return Line([float(position + 1) for position in range(len(bits))], bits)


def _table(points: Sequence[CapacityPoint]) -> Table:
    head = ["variant", "converged", "D", "bits", "95 %", "ceiling", "bits per dimension", "longest copy"]
    head += ["bits, wrong source", "bits of end of sequence", "last fifth, %", "parameters", "M tokens", "minutes"]
    lengths = len(points[0].channel.by_length)
    caption = (
        f"Bits that came through each neck, of {points[0].channel.source_bits:z.2f} bits per sequence in the longest "
        "quarter. 95 %: interval over test sequences. Wrong source: the same when the encoder has read another "
        "sequence of equal length; nothing can come through then. End of sequence: the decoder also learns the length "
        f"of a sequence, which is left out of the bits. With {lengths} equally likely lengths that is up to "
        f"{np.log2(lengths):z.1f} bits, minus those that the end still needs."
    )
    if any(point.converged is None for point in points):
        caption += f" {NOT_JUDGED}"
    rows = [_row(point) for point in points]
    if any(point.tuning for point in points):
        head.append("learning rate")
        rows = [[*row, _learning_rate(point.tuning)] for row, point in zip(rows, points, strict=True)]
        caption += (
            " Learning rate: the best on dev of a search that each run gets; *: the lowest or highest that it tried."
        )
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
        f"[{channel.bits - width:z.2f}, {min(channel.bits + width, channel.source_bits):z.2f}]",
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
    machine = points[0].machine
    commits = ", ".join(sorted({str(point.commit)[:12] for point in points}))
    differed = " (files differed from it)" if any(point.dirty for point in points) else ""
    minutes = sum(point.train_seconds for point in points) / 60
    return (
        f"Trained at commit {commits}{differed}, {minutes:z.0f} minutes in total on "
        f"{machine['gpu'] or machine['processor']} ({machine['threads']} threads per run, torch {machine['torch']}). "
        f"Measured at commit {capacity.commit}. One seed."
    )
