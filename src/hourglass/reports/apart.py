"""The report on clauses translated apart and joined: tables, a figure, and how to read them."""

from collections.abc import Mapping

from hourglass.analysis.apart import ApartComparison, ApartScores, SentenceKind
from hourglass.metrics.scoring import FEW
from hourglass.metrics.significance import RESAMPLES
from hourglass.metrics.translation import Bleu
from hourglass.reports.comparison import (
    GROUP_HEADINGS,
    list_left_out,
    note_on_few,
    note_on_undefined,
    note_on_units,
    show_sentences,
)
from hourglass.reports.document import Block, Bullets, Heading, Picture, Table
from hourglass.reports.phrases import (
    P_HEADINGS,
    cover_of_estimates,
    difference_cells,
    estimate_line,
    p_cells,
)
from hourglass.reports.plots import Line, draw_lines
from hourglass.reports.sentences import say


def write_apart(comparison: ApartComparison, left_out: Mapping[str, str]) -> list[Block]:
    """Return the report.

    Args:
        comparison: the variants.
        left_out: of each path that was given, and is not in the comparison, the reason.
    """
    blocks: list[Block] = [Heading(1, say("apart", "heading")), apart_table(comparison)]
    if len(comparison.scores) > 1:
        blocks.append(contrasts_table(comparison))
    blocks.append(_figure(comparison))
    return [*blocks, Heading(2, say("comparison", "how_to_read")), Bullets(describe_apart(comparison, left_out))]


def apart_table(comparison: ApartComparison) -> Table:
    """Return BLEU apart and joined of each variant, and their difference, by number of parts and by length."""
    rows = [
        [
            name,
            *_kind_cells(kind),
            f"{scores.apart.mean:z.2f}",
            f"{scores.joined.mean:z.2f}",
            *difference_cells(scores.difference),
            *p_cells(scores.difference),
        ]
        for name, kind, scores in _rows(comparison)
    ]
    head = ["variant", "sentences of", "sentences", "mean source words", "BLEU apart", "BLEU joined"]
    head += ["joined less apart", *GROUP_HEADINGS, *P_HEADINGS]
    signature = Bleu(comparison.target_language).signature()
    caption = say("apart", "table", few=note_on_few(), signature=signature)
    return Table("apart", head, rows, caption, text_columns=2)


def contrasts_table(comparison: ApartComparison) -> Table:
    """Return the difference of each variant less that of the baseline."""
    rows = [
        [name, *_kind_cells(kind), *difference_cells(scores.contrast), *p_cells(scores.contrast)]
        for name, kind, scores in _rows(comparison)
        if scores.contrast is not None
    ]
    head = ["variant", "sentences of", "sentences", "mean source words", "BLEU", *GROUP_HEADINGS, *P_HEADINGS]
    caption = say("apart", "contrasts", baseline=comparison.baseline, few=note_on_few())
    return Table("contrasts", head, rows, caption, text_columns=2)


def _rows(comparison: ApartComparison) -> list[tuple[str, SentenceKind, ApartScores]]:
    pairs = [(name, zip(comparison.kinds, own, strict=True)) for name, own in comparison.scores.items()]
    return [(name, kind, scores) for name, own in pairs for kind, scores in own]


def _kind_cells(kind: SentenceKind) -> list[str]:
    return [kind.name, show_sentences(kind.chosen), f"{kind.source_words:z.1f}"]


def _figure(comparison: ApartComparison) -> Picture:
    kinds = [comparison.kinds[number] for number in comparison.buckets]
    x, few = [kind.source_words for kind in kinds], [len(kind.chosen) < FEW for kind in kinds]
    lines: dict[str, Line] = {}
    estimates = []
    for name, scores in comparison.scores.items():
        own = [scores[number] for number in comparison.buckets]
        for way, quantities in (("joined", [s.joined for s in own]), ("apart", [s.apart for s in own])):
            of_way = [quantity.estimate for quantity in quantities]
            lines[f"{name}, {way}"] = estimate_line(x, of_way, few)
            estimates += of_way
    cover = cover_of_estimates(estimates)
    figure = draw_lines(lines, x_label="mean source words of the joined sentences", y_label="BLEU", bands=cover)
    return Picture(
        "apart-by-length",
        figure,
        say("apart", "figure_alt", names=list(comparison.scores)),
        say("apart", "figure", cover=cover, few=FEW),
    )


def describe_apart(comparison: ApartComparison, left_out: Mapping[str, str]) -> list[str]:
    """Return what is compared, what the intervals cover, and what is left out."""
    alone = [group.name for group in comparison.grouping.groups if len(group.runs) == 1]
    notes = [
        say("apart", "what_is_compared"),
        say("apart", "context"),
        note_on_units([Bleu(comparison.target_language)]),
        say("apart", "intervals", resamples=RESAMPLES),
        note_on_undefined(),
        *(say("apart", "one_seed", name=name) for name in alone),
    ]
    repeated = comparison.grouping.repeated
    return [*notes, *list_left_out({**left_out, **repeated})]
