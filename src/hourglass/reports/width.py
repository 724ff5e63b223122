"""The section of the ablation's report on width: does a gap shrink as the neck grows wider, and what is it due to?"""

from collections.abc import Mapping

from hourglass.analysis.information import BitsDifference, Information
from hourglass.analysis.ladder import Ladder
from hourglass.analysis.width import Cause, WidthFamily, judge_cause, measured_families
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Difference
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import cover_of_differences, difference_line, show_range
from hourglass.reports.plots import draw_lines
from hourglass.reports.sentences import say


def width_section(information: Information, leader: str) -> list[Block]:
    """Return figures and tables of the variants that differ in width alone; nothing where there are none.

    Args:
        information: bits of all variants.
        leader: the variant, without a neck between it and the source, that the gaps are to.
    """
    families = measured_families(information)
    if not families:
        return []
    return [
        Heading(3, f"{information.corpus}: the gap against the width of the vector"),
        Paragraph(say("width", "opening")),
        *(block for family in families for block in _family_blocks(information, family, leader)),
    ]


def find_causes(information: Information, ladder: Ladder) -> list[list[Cause | None]]:
    """Return what each estimand's gap is due to: over all test sentences, then in each length bucket.

    Args:
        information: bits of all variants with the largest budget.
        ladder: the gaps against the budget.
    """
    families = measured_families(information)
    causes: list[list[Cause | None]] = []
    for number, (_, second) in enumerate(ladder.estimands):
        family = next((own for own in families if second in own.variants.values()), None)
        courses = [ladder.whole[number], *ladder.by_length[number]]
        causes.append([])
        for place, course in enumerate(courses):
            bucket = place - 1 if place else None
            steps = family.steps if family else []
            widened = [own for pair in steps if (own := information.less(*pair, bucket)) is not None]
            causes[-1].append(None if course is None else judge_cause(course, widened))
    return causes


def _family_blocks(information: Information, family: WidthFamily, leader: str) -> list[Block]:
    of_leader = {own.reference: own.difference for own in information.all_contrasts if own.variant == leader}
    gaps = {width: of_leader[name] for width, name in family.variants.items() if name in of_leader}
    if len(gaps) < 2:
        return []
    name = family.reference
    return [_figure(information, name, leader, gaps), _table(information, family, leader, gaps)]


def _figure(information: Information, name: str, leader: str, gaps: Mapping[int, BitsDifference]) -> Picture:
    lines, shown = {}, list[Difference]()
    for bucket, length in enumerate(information.lengths):
        known = {width: own for width, gap in gaps.items() if (own := gap.by_length[bucket]) is not None}
        if len(known) == len(gaps):
            few = [length.sentences < FEW] * len(known)
            lines[f"{show_bounds(length.source_words)} words"] = difference_line(list(known), list(known.values()), few)
            shown += known.values()
    cover = cover_of_differences(shown)
    return Picture(
        f"{information.corpus}-width-{name}",
        draw_lines(
            lines,
            x_label=f"D, width of the vector of {name}",
            y_label=f"bits a sentence, {leader} less {name}",
            zero=True,
            x_values=list(gaps),
            log_x=True,
            bands=cover,
        ),
        say("width", "figure_alt", leader=leader, name=name, corpus=information.corpus),
        say("width", "figure", leader=leader, name=name, cover=cover),
    )


def _table(information: Information, family: WidthFamily, leader: str, gaps: Mapping[int, BitsDifference]) -> Table:
    narrower = dict(family.steps)
    rows = []
    for width, gap in gaps.items():
        name = family.variants[width]
        own = information.variants[name]
        step = information.less(name, narrower[name]) if name in narrower else None
        rows.append(
            [
                name,
                f"{width:,}",
                f"{own.parameters:,}",
                str(len(own.dev_loss)),
                f"{gap.whole.value:z.2f}",
                show_range(gap.whole.widest),
                "-" if step is None else f"{step.value:+z.2f}",
                "-" if step is None else show_range(step.widest),
            ]
        )
    head = [
        "variant",
        "D",
        "parameters",
        "seeds",
        f"{leader} less it",
        "95 % interval",
        "less the next narrower",
        "95 %",
    ]
    return Table(
        f"{information.corpus}-width-{family.reference}", head, rows, say("width", "table", corpus=information.corpus)
    )
