"""The recurrent layer against packed sequences, against itself step by step, and against its equations."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hourglass.models.recurrent import LOOPED, SHUT, Cell, RecurrentLayer

CELLS = get_args(Cell)
KERNELS = [cell for cell in CELLS if cell not in LOOPED]
B, T, I, H = 4, 6, 3, 5  # noqa: E741
LENGTHS = torch.tensor([4, 6, 1, 5])  # unsorted; one full, one of a single token
MASK_BT = torch.arange(T) < LENGTHS.unsqueeze(1)


def make(cell: Cell, bidirectional: bool = False) -> RecurrentLayer:
    layer = RecurrentLayer(cell, I, H, bidirectional).double()
    for norm in layer.modules():
        if isinstance(norm, nn.LayerNorm):  # No weight at a special value.
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return layer


def library(layer: RecurrentLayer) -> nn.RNNBase:
    kind = nn.LSTM if layer.cell == "lstm" else nn.GRU
    twin = kind(I, H, bidirectional=layer.bidirectional, batch_first=True).double()
    twin.load_state_dict(layer.weights.state_dict())
    return twin


@pytest.mark.parametrize("cell", KERNELS)
def test_the_librarys_kernel_is_not_halved(cell: Cell) -> None:
    """Autocast would have cuDNN compute in float16 even where bfloat16 was asked for."""
    layer = make(cell, True).float()
    inputs = torch.randn(B, T, I)
    wanted, final = layer.encode(inputs, MASK_BT)
    with torch.autocast("cpu", torch.bfloat16):
        found, end = layer.encode(inputs, MASK_BT)
        halved, _ = layer.encode(inputs.bfloat16(), MASK_BT)
    assert found.dtype == end.dtype == halved.dtype == torch.float32
    torch.testing.assert_close((found, end), (wanted, final), rtol=0, atol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", KERNELS)
def test_padding_is_as_transparent_as_packing(cell: Cell, bidirectional: bool) -> None:
    """Outputs at real positions, final states, and the gradients of inputs and weights."""
    layer = make(cell, bidirectional)
    twin = library(layer)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double)
    inputs_BTI[~MASK_BT] = 1e3  # What stands at padding must not matter.
    ours_BTI, theirs_BTI = inputs_BTI.clone().requires_grad_(), inputs_BTI.clone().requires_grad_()

    outputs, final = layer.encode(ours_BTI, MASK_BT)

    packed = pack_padded_sequence(theirs_BTI, LENGTHS, batch_first=True, enforce_sorted=False)
    packed_outputs, packed_final = twin(packed)
    expected, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=T)
    parts = packed_final if cell == "lstm" else (packed_final,)  # each [directions, B, H]
    expected_final = torch.cat([direction for part in parts for direction in part], -1)

    torch.testing.assert_close(outputs[MASK_BT], expected[MASK_BT])
    torch.testing.assert_close(final, expected_final)

    towards, towards_final = torch.randn_like(expected[MASK_BT]), torch.randn_like(final)
    ((outputs[MASK_BT] * towards).sum() + (final * towards_final).sum()).backward()
    ((expected[MASK_BT] * towards).sum() + (expected_final * towards_final).sum()).backward()
    assert ours_BTI.grad is not None
    assert not ours_BTI.grad[~MASK_BT].any()
    torch.testing.assert_close(ours_BTI.grad, theirs_BTI.grad)
    for ours, theirs in zip(layer.weights.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def one_way(layer: RecurrentLayer, direction: int) -> RecurrentLayer:
    """A layer of one direction with the weights of one of another's two."""
    single = make(layer.cell)
    ending = "_reverse" if direction else ""
    single.weights.load_state_dict(
        {name: layer.weights.state_dict()[name + ending] for name in single.weights.state_dict()}
    )
    for norms in ("input_norms", "hidden_norms", "cell_norms"):
        if len(getattr(layer, norms)):
            getattr(single, norms)[0].load_state_dict(getattr(layer, norms)[direction].state_dict())
    return single


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_sentence_is_read_step_by_step_from_either_end(cell: Cell, bidirectional: bool) -> None:
    """Each sentence of the padded batch, against steps over its own tokens alone; and the gradients of the inputs."""
    layer = make(cell, bidirectional)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double)
    inputs_BTI[~MASK_BT] = 1e3
    inputs_BTI.requires_grad_()
    outputs, final = layer.encode(inputs_BTI, MASK_BT)
    sums = []
    for b, length in enumerate(LENGTHS.tolist()):
        ends: list[tuple[Tensor, ...]] = []
        for direction in range(2 if bidirectional else 1):
            single = one_way(layer, direction)
            state = single.zero_state(1, inputs_BTI)
            for t in reversed(range(length)) if direction else range(length):
                state = single.step(inputs_BTI[b : b + 1, t], state)
                seen = outputs[b : b + 1, t, direction * H : (direction + 1) * H]
                torch.testing.assert_close(seen, state[0])
            ends.append(state)
        # All of h, then all of c, each direction by direction.
        expected = torch.cat([part for parts in zip(*ends, strict=True) for part in parts], -1)[0]
        torch.testing.assert_close(final[b], expected)
        sums.append(expected.sum())
    ours, theirs = (torch.autograd.grad(total, inputs_BTI)[0] for total in (final.sum(), torch.stack(sums).sum()))
    torch.testing.assert_close(ours, theirs)
    assert not ours[~MASK_BT].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_shut_gate_is_exactly_shut(dtype: torch.dtype) -> None:
    # Beside SHUT, any other input of a gate (here up to 100) is nothing.
    gate = torch.linspace(-100, 100, 9, dtype=dtype)
    assert (gate + SHUT).sigmoid().eq(1).all()
    assert (gate - SHUT).sigmoid().eq(0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_steps_make_the_sequence(cell: Cell) -> None:
    layer = make(cell)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double)
    start = tuple(torch.randn(B, H, dtype=torch.double) for _ in range(layer.parts))
    state, steps = start, []
    for input_BI in inputs_BTI.unbind(1):
        state = layer.step(input_BI, state)
        steps.append(state[0])
    stepped, whole = torch.stack(steps, 1), layer(inputs_BTI, start)
    torch.testing.assert_close(stepped, whole)

    towards = torch.randn_like(whole)
    by_steps = torch.autograd.grad((stepped * towards).sum(), tuple(layer.parameters()))
    at_once = torch.autograd.grad((whole * towards).sum(), tuple(layer.parameters()))
    torch.testing.assert_close(by_steps, at_once)


