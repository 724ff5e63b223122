"""A sample of the rows of a split, and draws that are the same on every machine."""

import hashlib

import numpy as np

# Of the draw within each part; the same rows for every run.
SEED = 1


def evenly_spaced(total: int, most: int) -> list[int]:
    """Return at most `most` row numbers below `total`, all for 0, in ascending order: a sample of all parts of a split.

    The rows are cut into equal parts, and one is drawn from each, always the same. The first rows would be no sample:
    corpora are in the order of their books or days. Nor would be rows at a fixed distance: those of a made corpus go
    through all lengths in turn, and the distance may be a multiple of their number.
    """
    count = min(total, most or total)
    ends = np.arange(count + 1) * total // max(count, 1)
    rows: list[int] = np.random.default_rng(SEED).integers(ends[:-1], ends[1:]).tolist() if count else []
    return rows


def draw_by_hash(text: str) -> int:
    """Return an even draw from 0 to below 2^64 by a hash of a text: the same on every machine, and without a seed."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
