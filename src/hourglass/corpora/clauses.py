"""Verses cut into clauses where both sides agree on them, and neighbouring clauses joined into sentences.

Verses are long: a quarter of a Bible's have more than 32 words. Sentences of one to a few clauses have all lengths from
one word on, and as their clauses are known, the same clauses can be translated apart and joined, which separates what
length costs from what the words cost.

A cut needs both sides: what stands between two ends of one side translates what stands between the same two ends of the
other only if both have as many. So a verse whose sides disagree stays longer, or whole, and no word is lost.
"""

import re
from itertools import pairwise
from typing import NamedTuple

# The end of a part of a verse, and of a piece of a part: the mark, and quotation marks and brackets that it closes.
PART_END = re.compile(r"[.;:?!]['\")]* ")
PIECE_END = re.compile(r",['\")]* ")
# Two pieces of which one has more than so many times the words of the other are no translations of each other.
FACTOR = 2


class Clause(NamedTuple):
    """A clause of a verse, or what could not be cut, on both sides; words have one space between them."""

    source: str
    target: str


def cut_clauses(source: str, target: str) -> list[Clause]:
    """Return the clauses of a verse, whose words in their order are those of the verse.

    A verse is cut at . ; : ? ! where both sides give as many parts, else it is one part. A part is cut at its commas
    where both sides give as many pieces, and no two pieces that belong together differ by more than a factor of
    `FACTOR` in words.

    Args:
        source: a verse, with one space between words.
        target: its translation, likewise.
    """
    parts = _cut_alike(PART_END, source, target) or [Clause(source, target)]
    return [clause for part in parts for clause in _cut_at_commas(part)]


def _cut_at_commas(part: Clause) -> list[Clause]:
    pieces = _cut_alike(PIECE_END, part.source, part.target)
    for source, target in pieces:
        few, many = sorted((len(source.split()), len(target.split())))
        if many > FACTOR * few:
            return [part]
    return pieces or [part]


def _cut_alike(end: re.Pattern[str], source: str, target: str) -> list[Clause]:
    """Return what the ends divide both sides into; nothing if they have not as many."""
    own, other = (_pieces(end, text) for text in (source, target))
    return [Clause(*sides) for sides in zip(own, other, strict=True)] if len(own) == len(other) else []


def _pieces(end: re.Pattern[str], text: str) -> list[str]:
    """Return what the ends, which include a space, divide a text into."""
    ends = [0, *(match.end() for match in end.finditer(text)), len(text) + 1]
    return [text[start : stop - 1] for start, stop in pairwise(ends)]


def join_clauses(clauses: list[Clause]) -> Clause:
    """Return clauses that follow each other as one sentence, on both sides."""
    return Clause(" ".join(clause.source for clause in clauses), " ".join(clause.target for clause in clauses))
