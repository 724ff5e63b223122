"""The reference picture: bits held against the bits of a state, for every family, by copying and by recall."""

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.figure import Figure

from hourglass.analysis.convergence import NOT_JUDGED, show_verdict
from hourglass.analysis.families import FamilyPoint, FamilyPoints, NeckKind
from hourglass.analysis.neck import FLOAT_BITS
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import show_range
from hourglass.reports.plots import Line, draw_lines, look
from hourglass.reports.sentences import say

# Names of lines of the figures that are no family.
SOURCE, CEILING = "bits in the source", "ceiling: the bits of the neck"
NECKS: tuple[NeckKind, ...] = ("state", "projection")
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
        Heading(1, say("families", "heading", scale=scale)),
        Paragraph(say("families", "meaning")),
        Paragraph(_summarise(points)),
    ]
    for channel in channels:
        own = [point for point in points if point.channel == channel]
        blocks.append(Heading(2, say("families", "channel", name=channel)))
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
    return say(
        "families",
        "checks",
        rounded=len(rounded),
        over=over,
        above_zero=wrong > 0,
        limited=sum(point.limited_by_training for point in points),
        points=len(points),
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
    seeds = len(points[0].trainings)
    lowest, highest = points[0].trainings[0].channel.longest_quarter
    of_neck = {"kind": kind, "rounded": rounded}
    x_label = say("families", "axis", **of_neck, float_bits=FLOAT_BITS)
    return Picture(
        f"families-{channel}-{kind}{'-rounded' if rounded else ''}",
        _figure(points, families, x_label, say("families", "covered", seeds=seeds)),
        say("families", "figure_alt", channel=channel, **of_neck),
        say(
            "families",
            "figure",
            channel=channel,
            **of_neck,
            float_bits=FLOAT_BITS,
            lowest=lowest,
            highest=highest,
            linear=LINEAR,
            seeds=seeds,
            converged=converged,
        ),
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
    unjudged = any(point.converged is None for point in points)
    caption = say(
        "families",
        "table",
        channel=channel,
        source_bits=points[0].source_bits,
        float_bits=FLOAT_BITS,
        not_judged=NOT_JUDGED if unjudged else "",
    )
    return Table(f"families-{channel}", head, [_row(point) for point in points], caption, text_columns=3)


def _row(point: FamilyPoint) -> list[str]:
    reads_all = all(training.reads_all for training in point.trainings) and not point.converged
    tuning, interval = point.tuning, point.interval
    wrong = max(training.channel.wrong_source_bits for training in point.trainings)
    return [
        point.family,
        say("families", "neck_cell", kind=point.neck, rounded=point.rounded),
        "reads all" if reads_all else show_verdict(point.converged),
        str(point.size or "-"),
        f"{point.numbers:,}" if point.numbers else "-",
        f"{point.neck_bits:,}" if point.numbers else "-",
        f"{point.bits:z.2f}",
        show_range(interval),
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
    return say(
        "capacity",
        "provenance",
        commits=sorted({str(training.commit)[:12] for training in trainings}),
        dirty=any(training.dirty for training in trainings),
        minutes=sum(point.seconds for point in points) / 60,
        machine=trainings[0].machine,
        measured=sorted({str(result.commit)[:12] for result in results}),
        one_seed=False,
    )
