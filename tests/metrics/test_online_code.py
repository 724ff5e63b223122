"""The online code of labels given vectors: its length where it is known."""

import numpy as np
import pytest
import torch

from hourglass.metrics.online_code import SHARES, online_code, shuffled

CLASSES = 4


def make_labels(items: int, count: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(CLASSES, size=(items, count)))


def test_a_vector_that_tells_the_label_saves_most_of_the_code_and_no_more_than_its_entropy() -> None:
    labels = make_labels(2000)
    vectors = torch.nn.functional.one_hot(labels[:, 0], CLASSES).float()
    code, control = online_code(vectors, labels, CLASSES), online_code(vectors, shuffled(labels), CLASSES)
    assert code.uniform_bits == 2000 * 2
    saved = control.bits_an_item - code.bits_an_item
    assert 1.7 < saved < 2.05
    assert code.compression > 6


def test_a_vector_of_chance_saves_nothing_and_costs_little() -> None:
    labels = make_labels(2000)
    vectors = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    code, control = online_code(vectors, labels, CLASSES), online_code(vectors, shuffled(labels), CLASSES)
    assert abs(code.bits_an_item - control.bits_an_item) < 0.03
    assert 2 <= code.bits_an_item < 2.1


def test_a_vector_that_tells_half_of_the_label_saves_one_bit_of_two() -> None:
    labels = make_labels(2000)
    vectors = torch.nn.functional.one_hot(labels[:, 0] // 2, 2).float()
    code, control = online_code(vectors, labels, CLASSES), online_code(vectors, shuffled(labels), CLASSES)
    assert 0.85 < control.bits_an_item - code.bits_an_item < 1.05


def test_labels_that_are_seldom_cost_their_entropy() -> None:
    """Without information in the vectors, the probes learn how frequent the labels are: H(0.1) = 0.469."""
    draws = np.random.default_rng(4)
    labels = torch.from_numpy((draws.random((3000, 3)) < 0.1).astype(np.int64))
    vectors = torch.from_numpy(draws.standard_normal((3000, 4)))
    code = online_code(vectors, labels, 2)
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert 3 * entropy * 0.97 < code.bits_an_item < 3 * entropy * 1.1
    assert code.uniform_bits == 3000 * 3


def test_the_first_block_has_a_uniform_code() -> None:
    """Of so few items that no probe is trained, all are in the uniform code."""
    items = 9
    labels = make_labels(items, 2)
    code = online_code(torch.randn(items, 3), labels, CLASSES)
    assert round(SHARES[-2] * items) < 5  # None is held out of 4 items.
    assert code.bits == pytest.approx(items * 2 * 2)


def test_draws_of_other_code_go_on_as_before() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    codes = [online_code(make_labels(200).float(), make_labels(200), CLASSES) for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert codes[0] == codes[1]


def test_what_is_no_label_is_refused() -> None:
    for labels, classes in ((torch.zeros(3, 1).long(), 1), (torch.full((3, 1), 2), 2), (torch.zeros(0, 1).long(), 2)):
        with pytest.raises(ValueError, match="online code"):
            online_code(torch.zeros(len(labels), 1), labels, classes)
