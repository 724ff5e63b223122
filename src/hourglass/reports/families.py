"""The reference picture: bits held against the bits of a state, for every family, by copying and by recall."""

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.figure import Figure

from hourglass.analysis.convergence import NOT_JUDGED, show_verdict
from hourglass.analysis.families import FamilyPoint, FamilyPoints, NeckKind
from hourglass.analysis.neck import FLOAT_BITS
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.plots import Line, draw_lines, look

# Names of lines of the figures that are no family.
SOURCE, CEILING = "bits in the source", "ceiling: the bits of the neck"
# What the size of a figure is of, by kind of neck: in its caption, and on its axis.
NECKS: dict[NeckKind, tuple[str, str]] = {
    "state": ("the state itself: the decoder starts in the encoder's final state", "the state"),
    "projection": ("a projection of the encoder's states, in which the decoder starts", "the projected vector"),
}
# Below this many bits the vertical axis is linear, as a reading may be 0 or less.
LINEAR = 1.0


def report_families(scale: str, results: Sequence[FamilyPoints]) -> list[Block]:
    """Return the report of a scale.

    Args:
        scale: cpu or gpu.
        results: of each family by each channel.
    """
    points = [point for result in results for point in result.points]
    channels = list(dict.fromkeys(point.channel for point in points))
    families = list(dict.fromkeys(point.family for point in points))
    blocks: list[Block] = [
        Heading(1, f"Bits held against the size of a state, by family ({scale})"),
        Paragraph(
            "How to read it. The encoder reads a source whose information is known exactly, and hands on a state of "
            "fixed size; the decoder writes the source from it (copy), or answers a query that comes after it "
            "(recall). What the decoder saves is a lower bound on the bits that the state holds. It is what this "
            "training has learnt to use, not what a state could hold. Two sizes are not to be confused: that of the "
            "state itself, and that of a projection of states; each figure is about one of them."
        ),
        Paragraph(_summarise(points)),
    ]
    for channel in channels:
        own = [point for point in points if point.channel == channel]
        blocks.append(Heading(2, f"Channel: {channel}"))
        for kind in NECKS:
            exact = [point for point in own if point.neck in (kind, "none") and not point.rounded]
            if any(point.neck == kind for point in exact):
                blocks.append(_picture(channel, kind, exact, families, results[0].converged, rounded=False))
            rounded = [point for point in own if point.neck == kind and point.rounded]
            if rounded:
                blocks.append(_picture(channel, kind, rounded, families, results[0].converged, rounded=True))
        blocks.append(_table(channel, own))
    blocks.append(Paragraph(_provenance(results)))
    return blocks


def _summarise(points: Sequence[FamilyPoint]) -> str:
    """Return the checks: ceilings, the wrong source, what has converged."""
    rounded = [point for point in points if point.rounded]
    trainings = [training for point in points for training in point.trainings]
    over = [
        training.name
        for point in rounded
        for training in point.trainings
        if training.channel.bits > point.neck_bits + 3 * training.channel.error
    ]
    wrong = max(each.channel.wrong_source_bits - 3 * each.channel.wrong_source_error for each in trainings)
    limited = sum(point.limited_by_training for point in points)
    held = "no reading exceeds its ceiling" if not over else f"READINGS EXCEED THEIR CEILING ({', '.join(over)})"
    return (
        f"Checks of the method: of {len(rounded)} points with a rounded neck, {held}; with the source of another "
        f"sequence, {'no reading is above zero' if wrong <= 0 else 'SOME READINGS ARE ABOVE ZERO'}. "
        f"{limited} of {len(points)} points would probably rise with more training: they are hollow in the figures."
    )


def _picture(
    channel: str,
    kind: NeckKind,
    points: Sequence[FamilyPoint],
    families: Sequence[str],
    converged: float,
    *,
    rounded: bool,
) -> Picture:
    meaning, short = NECKS[kind]
    size = "each number rounded to a few bits" if rounded else f"{FLOAT_BITS} bits a number, float32"
    seeds = len(points[0].trainings)
    covered = f"over test sequences and {seeds} seeds" if seeds > 1 else "over test sequences; one seed"
    lowest, highest = points[0].trainings[0].channel.longest_quarter
    name = f"families-{channel}-{kind}{'-rounded' if rounded else ''}"
    control = "" if rounded else " A line without marks is the control: attention, and no neck."
    return Picture(
        name,
        _figure(points, families, f"bits of {short} ({size})", covered),
        f"Bits that came through {short} against its own bits, {channel}{', rounded' if rounded else ''}",
        f"{channel}: bits per sequence that came through, against the bits of {meaning} ({size}), for sequences of "
        f"{lowest} to {highest} symbols or entries. Both axes are logarithmic, the vertical one above {LINEAR:zg} bit. "
        f"Bands, and lines at single points: 95 %, {covered}; small dots: single seeds. Hollow marks: the last fifth "
        f"of training still lowered the dev loss of a seed by {100 * converged:zg} % or more, or that "
        f"cannot be told, so that more training would probably raise the point. On the line of the "
        f"ceiling every bit of the neck would be used; the dotted line is the information in the source.{control}",
    )


