"""Encoders: order of reading, stacks and summary; padding and the other sentences of a batch have no effect."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hourglass.data.pieces import EOS, FIXED_PIECES, PAD
from hourglass.errors import UserError
from hourglass.models.cells import CELLS, KernelCell
from hourglass.models.encoder import (
    BlindEncoder,
    EncoderSettings,
    Memory,
    RecurrentEncoder,
    RecurrentEncoderSettings,
    mask_of,
    reversed_order,
)
from hourglass.models.recurrent import RecurrentLayer

KERNELS = [name for name, kind in CELLS.items() if issubclass(kind, KernelCell)]
V, E, M, D = 20, 6, 8, 5
LENGTHS = torch.tensor([3, 7, 1, 5])
S = 7


def make(**options: Any) -> RecurrentEncoder:
    given: dict[str, Any] = {
        "cell": "lstm",
        "layers": 2,
        "hidden_size": M,
        "bidirectional": True,
        "embedding_size": E,
        "embedding_file": None,
        "residual_from": 0,
        "reverse_source": False,
        "summary_size": D,
        "summary_tanh": False,
        "dropout": 0.5,  # Evaluation mode must switch it off.
    }
    settings = RecurrentEncoderSettings(**(given | options))
    return RecurrentEncoder(settings, nn.Embedding(V, E), final_states=False).double().eval()


def sentences() -> list[list[int]]:
    return [[*torch.randint(FIXED_PIECES, V, (n - 1,)).tolist(), EOS] for n in LENGTHS.tolist()]


def padded(rows: list[list[int]], filler: int = PAD, longest: int = S) -> Tensor:
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def assert_same(memory: Memory, b: int, alone: Memory) -> None:
    """Row b of `memory` holds what `alone`, a batch of one without padding, holds."""
    n = int(alone.lengths)
    torch.testing.assert_close(memory.states[b, :n], alone.states[0])
    torch.testing.assert_close(memory.summary[b], alone.summary[0])
    assert memory.lengths[b] == n
    assert memory.mask[b].tolist() == [True] * n + [False] * (memory.mask.shape[1] - n)


@pytest.mark.parametrize("reverse_source", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True, "first", "split"])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_and_other_sentences_change_nothing(cell: str, bidirectional: Any, reverse_source: bool) -> None:
    encoder = make(cell=cell, bidirectional=bidirectional, reverse_source=reverse_source, layers=4, residual_from=2)
    rows = sentences()
    order = torch.tensor([2, 0, 3, 1])
    in_batch = encoder(padded(rows), LENGTHS)
    # Other ids at padding, more padding, another order.
    otherwise = encoder(padded([rows[i] for i in order], filler=9, longest=S + 3), LENGTHS[order])
    for b, row in enumerate(rows):
        alone = encoder(torch.tensor([row]), LENGTHS[b : b + 1])
        assert_same(in_batch, b, alone)
        assert_same(otherwise, order.tolist().index(b), alone)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_reversing_is_reading_reversed_words(cell: str, bidirectional: bool) -> None:
    """Words last to first with end-of-sentence still last; memory row s still belongs to source token s."""
    plain = make(cell=cell, bidirectional=bidirectional)
    turned = make(cell=cell, bidirectional=bidirectional, reverse_source=True)
    turned.load_state_dict(plain.state_dict())
    rows = sentences()
    memory = turned(padded(rows), LENGTHS)
    for b, (*words, end) in enumerate(rows):
        by_hand = plain(torch.tensor([[*reversed(words), end]]), LENGTHS[b : b + 1])
        torch.testing.assert_close(memory.summary[b], by_hand.summary[0])
        for s in range(len(words)):
            torch.testing.assert_close(memory.states[b, s], by_hand.states[0, len(words) - 1 - s])
        torch.testing.assert_close(memory.states[b, len(words)], by_hand.states[0, -1])  # end-of-sentence
        if len(set(words)) > 1:  # Else the test would pass without any reversal.
            assert not torch.allclose(memory.summary[b], plain(torch.tensor([rows[b]]), LENGTHS[b : b + 1]).summary[0])


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([4], [[3, 2, 1, 0, 4]]), ([0, 5], [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]), ([1], [[0, 1, 2, 3, 4]])],
)
def test_reversed_order(lengths: list[int], expected: list[list[int]]) -> None:
    assert reversed_order(torch.tensor(lengths), 5).tolist() == expected


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", KERNELS)
def test_stack_and_summary_are_the_librarys_stack_and_one_projection(cell: str, bidirectional: bool) -> None:
    """States are those of torch's own two-layer RNN; the summary projects the final states of every layer."""
    encoder = make(cell=cell, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    stack = kind(E, M // directions, 2, bidirectional=bidirectional, batch_first=True).double()
    weights = {}
    for name, weight in encoder.layers.state_dict().items():
        depth, _, rest = name.split(".")  # 1.weights.weight_ih_l0_reverse
        weights[rest.replace("_l0", f"_l{depth}")] = weight
    stack.load_state_dict(weights)

    source = padded(sentences())
    embedded = encoder.embedding(source)
    packed, final = stack(pack_padded_sequence(embedded, LENGTHS, batch_first=True, enforce_sorted=False))
    states, _ = pad_packed_sequence(packed, batch_first=True)
    parts = final if cell == "lstm" else (final,)  # each [layers * directions, B, M / directions]
    finals = [part[directions * i + d] for i in range(2) for part in parts for d in range(directions)]
    assert encoder.summarise is not None
    expected = torch.cat(finals, -1) @ encoder.summarise.weight.T + encoder.summarise.bias

    memory = encoder(source, LENGTHS)
    torch.testing.assert_close(memory.states[memory.mask], states[memory.mask])
    torch.testing.assert_close(memory.summary, expected)


@pytest.mark.parametrize("width", [0, 1, 3, 50])
def test_summary_width_is_free_of_the_layers(width: int) -> None:
    encoder, other = make(summary_size=width), make()
    assert encoder.summary_size == width
    assert encoder(padded(sentences()), LENGTHS).summary.shape == (len(LENGTHS), width)
    shapes = [{name: w.shape for name, w in e.layers.state_dict().items()} for e in (encoder, other)]
    assert shapes[0] == shapes[1]


def test_dropout_acts_in_training_only() -> None:
    encoder, source = make(), padded(sentences())
    torch.testing.assert_close(encoder(source, LENGTHS), encoder(source, LENGTHS), rtol=0, atol=0)
    encoder.train()
    assert not torch.equal(encoder(source, LENGTHS).summary, encoder(source, LENGTHS).summary)


def test_the_blind_encoder_reads_nothing() -> None:
    encoder = BlindEncoder(EncoderSettings(embedding_size=E, summary_size=D), nn.Embedding(V, E), final_states=False)
    first, other = (encoder(padded(sentences()), LENGTHS) for _ in range(2))
    torch.testing.assert_close(first, other, rtol=0, atol=0)
    assert first.states.shape == (len(LENGTHS), S, 0)
    assert first.summary.shape == (len(LENGTHS), D)
    assert not first.summary.any()
    assert torch.equal(first.mask, mask_of(LENGTHS, S))
    assert encoder.double()(padded(sentences()), LENGTHS).summary.dtype == torch.double
    assert not encoder.state_dict()  # Not even an embedding, which would be trained for nothing.


def test_two_directions_share_the_width() -> None:
    with pytest.raises(UserError, match=r"encoder\.hidden_size=7.*make it even.*encoder\.bidirectional=false"):
        make(hidden_size=7)
    assert make(hidden_size=7, bidirectional=False).memory_size == 7


# ---- Stacks: each against its layers, run by hand over one sentence ----


def run(layer: Any, inputs_SI: Tensor) -> tuple[Tensor, Tensor]:
    """Read one sentence by one layer: its states [S, width] and its final state."""
    assert isinstance(layer, RecurrentLayer)
    states, final = layer.encode(inputs_SI.unsqueeze(0), torch.ones(1, len(inputs_SI), dtype=torch.bool))
    return states[0], final[0]


def test_residual_layers_add_what_they_read() -> None:
    """Wu et al. 2016, equation 6: x^i = m^i + x^(i-1), from the third layer up; final states are without it."""
    encoder = make(layers=4, residual_from=3, bidirectional="first")
    (row,) = sentences()[1:2]
    assert [layer.bidirectional for layer in encoder.layers] == [True, False, False, False]
    below, finals = encoder.embedding(torch.tensor(row)), []
    for depth, layer in enumerate(encoder.layers):
        states, final = run(layer, below)
        below = states + below if depth >= 2 else states
        finals.append(final)
    memory = encoder(torch.tensor([row]), LENGTHS[1:2])
    torch.testing.assert_close(memory.states[0], below)
    assert encoder.summarise is not None
    torch.testing.assert_close(memory.summary[0], encoder.summarise(torch.cat(finals)))


@pytest.mark.parametrize("residual_from", [0, 2])
def test_split_is_two_stacks_side_by_side(residual_from: int) -> None:
    """TensorFlow NMT's "bi": neither direction sees the other but in the memory; final states take turns."""
    encoder = make(layers=4, bidirectional="split", residual_from=residual_from)
    (row,) = sentences()[1:2]
    assert encoder.backward_layers is not None
    sides, finals = [], []
    for layers, order in ((encoder.layers, 1), (encoder.backward_layers, -1)):
        below = encoder.embedding(torch.tensor(row[::order]))
        ends = []
        for depth, layer in enumerate(layers):
            states, final = run(layer, below)
            below = states + below if residual_from and depth else states
            ends.append(final)
        sides.append(below.flip(0) if order == -1 else below)
        finals.append(ends)
    memory = encoder(torch.tensor([row]), LENGTHS[1:2])
    torch.testing.assert_close(memory.states[0], torch.cat(sides, -1))
    assert encoder.summarise is not None
    alternating = torch.cat([final for pair in zip(*finals, strict=True) for final in pair])
    torch.testing.assert_close(memory.summary[0], encoder.summarise(alternating))


def test_summary_tanh() -> None:
    plain = make()
    squashed = make(summary_tanh=True)
    squashed.load_state_dict(plain.state_dict())
    source = padded(sentences())
    torch.testing.assert_close(squashed(source, LENGTHS).summary, plain(source, LENGTHS).summary.tanh())
