"""The tree of a beam search: its best leaf is what the search returns."""

from typing import Any

import pytest
import torch
from helpers import plain_search, tiny_model

from hourglass.analysis.beam_tree import BeamTree, Branch, grow, kept_places, of_a_tree
from hourglass.data.pieces import EOS
from hourglass.decoding.search import search

SOURCES = ([5, 7, 9, EOS], [8, 8, 5, 6, 9, EOS])


@pytest.mark.parametrize(
    ("attention", "changes", "of_search"),
    [
        ("none", {}, {}),
        ("luong_general", {"decoder.layers": 2}, {"length_penalty": 0.0}),
        ("bahdanau", {"decoder.input_feeding": True}, {"coverage_penalty": 0.5}),
        ("luong_general", {"decoder.copy": True}, {"output_most": 3}),
    ],
)
def test_its_best_leaf_is_what_the_search_returns(
    attention: str, changes: dict[str, Any], of_search: dict[str, Any]
) -> None:
    model = tiny_model(attention, changes, vocabulary=12, spread=1.5)  # Far from even, so that hypotheses compete.
    for beam in (1, 4):
        settings = plain_search(beam, **of_search)
        for source in SOURCES:
            ids = torch.tensor([source])
            (best,) = search(model, ids, torch.tensor([len(source)]), settings)
            tree = grow(model, ids, settings)
            step, place = tree.leaves[0]
            leaf = tree.steps[step][place]
            assert tree.tokens(step, place) == best.tokens
            assert leaf.score == pytest.approx(best.score, rel=1e-5)
            assert leaf.log_probability == pytest.approx(best.log_probability, rel=1e-5)
            assert (leaf.fate == "finished") == best.finished
            check_counts(tree)


def check_counts(tree: BeamTree) -> None:
    """A step keeps K at most, considers 2K at most, and each branch continues one that was kept."""
    before = 1
    for branches in tree.steps:
        assert len(branches) <= 2 * tree.beam
        assert all(branch.origin < before for branch in branches)
        before = len(kept_places(branches))
        assert before <= tree.beam
        values = [branch.log_probability for branch in branches]
        assert values == sorted(values, reverse=True)


def test_leaves_and_their_pieces_by_hand() -> None:
    steps = [
        [Branch(0, 7, -0.1, "kept"), Branch(0, EOS, -1.0, "finished", -1.0), Branch(0, 8, -2.0, "kept")],
        [Branch(1, 9, -2.1, "cut off", -1.5), Branch(0, EOS, -2.2, "finished", -1.7), Branch(0, 5, -4.0, "pruned")],
    ]
    tree = BeamTree(2, 1.0, steps)
    assert tree.leaves == [(0, 1), (1, 1), (1, 0)]  # What is finished comes first.
    assert [tree.tokens(step, place) for step, place in tree.leaves] == [[], [7], [8, 9]]


def test_a_tree_needs_a_beam() -> None:
    assert of_a_tree(plain_search(1, temperature=0.7)).beam == 5
    assert of_a_tree(plain_search(1, temperature=0.7)).temperature == 0
    assert of_a_tree(plain_search(3)).beam == 3
