"""The section of the ablation's report on budgets: each gap against the budget, and its course."""

from collections.abc import Sequence

from hourglass.analysis.ladder import GapCourse, Ladder
from hourglass.analysis.width import Cause
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Difference
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import banded, cover_of_differences, show_range, show_tokens, widest
from hourglass.reports.plots import draw_lines

# What a course says, for a reader who has not read the rule.
MEANINGS = {
    "not shown": "not shown",
    "flattened": "flattened",
    "falls": "falls: still learnt",
    "grows": "grows",
    "cannot be told": "cannot be told",
}


# What a gap is due to, as the end of a sentence; nothing where the rule does not tell.
CAUSES = {
    "learning": "By the rule it is a gap of learning",
    "capacity": "By the rule it is a gap of capacity: it has flattened, and a wider vector carries more",
    "encoder or decoder": (
        "By the rule it lies with the encoder or the decoder: it has flattened, and no wider vector carries more"
    ),
}
# By estimand: over all test sentences, then in each length bucket.
Causes = Sequence[Sequence[Cause | None]]


def ladder_section(ladder: Ladder, causes: Causes = ()) -> list[Block]:
    """Return the figures and the table of a corpus's ladder; nothing where it has one budget.

    Args:
        ladder: the gaps.
        causes: what each is due to, of `reports.width.find_causes`; empty: not told.
    """
    if len(ladder.rungs) < 2 or not ladder.estimands:
        return []
    return [
        Heading(3, f"{ladder.corpus}: the gap against the budget"),
        Paragraph(" ".join(summarise_ladder(ladder, causes))),
        *(_figure(ladder, number) for number in range(len(ladder.estimands))),
        _table(ladder, causes),
    ]


def summarise_ladder(ladder: Ladder, causes: Causes = ()) -> list[str]:
    """Return a sentence or two on each gap over all test sentences; see `ladder_section`."""
    sentences = []
    for number, (first, second) in enumerate(ladder.estimands):
        course, last = ladder.whole[number], ladder.rungs[-1].gaps[number].whole
        interval, covers = widest(last)
        budget = show_tokens(ladder.rungs[-1].budget, ".3g")
        of = f" ({show_range(interval)}, {covers})" if interval else ""
        sentences.append(
            f"With {budget} target tokens, {first} receives {last.value:.1f} bits a sentence "
            f"more than {second}{of}; {_tell(course)}."
        )
        cause = causes[number][0] if causes else None
        if cause in CAUSES:
            sentences[-1] += f" {CAUSES[cause]}."
    return sentences


def _tell(course: GapCourse) -> str:
    """Return the course of a gap as part of a sentence."""
    if course.change is None:
        return "how this hangs on the budget cannot be told"
    by = f"the last doubling of the budget changed it by {course.change:+.1f}"
    if course.interval is not None:
        by += f" ({show_range(course.interval)})"
    if course.course == "falls":
        if course.closes_at is None:
            return f"{by}: it still falls, too slowly to tell when it would be gone"
        gone = f"it would be gone at {show_tokens(course.closes_at, '.3g')} target tokens"
        return f"{by}: it still falls, and by a straight line {gone}"
    return {
        "not shown": f"its interval holds 0, so no gap is shown; {by}",
        "flattened": f"{by}: the gap has flattened",
        "grows": f"{by}: the gap still grows",
        "cannot be told": f"{by}: whether it still changes cannot be told, and takes more seeds or sentences",
    }[course.course]


def _figure(ladder: Ladder, number: int) -> Picture:
    first, second = ladder.estimands[number]
    budgets = [rung.budget / 1e6 for rung in ladder.rungs]
    lines, shown = {}, []
    for bucket, (bounds, sentences) in enumerate(zip(ladder.lengths, ladder.sentences, strict=True)):
        gaps = [gap for rung in ladder.rungs if (gap := rung.gaps[number].by_length[bucket]) is not None]
        if len(gaps) < len(budgets):
            continue
        shown += gaps
        few = [sentences < FEW] * len(gaps)
        lines[f"{show_bounds(bounds)} words"] = banded(
            budgets, [gap.value for gap in gaps], [widest(gap)[0] for gap in gaps], few
        )
    return Picture(
        f"{ladder.corpus}-ladder-{first}-{second}",
        draw_lines(
            lines,
            x_label="million target tokens of training",
            y_label=f"bits a sentence, {first} less {second}",
            zero=True,
            x_values=budgets,
            log_x=True,
            bands=cover_of_differences(shown),
        ),
        f"Bits a sentence that {first} receives more than {second} on {ladder.corpus}, by budget and length",
        f"Bits a sentence of {first} less {second} against the budget, by number of source words. Bands: pointwise "
        f"95 %, {cover_of_differences(shown)}.",
    )


def _table(ladder: Ladder, causes: Causes) -> Table:
    rows = []
    for number, (first, second) in enumerate(ladder.estimands):
        for bucket in [None, *range(len(ladder.lengths))]:
            gaps: list[Difference | None] = [
                rung.gaps[number].whole if bucket is None else rung.gaps[number].by_length[bucket]
                for rung in ladder.rungs
            ]
            course = ladder.whole[number] if bucket is None else ladder.by_length[number][bucket]
            if course is None or any(gap is None for gap in gaps):
                continue
            sentences = sum(ladder.sentences) if bucket is None else ladder.sentences[bucket]
            last = gaps[-1]
            assert last is not None
            rows.append(
                [
                    f"{first} less {second}",
                    "all" if bucket is None else show_bounds(ladder.lengths[bucket]),
                    MEANINGS[course.course],
                    f"{sentences:,}",
                    *(f"{gap.value:.2f}" for gap in gaps if gap is not None),
                    show_range(widest(last)[0]),
                    "-" if course.change is None else f"{course.change:+.2f}",
                    show_range(course.interval),
                    "-" if course.closes_at is None else show_tokens(course.closes_at, ".3g"),
                    *([causes[number][0 if bucket is None else bucket + 1] or "-"] if causes else []),
                ]
            )
    head = ["gap", "source words", "course", "sentences", *(f"{rung.budget / 1e6:g} M" for rung in ladder.rungs)]
    head += ["95 % interval of the last", "last doubling", "95 % interval of that", "gone at"]
    head += ["due to"] if causes else []
    share = 100 * ladder.flattened
    caption = (
        f"Bits a sentence between variants on {ladder.corpus}, by millions of target tokens. Last doubling: by how "
        "much it changed the gap, within each seed and sentence. A gap has flattened if the whole interval of that "
        f"change lies within {share:g} % of the gap; it falls or grows if that interval leaves out 0; else its course "
        "cannot be told. Not shown: the interval of the gap holds 0. Gone at: target tokens at which a falling gap "
        "would be 0 by a straight line over the logarithm of the budget."
    )
    if causes:
        caption += (
            " Due to: learning, of a gap that falls; capacity, of one that has flattened and that a wider vector "
            "shrinks; encoder or decoder, of one that no wider vector shrinks."
        )
    return Table(f"{ladder.corpus}-ladder", head, rows, caption, text_columns=3)
