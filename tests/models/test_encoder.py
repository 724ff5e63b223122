"""Encoders: order of reading, stacks and summary; padding and the other sentences of a batch have no effect."""

import math
from typing import Any

import pytest
import torch
import yaml
from helpers import CONF, ENCODER_NAMES, tiny_config
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hourglass.data.pieces import EOS, FIXED_PIECES, PAD
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.cells import CELLS, KernelCell
from hourglass.models.encoder import (
    ENCODERS,
    BlindEncoder,
    EncoderSettings,
    Memory,
    RecurrentEncoder,
    RecurrentEncoderSettings,
    mask_of,
    reversed_order,
)
from hourglass.models.recurrent import RecurrentLayer
from hourglass.models.summary import PooledEncoder, round_to_bits
from hourglass.models.transformer import position_angles, sinusoids

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


# ---- Encoders without a final state ----

# One that is not named here has the options of its config file.
POOLED: list[tuple[str, dict[str, Any]]] = [
    ("bag", {}),
    ("convolution", {}),
    ("convolution", {"layers": 1, "kernel_size": 1}),
    ("transformer", {"positions": "sinusoidal"}),
    ("transformer", {"positions": "rotary"}),
]
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "bag": {},
    "convolution": {"layers": 3, "kernel_size": 5, "longest_source": S + 3},
    "transformer": {"layers": 2, "heads": 2, "feedforward_size": 11, "positions": "sinusoidal"},
}
OTHERS = [name for name in ENCODER_NAMES if name not in ("blind", "rnn", *OWN_OPTIONS)]


def make_pooled(name: str, **options: Any) -> Any:
    """Build an encoder in float64, for evaluation, no weight at a special value such as 0 or 1."""
    given: dict[str, Any] = {"embedding_file": None, "embedding_size": E, "hidden_size": M, "dropout": 0.5}
    given |= {"summary": "mean", "summary_size": D, "summary_tanh": False, "summary_bits": 0}
    kind: Any = ENCODERS[name]
    if name in OTHERS:
        content = yaml.safe_load((CONF / "encoder" / f"{name}.yaml").read_text())
        own = {option: value for option, value in content.items() if option != "name"}
        given = own | {option: value for option, value in (given | options).items() if option in own}
    else:
        assert issubclass(kind, PooledEncoder)
        given |= OWN_OPTIONS[name] | options
    encoder = kind(kind.settings_class(**given), nn.Embedding(V, E), final_states=False).double().eval()
    for weight in encoder.parameters():
        nn.init.normal_(weight, std=0.5)
    return encoder


@pytest.mark.parametrize("summary", ["mean", "last", "attention"])
@pytest.mark.parametrize(("name", "options"), [*POOLED, *((name, {}) for name in OTHERS)])
def test_padding_changes_nothing_without_recurrence(name: str, options: dict[str, Any], summary: str) -> None:
    """States, summary, and the gradients of all weights."""
    if name in ("bag", *OTHERS) and summary == "last":  # Some refuse it.
        summary = "mean"
    encoder, rows = make_pooled(name, summary=summary, **options), sentences()
    order = torch.tensor([2, 0, 3, 1])
    # Other ids at padding, more padding, another order.
    otherwise = encoder(padded([rows[i] for i in order], filler=9, longest=S + 3), LENGTHS[order])
    in_batch = encoder(padded(rows), LENGTHS)
    towards_states, towards_summary = torch.randn_like(in_batch.states), torch.randn_like(in_batch.summary)
    real = in_batch.mask.unsqueeze(-1)
    ((in_batch.states * towards_states * real).sum() + (in_batch.summary * towards_summary).sum()).backward()
    together = {weight: part.grad for weight, part in encoder.named_parameters()}
    assert all(gradient is not None and gradient.any() for gradient in together.values())
    encoder.zero_grad()
    for b, row in enumerate(rows):
        alone = encoder(torch.tensor([row]), LENGTHS[b : b + 1])
        assert_same(in_batch, b, alone)
        assert_same(otherwise, order.tolist().index(b), alone)
        (
            (alone.states[0] * towards_states[b, : len(row)]).sum() + (alone.summary[0] * towards_summary[b]).sum()
        ).backward()
    torch.testing.assert_close({weight: part.grad for weight, part in encoder.named_parameters()}, together)