@pytest.mark.parametrize("ahead", [0, 2, I])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_may_know_some_of_its_inputs_beforehand(cell: Cell, ahead: int) -> None:
    """Values and gradients are those of steps that read all of them at once."""
    layer = make(cell)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double, requires_grad=True)
    start = tuple(torch.randn(B, H, dtype=torch.double) for _ in range(layer.parts))
    plain = apart = start
    known = layer.know(inputs_BTI[..., :ahead])
    one: list[Tensor] = []
    other: list[Tensor] = []
    for t in range(T):
        plain = layer.step(inputs_BTI[:, t], plain)
        apart = layer.step(inputs_BTI[:, t, ahead:], apart, known._replace(gates=known.gates[:, t]))
        one += plain
        other += apart
    torch.testing.assert_close(one, other)
    towards = [torch.randn_like(part) for part in one]
    weights = (inputs_BTI, *layer.parameters())
    torch.testing.assert_close(torch.autograd.grad(one, weights, towards), torch.autograd.grad(other, weights, towards))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def affine(matrix: list[list[float]], vector: list[float], bias: list[float]) -> list[float]:
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(matrix, bias, strict=True)]


def lstm_equations(layer: RecurrentLayer, x: list[float], h: list[float], c: list[float]) -> list[list[float]]:
    """Gates i, f, g, o, in this order of rows."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in layer.weights.parameters())
    gates = [a + b for a, b in zip(affine(w_x, x, b_x), affine(w_h, h, b_h), strict=True)]
    new_h, new_c = [], []
    for j in range(H):
        i, f, g, o = (gates[j + k * H] for k in range(4))
        new_c.append(sigmoid(f) * c[j] + sigmoid(i) * math.tanh(g))
        new_h.append(sigmoid(o) * math.tanh(new_c[j]))
    return [new_h, new_c]


def gru_equations(layer: RecurrentLayer, x: list[float], h: list[float]) -> list[list[float]]:
    """Gates r, z, n, in this order of rows; the reset gate acts after the matrix, as in cuDNN."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in layer.weights.parameters())
    from_x, from_h = affine(w_x, x, b_x), affine(w_h, h, b_h)
    new_h = []
    for j in range(H):
        r = sigmoid(from_x[j] + from_h[j])
        z = sigmoid(from_x[j + H] + from_h[j + H])
        n = math.tanh(from_x[j + 2 * H] + r * from_h[j + 2 * H])
        new_h.append((1 - z) * n + z * h[j])
    return [new_h]


