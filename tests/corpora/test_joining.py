"""Neighbours in groups of random size, and pairs that are joined."""

from collections import Counter

import pytest

from hourglass.corpora.joining import group_neighbours, join_pairs
from hourglass.corpora.recipe import Pair


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_groups_hold_each_part_once_in_its_order(most: int) -> None:
    sizes: Counter[int] = Counter()
    for text in range(400):
        groups = list(group_neighbours(text % 23, most, f"text {text}"))
        assert [number for group in groups for number in group] == list(range(text % 23))
        assert groups == list(group_neighbours(text % 23, most, f"text {text}"))
        sizes.update(len(group) for group in groups[:-1])  # The last one takes what is left.
    assert set(sizes) == set(range(1, most + 1))
    expected = sizes.total() / most
    assert all(abs(count - expected) < 5 * expected**0.5 for count in sizes.values())


def test_joined_pairs_have_the_text_of_their_parts() -> None:
    pairs = [Pair(f"test-{row}", f"s{row}", f"t{row}", (f"s:{row}", f"t:{row}")) for row in range(1, 41)]
    result = list(join_pairs(pairs, 3, "test"))
    assert " ".join(pair.source for pair in result).split() == [pair.source for pair in pairs]
    assert " ".join(pair.target for pair in result).split() == [pair.target for pair in pairs]
    assert len({pair.id for pair in result}) == len(result)
    for pair in result:
        sides = list(zip(pair.source.split(), pair.target.split(), strict=True))
        assert pair.places == (f"s:{pair.source.split()[0][1:]}", f"t:{pair.target.split()[0][1:]}")
        if len(sides) == 1:
            assert pair in pairs
        else:
            assert pair.parts == tuple(sides)
            assert pair.id == f"test-{pair.source.split()[0][1:]} [{len(sides)}]"


def test_a_pair_with_an_empty_side_is_left_alone_and_keeps_its_place() -> None:
    pairs = [Pair(str(row), "s", " " if row == 5 else "t", ("", f"file:{row}")) for row in range(12)]
    (empty,) = (pair for pair in join_pairs(pairs, 3, "dev") if not all(map(str.strip, (pair.source, pair.target))))
    assert empty == pairs[5]
