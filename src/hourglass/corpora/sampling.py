"""A sample of the rows of a split."""


def evenly_spaced(total: int, most: int) -> list[int]:
    """Return at most `most` row numbers below `total`, all for 0: a sample of all parts of a split, without a seed.

    The first rows would be no sample: corpora are in the order of their books or days.
    """
    count = min(total, most or total)
    return [i * total // count for i in range(count)]
