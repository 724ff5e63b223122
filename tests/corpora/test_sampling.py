"""A sample of a split has all its parts, and all lengths of a corpus that goes through them in turn."""

from collections import Counter

import pytest

from hourglass.corpora.sampling import evenly_spaced


@pytest.mark.parametrize(("total", "most"), [(10, 3), (1500, 500), (7, 7), (1_000_003, 1000)])
def test_each_part_has_one_row(total: int, most: int) -> None:
    rows = evenly_spaced(total, most)
    assert [row * most // total for row in rows] == pytest.approx(range(most), abs=1)
    ends = [number * total // most for number in range(most + 1)]
    assert all(low <= row < high for row, low, high in zip(rows, ends[:-1], ends[1:], strict=True))
    assert rows == evenly_spaced(total, most)


@pytest.mark.parametrize(("total", "most"), [(0, 0), (0, 5), (4, 0), (4, 9)])
def test_all_rows_where_no_more_are_there(total: int, most: int) -> None:
    assert evenly_spaced(total, most) == list(range(total))


def test_rows_that_repeat_at_the_distance_of_the_parts_are_all_drawn() -> None:
    """The lengths of a made corpus, 12 of them in turn, of which every third would be one of four."""
    counts = Counter(row % 12 for row in evenly_spaced(1500, 500))
    assert len(counts) == 12
    assert min(counts.values()) > 25
