"""The section of the ablation's report on budgets: each gap against the budget, and its course."""

from collections.abc import Sequence

from hourglass.analysis.ladder import Ladder
from hourglass.analysis.width import Cause
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Difference
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import banded, cover_of_differences, show_range, show_tokens, widest
from hourglass.reports.plots import draw_lines
from hourglass.reports.sentences import say

# What a course says, for a reader who has not read the rule.
MEANINGS = {
    "not shown": "not shown",
    "flattened": "flattened",
    "falls": "falls: still learnt",
    "grows": "grows",
    "cannot be told": "cannot be told",
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
        last = ladder.rungs[-1].gaps[number].whole
        interval, covers = widest(last)
        sentences.append(
            say(
                "ladder",
                "gap",
                budget=ladder.rungs[-1].budget,
                first=first,
                second=second,
                value=last.value,
                interval=interval,
                covers=covers,
                course_of=ladder.whole[number],
                cause=causes[number][0] if causes else None,
            )
        )
    return sentences


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
        say("ladder", "figure_alt", first=first, second=second, corpus=ladder.corpus),
        say("ladder", "figure", first=first, second=second, cover=cover_of_differences(shown)),
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
                    *(f"{gap.value:z.2f}" for gap in gaps if gap is not None),
                    show_range(widest(last)[0]),
                    "-" if course.change is None else f"{course.change:+z.2f}",
                    show_range(course.interval),
                    "-" if course.closes_at is None else show_tokens(course.closes_at, ".3g"),
                    *([causes[number][0 if bucket is None else bucket + 1] or "-"] if causes else []),
                ]
            )
    head = ["gap", "source words", "course", "sentences", *(f"{rung.budget / 1e6:zg} M" for rung in ladder.rungs)]
    head += ["95 % interval of the last", "last doubling", "95 % interval of that", "gone at"]
    head += ["due to"] if causes else []
    caption = say("ladder", "table", corpus=ladder.corpus, flattened=ladder.flattened, causes=bool(causes))
    return Table(f"{ladder.corpus}-ladder", head, rows, caption, text_columns=3)
