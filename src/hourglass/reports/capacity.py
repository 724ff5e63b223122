"""The report of a sweep over the width of the neck: bits against width, bits a dimension, the longest copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.plots import Line, draw_lines

# What there is to tell, in the figures.
ALL = "all that there is"


# The necks that are spoken of, by the names of their lines.
DESCRIBED = {"none": "only starts the decoder", "fixed": "is read at every step"}


# How the names of lines with attention begin.
CONTROL = "luong_general"


# Standard errors to each side of a 95 % interval.
NORMAL = 1.96


def write_capacity(name: str, found: Mapping[str, Any], commit: str) -> list[Block]:
    """Return the report of what `capacity.measure` returned, as JSON has it."""
    points = found["points"]
    order = list(dict.fromkeys(point["line"] for point in points))
    widths = sorted({point["width"] for point in points if point["width"]})
    of, shortest = points[0]["of"], points[0]["shortest"]
    necks = [point for point in points if point["width"] and not point["line"].startswith(CONTROL)]
    above = 1.3 * max(point["bits"] / point["width"] for point in necks)  # So far the axis of bits a dimension goes.

    def figure(some: Sequence[Mapping[str, Any]], key: str, y_label: str, top: Sequence[float] | None = None) -> Figure:
        lines = {line: _line([p for p in some if p["line"] == line], key, widths) for line in order}
        drawn = draw_lines(
            {line: one for line, one in lines.items() if one.x},
            x_label="width D of the neck, numbers",
            y_label=y_label,
            order=order,
            zero=True,
            floor=None if top is None else (ALL, Line([float(width) for width in widths], top)),
        )
        axes = drawn.axes[0]
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        for point in some if key == "bits" else []:
            if point["ceiling"]:
                axes.hlines(point["ceiling"], point["width"] / 1.2, point["width"] * 1.2, color="#666666")
        return drawn

    machine = points[0]["machine"]
    lowest, highest = points[0]["longest_quarter"]
    positions = {f"D = {point['width']}": _positions(point) for point in points if point["line"] == order[0]}
    # At the width where the source is also read in reverse: which end of it is lost, and does the order decide that?
    shared = next((point["width"] for point in points if "reversed" in point["line"]), points[0]["width"])
    at_one_width = {
        point["line"]: _positions(point) for point in points if point["width"] in (shared, 0) and not point["ceiling"]
    }
    position = "position of the symbol"
    return [
        Heading(1, f"How much a neck of D numbers carries ({name})"),
        Paragraph(aloud(found)),
        Picture(
            "capacity-bits",
            figure(points, "bits", "bits a sequence that came through", top=[of] * len(widths)),
            "Bits that came through the neck against its width",
            f"Bits that came through, a sequence of {lowest} to {highest} symbols (the longest quarter: shorter ones "
            "hold less than a wide neck carries), against the width of the neck; 95 % bands over test sequences. "
            f"Hollow: the last fifth of training still lowered the dev loss by {100 * found['converged']:g} % or more, "
            "so that the point is limited by training; where nearly all that there is has come through, it is limited "
            "by the sequences. Short bars: the hard ceiling, D times the bits that a component "
            "is rounded to. A line without points is one run that has no neck, drawn at every width.",
        ),
        Picture(
            "capacity-bits-a-dimension",
            figure(necks, "bits_a_dimension", "bits a dimension", top=[min(of / width, above) for width in widths]),
            "Bits a dimension against the width of the neck",
            "The same, divided by D: what there is to tell caps it for wide necks (dotted, cut off at the top). "
            "The controls are left out: what attention reads does not pass through the neck.",
        ),
        *(_by_length(line, [point for point in points if point["line"] == line]) for line in order[:2]),
        Picture(
            "capacity-longest-copy",
            figure(points, "longest_copied", "symbols"),
            "The longest sequence copied against the width of the neck",
            "The longest sequences of which, decoded greedily, 99 % of the symbols are right (and of all shorter "
            f"ones). The shortest that there are have {shortest}: 0 says fewer than that.",
        ),
        Picture(
            "capacity-by-position",
            draw_lines(positions, x_label=position, y_label="bits that came through", order=list(positions)),
            f"Bits of each symbol by its position, {order[0]}",
            f"Bits of each symbol by its position, {order[0]}, in the longest quarter of the sequences.",
        ),
        Picture(
            "capacity-by-position-and-variant",
            draw_lines(at_one_width, x_label=position, y_label="bits that came through", order=order),
            f"Bits of each symbol by its position, D = {shared}",
            f"The same of each variant with D = {shared}, and of attention without a neck. "
            "The symbols are copied, so a position in the target is one "
            "in the source. What is low for none and not for fixed is what one would see if the decoder forgot it on "
            "its way; what moves when the source is read in reverse, if the encoder did. Encoder and decoder are "
            "trained together, so that neither is proved.",
        ),
        _table(points),
        Paragraph(
            f"Trained at commit {', '.join(sorted({str(point['commit'])[:12] for point in points}))}"
            f"{' (files differed from it)' if any(point['dirty'] for point in points) else ''}, "
            f"{sum(point['train_seconds'] for point in points) / 60:.0f} minutes in all on "
            f"{machine['gpu'] or machine['processor']} ({machine['threads']} threads a run, torch {machine['torch']}); "
            f"read at {commit}. One seed."
        ),
    ]


def aloud(found: Mapping[str, Any]) -> str:
    """Return what the sweep says in a few sentences, to be read to people."""
    points = found["points"]
    lowest, highest = points[0]["longest_quarter"]
    sure = max(NORMAL * point["error"] for point in points)
    texts = [
        f"Sequences of {lowest} to {highest} random symbols hold {points[0]['of']:.0f} bits in the mean, known "
        "exactly, and those before say nothing of the next: at least as many bits have come through as the decoder is "
        f"spared. Each figure is one training, certain to within {sure:.1f} bits as to the test sequences and not "
        "repeated with another seed. It is what this training has taught this cell to use, not what a vector of "
        "floating-point numbers could hold; more training, another cell or another task may change it."
    ]
    for line, described in DESCRIBED.items():
        some = [point for point in points if point["line"] == line]
        if not some:
            continue
        first, last = some[0], some[-1]
        texts.append(f"Through a neck that {described} ({line}) come {_bits(first)} where it has {_numbers(first)}")
        if last is not first:
            texts[-1] += f", and {_bits(last)} where it has {_numbers(last)}"
        limited = sum(_limited(point) for point in some)
        texts[-1] += f"; of its {len(some)} widths {limited} were still learning." if limited else "."
    texts += filter(None, [_at_one_width(points)])
    texts += [
        f"With attention, and nothing through a neck at all, come {_bits(point)}."
        for point in points
        if not point["width"]
    ]
    rounded = [point for point in points if point["ceiling"]]
    if rounded:
        under = all(point["bits"] <= point["ceiling"] + 3 * point["error"] for point in rounded)
        read = ", ".join(f"{round(point['bits'], 1) + 0:.1f} of {point['ceiling']}" for point in rounded)
        texts.append(
            f"Necks rounded to a hard ceiling of D times b bits read {'no more' if under else 'MORE'} than it ({read})."
        )
    wrong = max(point["of_another"] - 3 * point["of_another_error"] for point in points)
    texts.append(
        f"When the encoder has read another sequence, {'no model reads' if wrong <= 0 else 'SOME MODELS READ'} "
        "more than nothing."
    )
    return " ".join(texts)


def _at_one_width(points: Sequence[Mapping[str, Any]]) -> str:
    """Say what another cell, or the source in reverse, lets through a neck of one width that starts the decoder."""
    width = next((point["width"] for point in points if point["line"] == "none, source reversed"), None)
    some = {point["line"].removeprefix("none, "): point for point in points if point["width"] == width}
    others = {line: point for line, point in some.items() if point["ceiling"] is None and line != point["line"]}
    if width is None or "none" not in some:
        return ""
    said = " and ".join(f"{_bits(point)} with {line.replace('source', 'the source')}" for line, point in others.items())
    return f"Where {width} numbers only start the decoder, {said} come through in place of {_bits(some['none'])}."


def _numbers(point: Mapping[str, Any]) -> str:
    return f"{point['width']} numbers, {point['bits'] / point['width']:.1f} for each"


def _bits(point: Mapping[str, Any]) -> str:
    return f"{point['bits']:.1f} bits"


def _limited(point: Mapping[str, Any]) -> bool:
    """Say whether more training would be likely to raise a point."""
    return not point["converged"] and not point["whole"]


def _by_length(line: str, points: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw bits against the length of a sequence, one curve a width."""
    drawn = {}
    for point in points:
        rows = point["by_length"]
        x, y = ([row[key] for row in rows] for key in ("symbols", "bits"))
        low, high = ([row["bits"] + sign * NORMAL * row["error"] for row in rows] for sign in (-1, 1))
        drawn[f"D = {point['width']}"] = Line(x, y, low, high)
    rows = points[0]["by_length"]
    figure = draw_lines(
        drawn,
        x_label="symbols of the sequence",
        y_label="bits that came through",
        zero=True,
        floor=(ALL, Line([row["symbols"] for row in rows], [row["of"] for row in rows])),
    )
    return Picture(
        f"capacity-by-length-{line}",
        figure,
        f"Bits that came through the neck of {line} against the length of the sequence, for each width",
        f"Bits that came through by the length of the sequence, {line}: a neck that is full leaves the line of "
        "all that there is, and flattens. 95 % bands over test sequences.",
    )