def _figure(points: Sequence[FamilyPoint], families: Sequence[str], x_label: str, covered: str) -> Figure:
    necks = sorted({point.neck_bits for point in points if point.neck != "none"})
    ends = [float(necks[0]), float(necks[-1])] if len(necks) > 1 else [necks[0] / 2, necks[0] * 2.0]
    lines: dict[str, Line] = {}
    for family in families:
        own = sorted((point for point in points if point.family == family), key=lambda point: point.neck_bits)
        if own:
            lines[family] = _line(own, ends)
    source = points[0].source_bits
    lines[CEILING] = Line(ends, ends, level=True)
    figure = draw_lines(
        lines,
        x_label=x_label,
        y_label="bits per sequence that came through",
        order=[*families, CEILING],
        zero=True,
        floor=(SOURCE, Line(ends, [source, source])),
        bands=covered,
    )
    axes = figure.axes[0]
    for number, family in enumerate(families):  # A band of one point has no width.
        if family in lines and len(lines[family].x) == 1:
            line = lines[family]
            axes.vlines(line.x, line.low or line.y, line.high or line.y, color=look(number)[0], linewidth=1, alpha=0.6)
    lowest = min([0.0, *(min(line.low or line.y) for line in lines.values())])
    top = 1.5 * max(source, ends[1])
    axes.set_xscale("log", base=2)
    axes.set_yscale("symlog", base=2, linthresh=LINEAR)
    axes.set_ylim(1.5 * lowest - 0.2, top)
    _number_ticks(axes.xaxis, [2.0**power for power in range(math.floor(math.log2(ends[0])), 40)], ends[1] * 1.2)
    up = [4.0**power for power in range(20)]
    _number_ticks(axes.yaxis, [*(-each for each in up if -each > lowest), 0.0, *up], top)
    return figure


def _number_ticks(axis: Axis, ticks: Sequence[float], top: float) -> None:
    """Set the ticks of an axis, up to `top`, with numbers in place of powers."""
    shown = [tick for tick in ticks if tick <= top]
    axis.set_ticks(shown, [f"{tick:z,.0f}" for tick in shown])
    axis.set_ticks([], minor=True)


def _line(points: Sequence[FamilyPoint], ends: Sequence[float]) -> Line:
    """Return the line of a family; that of the control is level."""
    low, high = [point.interval.low for point in points], [point.interval.high for point in points]
    y = [point.bits for point in points]
    if points[0].neck == "none":
        return Line(ends, [y[0]] * 2, [low[0]] * 2, [high[0]] * 2, level=True)
    return Line(
        [float(point.neck_bits) for point in points],
        y,
        low,
        high,
        few=[point.limited_by_training for point in points],
        each=[[training.channel.bits for training in point.trainings] for point in points],
    )


def _table(channel: str, points: Sequence[FamilyPoint]) -> Table:
    head = ["family", "neck", "converged", "width", "numbers", "bits of the neck", "bits held", "95 %", "seeds"]
    head += ["bits a number", "share of the neck, %", "parameters", "bits a parameter", "wrong source"]
    head += ["learning rate", "M tokens", "target tokens/s", "minutes"]
    caption = (
        f"{channel}: bits held, of {points[0].source_bits:z.2f} in a sequence of the longest quarter. Neck: the state "
        "itself, or a projection of states. Numbers: those of the neck that the decoder reads. Bits of the neck: "
        f"{FLOAT_BITS} a number in float32 (half of it in bfloat16), or those to which each number is rounded. 95 %: "
        "over test sequences and seeds. Bits a number: hold it against about one real number a unit, bits a parameter "
        "against the 5 that a parameter can learn (Collins et al. 2016). Wrong source: the reading when the encoder "
        "has read another sequence. Learning rate: the best on dev of a search that each point gets; *: the lowest or "
        "highest that it tried. Minutes: of all trainings of the point, with its search."
    )
    if any(point.converged is None for point in points):
        caption += f" {NOT_JUDGED}"
    return Table(f"families-{channel}", head, [_row(point) for point in points], caption, text_columns=3)


def _row(point: FamilyPoint) -> list[str]:
    reads_all = all(training.reads_all for training in point.trainings) and not point.converged
    rounding = f"rounded to {point.rounded} bit{'s' * (point.rounded > 1)}" if point.rounded else ""
    neck = ", ".join(filter(None, ["none" if point.neck == "none" else f"a {point.neck}", rounding]))
    tuning, interval = point.tuning, point.interval
    wrong = max(training.channel.wrong_source_bits for training in point.trainings)
    return [
        point.family,
        neck,
        "reads all" if reads_all else show_verdict(point.converged),
        str(point.size or "-"),
        f"{point.numbers:,}" if point.numbers else "-",
        f"{point.neck_bits:,}" if point.numbers else "-",
        f"{point.bits:z.2f}",
        f"[{interval.low:z.2f}, {interval.high:z.2f}]",
        str(len(point.trainings)),
        f"{point.bits / point.numbers:z.3f}" if point.numbers else "-",
        f"{100 * point.bits / point.neck_bits:z.2f}" if point.numbers else "-",
        f"{point.parameters:,}",
        f"{point.bits / point.parameters:z.5f}",
        f"{wrong:z.2f}",
        "-" if tuning is None else f"{tuning.learning_rate:zg}{'*' if tuning.edge else ''}",
        f"{point.trainings[0].train_target_tokens / 1e6:z.2f}",
        f"{point.tokens_a_second:z,.0f}",
        f"{point.seconds / 60:z.1f}",
    ]


def _provenance(results: Sequence[FamilyPoints]) -> str:
    points = [point for result in results for point in result.points]
    trainings = [training for point in points for training in point.trainings]
    commits = ", ".join(sorted({str(training.commit)[:12] for training in trainings}))
    measured = ", ".join(sorted({str(result.commit)[:12] for result in results}))
    differed = " (files differed from it)" if any(training.dirty for training in trainings) else ""
    machine = trainings[0].machine
    return (
        f"Trained at commit {commits}{differed}, {sum(point.seconds for point in points) / 60:z.0f} minutes in total on "
        f"{machine['gpu'] or machine['processor']} ({machine['threads']} threads per run, torch {machine['torch']}). "
        f"Measured at commit {measured}."
    )
