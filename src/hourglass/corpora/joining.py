"""Neighbouring parts of a text in groups of random size, the same on every machine: clauses, or whole pairs."""

from collections.abc import Iterator, Sequence

from hourglass.corpora.clauses import Clause, join_clauses
from hourglass.corpora.recipe import Pair
from hourglass.corpora.sampling import draw_by_hash


def group_neighbours(parts: int, most: int, name: str) -> Iterator[range]:
    """Yield the numbers of the parts of each group: 1 to `most` neighbours, and each part in one group.

    Their number is drawn evenly, by a hash of the name and the first part, which is the same on every machine. The last
    group has no more parts than are left.

    Args:
        parts: their number.
        most: the largest number of parts in a group.
        name: of the text, which decides the draws.
    """
    start = 0
    while start < parts:
        end = min(start + 1 + draw_by_hash(f"{name}.{start}") % most, parts)
        yield range(start, end)
        start = end


def join_pairs(pairs: Sequence[Pair], most: int, name: str) -> Iterator[Pair]:
    """Yield pairs that do not continue each other, 1 to `most` joined to one, and each in one.

    The id of a joined pair is that of the first, with the number of pairs: test-7 [3].

    Args:
        pairs: of a split. One with an empty side is left alone, so that it can be named.
        most: the largest number of pairs that are joined.
        name: decides how many are.
    """
    for group in group_neighbours(len(pairs), most, name):
        own = pairs[group.start : group.stop]
        if len(own) == 1 or not all(pair.source.strip() and pair.target.strip() for pair in own):
            yield from own
            continue
        parts = [Clause(pair.source, pair.target) for pair in own]
        yield Pair(f"{own[0].id} [{len(own)}]", *join_clauses(parts), own[0].places, tuple(parts))