def read_alone(encoder: Any, row: list[int]) -> Memory:
    memory: Memory = encoder(torch.tensor([row]), torch.tensor([len(row)]))
    return memory


def linear(layer: Any, inputs: Tensor) -> Tensor:
    return layer.weight @ inputs + layer.bias


def test_a_bag_projects_each_embedding_by_itself() -> None:
    encoder = make_pooled("bag")
    row = sentences()[1]
    memory = read_alone(encoder, row)
    for s, piece in enumerate(row):
        torch.testing.assert_close(memory.states[0, s], linear(encoder.project, encoder.embedding.weight[piece]))
    turned = read_alone(encoder, row[::-1])
    torch.testing.assert_close(turned.summary, memory.summary)
    torch.testing.assert_close(turned.states.flip(1), memory.states)


@pytest.mark.parametrize("kernel_size", [1, 5])
def test_convolutions_are_the_equations(kernel_size: int) -> None:
    """Gehring et al. 2017, sections 3.1 and 3.2, one position at a time; zeros outside of the sentence."""
    encoder = make_pooled("convolution", kernel_size=kernel_size)
    row = sentences()[1]
    positions, half = range(len(row)), kernel_size // 2
    below = [
        linear(encoder.project, encoder.embedding.weight[piece] + encoder.positions[s]) for s, piece in enumerate(row)
    ]
    for layer in encoder.layers:
        above = []
        for s in positions:
            mixed = layer.bias
            for k in range(kernel_size):
                if (at := s + k - half) in positions:
                    mixed = mixed + layer.weight[:, :, k] @ below[at]
            above.append((mixed[:M] / (1 + (-mixed[M:]).exp()) + below[s]) * math.sqrt(0.5))
        below = above
    torch.testing.assert_close(read_alone(encoder, row).states[0], torch.stack(below))


def test_convolutions_see_as_far_as_the_kernels_reach() -> None:
    encoder = make_pooled("convolution", layers=2, kernel_size=3)
    (row,) = sentences()[1:2]
    other = [*row[:3], row[3] + 1 if row[3] + 1 < V else row[3] - 1, *row[4:]]
    moved = (read_alone(encoder, row).states - read_alone(encoder, other).states)[0].abs().sum(-1) > 0
    assert moved.tolist() == [abs(s - 3) <= 2 for s in range(len(row))]


def test_convolutions_refuse_a_source_beyond_their_positions_and_take_the_longest() -> None:
    encoder, source = make_pooled("convolution", longest_source=S - 1), padded(sentences())
    with pytest.raises(
        UserError, match=r"^encoder=convolution has 6 source positions .*7 tokens: set encoder\.longest_"
    ):
        encoder(source, LENGTHS)
    assert make_pooled("convolution", longest_source=S)(source, LENGTHS).states.shape == (len(LENGTHS), S, M)


