"""Dev and test pairs from train, for a corpus that has none: by a hash, so that a pair stays in its split."""

from collections.abc import Callable, Collection, Iterator

from hourglass.corpora.cleaning import normalise
from hourglass.corpora.recipe import Pair, Split
from hourglass.corpora.sampling import draw_by_hash

# The share of the pairs of train in each of dev and test, and their number at most, about.
SHARE = 1 / 20
MOST = 2000


def share_of(pairs: int) -> float:
    """Return the share of so many pairs that each of dev and test takes."""
    return min(SHARE, MOST / max(pairs, 1))


def split_of(source: str, share: float, taken: Collection[Split]) -> Split:
    """Return the split of a pair, by a hash of its source, the same on every machine.

    Sources that differ in case, punctuation or variants of Unicode alone are in one split. A smaller share returns
    pairs to train, and moves none from dev to test.

    Args:
        source: a sentence.
        share: of each split that is taken from train.
        taken: the splits that are.
    """
    place = draw_by_hash(normalise(source)) / 2**64
    if "test" in taken and place < share:
        return "test"
    if "dev" in taken and 0.5 <= place < 0.5 + share:
        return "dev"
    return "train"


def take(read: Callable[[], Iterator[Pair]], split: Split, taken: Collection[Split]) -> Iterator[Pair]:
    """Yield the pairs of train that are in a split, with their ids.

    Args:
        read: yields all pairs of train; it is called twice.
        split: train, or one of `taken`.
        taken: the splits that are taken from train.
    """
    share = share_of(sum(1 for _ in read()))
    return (pair for pair in read() if split_of(" ".join(pair.source.split()), share, taken) == split)
