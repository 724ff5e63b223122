"""A sample of the rows of a split."""


def evenly_spaced(total: int, most: int) -> list[int]:
    """Return at most `most` row numbers below `total`: a sample of all parts of a split, without a seed."""
    count = min(total, most)
    return [i * total // count for i in range(count)]