def plain_positions(width: int) -> Tensor:
    """Return sinusoidal positions [S, width] one number at a time (Vaswani et al. 2017, section 3.5)."""
    wave = [[s / 10000 ** (i // 2 * 2 / width) for i in range(width)] for s in range(S)]
    rows = [[math.cos(angle) if i % 2 else math.sin(angle) for i, angle in enumerate(row)] for row in wave]
    return torch.tensor(rows, dtype=torch.double)


def test_a_transformer_is_the_librarys() -> None:
    """torch's own layers with norm_first, with the same weights; positions and final norm around them."""
    encoder = make_pooled("transformer", layers=2)
    own = encoder.state_dict()
    layer = nn.TransformerEncoderLayer(M, 2, 11, batch_first=True, norm_first=True)
    stack = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(M), enable_nested_tensor=False).double().eval()
    theirs = {
        "self_attn.in_proj_": "attention.inputs.",
        "self_attn.out_proj.": "attention.output.",
        "linear1.": "expand.",
        "linear2.": "contract.",
        "norm1.": "attention_norm.",
        "norm2.": "feedforward_norm.",
    }
    weights = {
        f"layers.{depth}.{name}{kind}": own[f"layers.{depth}.{ours}{kind}"]
        for depth in range(2)
        for name, ours in theirs.items()
        for kind in ("weight", "bias")
    }
    stack.load_state_dict({**weights, "norm.weight": own["norm.weight"], "norm.bias": own["norm.bias"]})

    source = padded(sentences())
    mask = mask_of(LENGTHS, S)
    inputs = encoder.project(encoder.embedding(source) * math.sqrt(E)) + plain_positions(M)
    expected = stack(inputs, src_key_padding_mask=~mask)
    torch.testing.assert_close(encoder(source, LENGTHS).states[mask], expected[mask])


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_self_attention_is_the_equation(positions: str) -> None:
    """One head, one query and one key at a time; rotary positions as products of complex numbers (Su et al. 2021)."""
    encoder = make_pooled("transformer", positions=positions)
    attention, width = encoder.layers[0].attention, M // 2
    states = torch.randn(S, M, dtype=torch.double)
    angles = position_angles(S, width, states) if positions == "rotary" else None
    result = attention(states.unsqueeze(0), torch.ones(1, S, dtype=torch.bool), angles)[0]

    def rotated(vector: list[float], s: int) -> list[float]:
        if positions == "sinusoidal":
            return vector
        pairs = zip(vector[0::2], vector[1::2], strict=True)
        turns = [complex(*pair) * complex(math.cos(a), math.sin(a)) for pair, a in zip(pairs, waves[s], strict=True)]
        return [part for number in turns for part in (number.real, number.imag)]

    waves = [[s / 10000 ** (2 * i / width) for i in range(width // 2)] for s in range(S)]
    parts = [linear(attention.inputs, state).tolist() for state in states]
    for s in range(S):
        heads: list[float] = []
        for head in range(2):
            at = head * width
            query = rotated(parts[s][at : at + width], s)
            scores = []
            for other in range(S):
                key = rotated(parts[other][M + at : M + at + width], other)
                scores.append(sum(x * y for x, y in zip(query, key, strict=True)) / math.sqrt(width))
            total = sum(math.exp(score) for score in scores)
            for i in range(2 * M + at, 2 * M + at + width):
                heads.append(sum(math.exp(scores[other]) / total * parts[other][i] for other in range(S)))
        torch.testing.assert_close(result[s], linear(attention.output, torch.tensor(heads, dtype=torch.double)))


def test_rotary_positions_are_relative() -> None:
    """A sentence that begins later has the same states; with sinusoidal positions it has others."""
    row = [5, 6, 7, 8]
    for positions, relative in (("rotary", True), ("sinusoidal", False)):
        encoder = make_pooled("transformer", positions=positions)
        shifted = torch.tensor([[9, 9, *row]])
        mask = torch.tensor([[False, False, True, True, True, True]])
        later = encoder.read(shifted, mask)[0, 2:]
        assert torch.allclose(later, read_alone(encoder, row).states[0]) == relative


@pytest.mark.parametrize("width", [6, 7])
def test_positions_are_exact_in_16_bits(width: int) -> None:
    """Past position 256 bfloat16 no longer holds every whole number: angles must not be computed in it."""
    torch.testing.assert_close(sinusoids(S, width, torch.empty(0, dtype=torch.double)), plain_positions(width))
    exact = sinusoids(700, width, torch.empty(0, dtype=torch.double))
    rounded = sinusoids(700, width, torch.empty(0, dtype=torch.bfloat16))
    torch.testing.assert_close(rounded, exact.to(torch.bfloat16), rtol=2**-7, atol=2e-4)


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_a_summary_is_a_projection_of_pooled_states(name: str) -> None:
    """The mean, the last state, or a mean with learned weights, computed for one sentence after the other."""
    rows = sentences()
    for summary in ("mean", "attention") if name == "bag" else ("mean", "last", "attention"):
        encoder = make_pooled(name, summary=summary)
        memory = encoder(padded(rows, filler=9), LENGTHS)
        for b, length in enumerate(LENGTHS.tolist()):
            states = memory.states[b, :length]
            pooled = states.sum(0) / length if summary == "mean" else states[-1]
            if summary == "attention":
                scores = (states @ encoder.pool.query).tolist()
                total = sum(math.exp(score) for score in scores)
                pooled = sum(state * (math.exp(score) / total) for state, score in zip(states, scores, strict=True))
            torch.testing.assert_close(memory.summary[b], linear(encoder.summarise, pooled))


@pytest.mark.parametrize("bits", [0, 1, 3])
@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_pooled_summaries_are_squashed_and_rounded(name: str, bits: int) -> None:
    """As those of a recurrent encoder: bits round the tanh, at most 2^bits levels, and gradients pass."""
    plain = make_pooled(name, summary="attention")
    rounded = make_pooled(name, summary="attention", summary_tanh=bits == 0, summary_bits=bits)
    rounded.load_state_dict(plain.state_dict())
    source = padded(sentences())
    squashed, summary = plain(source, LENGTHS).summary.tanh(), rounded(source, LENGTHS).summary
    torch.testing.assert_close(summary, round_to_bits(squashed, bits) if bits else squashed)
    assert rounded.summary_bits == bits
    if bits:
        assert len(summary.unique()) <= 2**bits
    summary.sum().backward()
    assert rounded.embedding.weight.grad.any()


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_nothing_is_pooled_where_nothing_reads_it(name: str) -> None:
    encoder = make_pooled(name, summary="attention", summary_size=0)
    assert encoder(padded(sentences()), LENGTHS).summary.shape == (len(LENGTHS), 0)
    assert not [weight for weight in encoder.state_dict() if weight.startswith(("pool", "summarise"))]


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_dropout_acts_in_training_only_without_recurrence(name: str) -> None:
    encoder, source = make_pooled(name), padded(sentences())
    torch.testing.assert_close(encoder(source, LENGTHS), encoder(source, LENGTHS), rtol=0, atol=0)
    encoder.train()
    assert not torch.equal(encoder(source, LENGTHS).states, encoder(source, LENGTHS).states)


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_dropout_acts_at_its_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each config file says: the widths of what it acts on, and the attention weights."""
    acted: list[int] = []
    weights: list[float] = []
    library = F.scaled_dot_product_attention

    def dropout(inputs: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        acted.extend([inputs.shape[-1]] if p == 0.5 and training else [])
        return inputs

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout_p: float) -> Tensor:
        weights.append(dropout_p)
        return library(query, key, value, mask)

    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    encoder = make_pooled(name).train()
    encoder(padded(sentences()), LENGTHS)
    assert acted == {"bag": [E], "convolution": [E, M, M, M], "transformer": [M, *[M, 11, M] * 2]}[name]
    assert weights == [0.5] * 2 * (name == "transformer")
    encoder.eval()(padded(sentences()), LENGTHS)
    assert weights == ([0.5] * 2 + [0.0] * 2) * (name == "transformer")


def fresh_model(changes: dict[str, Any]) -> Any:
    """Return a model as a training begins with."""
    config = tiny_config(changes={**changes, "decoder.tie": "output"}, encoder="convolution")
    return build_model(config, V, V, joint=True)


def test_a_fresh_stack_of_convolutions_keeps_the_variance_of_what_it_reads() -> None:
    """Gehring et al. 2017, section 3.5, and appendix A: what is small neither vanishes nor grows in a deep stack."""
    torch.manual_seed(1)
    model = fresh_model(
        {"encoder.layers": 12, "encoder.hidden_size": 128, "encoder.embedding_size": 64, "encoder.dropout": 0.0}
    )
    encoder: Any = model.encoder
    source = torch.randint(FIXED_PIECES, V, (8, 50))
    inputs = encoder.embedding(source) + encoder.positions[:50]
    states = encoder.read(source, torch.ones(8, 50, dtype=torch.bool))
    assert 0.7 < (states.std() / inputs.std()).item() < 1.4