def gru_cho_equations(layer: RecurrentLayer, x: list[float], h: list[float]) -> list[list[float]]:
    """Cho et al. 2014, equations 5 to 8: the reset gate acts on the state, before the matrix."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in layer.weights.parameters())
    from_x, from_h = affine(w_x, x, b_x), affine(w_h, h, b_h)
    r = [sigmoid(from_x[j] + from_h[j]) for j in range(H)]
    z = [sigmoid(from_x[j + H] + from_h[j + H]) for j in range(H)]
    reset = affine(w_h[2 * H :], [r[j] * h[j] for j in range(H)], b_h[2 * H :])
    return [[z[j] * h[j] + (1 - z[j]) * math.tanh(from_x[j + 2 * H] + reset[j]) for j in range(H)]]


def normed(vector: list[float], norm: nn.Module) -> list[float]:
    """Ba et al. 2016, equations 3 and 4."""
    mean = sum(vector) / len(vector)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in vector) / len(vector) + 1e-5)
    gain, bias = (weight.tolist() for weight in norm.parameters())
    return [g * (x - mean) / deviation + b for x, g, b in zip(vector, gain, bias, strict=True)]


def lstm_normed_equations(layer: RecurrentLayer, x: list[float], h: list[float], c: list[float]) -> list[list[float]]:
    """Ba et al. 2016, equations 20 to 22, gates i, f, g, o."""
    w_x, w_h = (weight.tolist() for weight in layer.weights.parameters())
    norm_x, norm_h, norm_c = layer.input_norms[0], layer.hidden_norms[0], layer.cell_norms[0]
    nothing = [0.0] * (4 * H)
    from_x, from_h = normed(affine(w_x, x, nothing), norm_x), normed(affine(w_h, h, nothing), norm_h)
    gates = [a + b for a, b in zip(from_x, from_h, strict=True)]
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    new_c = [sigmoid(f[j]) * c[j] + sigmoid(i[j]) * math.tanh(g[j]) for j in range(H)]
    return [[sigmoid(o[j]) * math.tanh(y) for j, y in enumerate(normed(new_c, norm_c))], new_c]


EQUATIONS = {
    "lstm": lstm_equations,
    "gru": gru_equations,
    "gru_cho": gru_cho_equations,
    "lstm_normed": lstm_normed_equations,
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_its_equations(cell: Cell) -> None:
    layer = make(cell)
    input_BI = torch.randn(B, I, dtype=torch.double)
    state = tuple(torch.randn(B, H, dtype=torch.double) for _ in range(layer.parts))
    after = layer.step(input_BI, state)
    for b in range(B):
        x, *before = input_BI[b].tolist(), *(part[b].tolist() for part in state)
        expected = EQUATIONS[cell](layer, x, *before)  # type: ignore[operator]
        torch.testing.assert_close([part[b] for part in after], [torch.tensor(e, dtype=torch.double) for e in expected])


def test_forget_gates_start_open() -> None:
    torch.manual_seed(1)
    ours = make("lstm", bidirectional=True).weights
    torch.manual_seed(1)
    plain = nn.LSTM(I, H, bidirectional=True, batch_first=True).double()
    opened: Tensor = torch.zeros(4 * H, dtype=torch.double).index_fill(0, torch.arange(H, 2 * H), 1.0)
    for (name, our), their in zip(ours.named_parameters(), plain.parameters(), strict=True):
        expected = their + opened if name.startswith("bias_ih") else their
        torch.testing.assert_close(our, expected)
    fresh: Any = RecurrentLayer("lstm_normed", I, H).input_norms[0]
    assert fresh.bias.tolist() == [0.0] * H + [1.0] * H + [0.0] * (2 * H)


@pytest.mark.parametrize("cell", CELLS)
def test_zero_state(cell: Cell) -> None:
    layer = make(cell)
    state = layer.zero_state(3, like=torch.empty(1, dtype=torch.double))
    assert [(part.shape, part.dtype, bool(part.any())) for part in state] == [
        ((3, H), torch.double, False)
    ] * layer.parts