def _line(points: Sequence[Mapping[str, Any]], key: str, widths: Sequence[int]) -> Line:
    level = bool(points) and not points[0]["width"]  # No neck, so one run: its height at every width.
    if level:
        points = [{**points[0], "width": width} for width in (widths[0], widths[-1])]
    x = [float(point["width"]) for point in points]
    hollow = [_limited(point) for point in points]
    if key == "longest_copied":
        return Line(x, [float(point[key]) for point in points], few=None if level else hollow, level=level)
    scale = [point["width"] if key == "bits_a_dimension" else 1 for point in points]
    y = [point["bits"] / by for point, by in zip(points, scale, strict=True)]
    error = [NORMAL * point["error"] / by for point, by in zip(points, scale, strict=True)]
    low, high = ([one + sign * e for one, e in zip(y, error, strict=True)] for sign in (-1, 1))
    return Line(x, y, low, high, None if level else hollow, level)


def _positions(point: Mapping[str, Any]) -> Line:
    return Line([float(at + 1) for at in range(len(point["by_position"]))], point["by_position"])


def _table(points: Sequence[Mapping[str, Any]]) -> Table:
    head = ["variant", "converged", "D", "bits", "95 %", "ceiling", "bits a dimension", "longest copy"]
    head += ["of another sequence", "end of sequence costs", "last fifth, %", "parameters", "M tokens", "minutes"]
    rows = [
        [
            point["line"],
            "yes" if point["converged"] else "reads all" if point["whole"] else "no",
            str(point["width"] or "-"),
            f"{point['bits']:.2f}",
            f"[{point['bits'] - NORMAL * point['error']:.2f}, {point['bits'] + NORMAL * point['error']:.2f}]",
            "-" if point["ceiling"] is None else str(point["ceiling"]),
            "-" if not point["width"] or point["line"].startswith(CONTROL) else f"{point['bits'] / point['width']:.2f}",
            str(point["longest_copied"] or f"under {point['shortest']}"),
            f"{point['of_another']:.2f}",
            f"{point['end_bits']:.3f}",
            f"{100 * point['gain_of_last_fifth']:.1f}",
            f"{point['parameters']:,}",
            f"{point['train_target_tokens'] / 1e6:.2f}",
            f"{point['train_seconds'] / 60:.1f}",
        ]
        for point in points
    ]
    lengths = len(points[0]["by_length"])
    caption = (
        f"What came through each neck, of {points[0]['of']:.2f} bits a sequence of the longest quarter; 95 % over test "
        "sequences. Of another "
        "sequence: the same when the encoder has read another one of that length, which may be no more than nothing. "
        "How long a sequence is comes through as well and is left out of the bits: of "
        f"{lengths} equally likely lengths up to {np.log2(lengths):.1f} bits, the less the more its end costs."
    )
    return Table("capacity", head, rows, caption, text_columns=2)
