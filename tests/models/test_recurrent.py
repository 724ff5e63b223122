"""Cells against their published equations; the recurrent layer against packed sequences and against single steps.

To add a cell, write its equation here under its name: without one `test_a_step_is_its_equations` fails.
Shapes: B batch, T time, I input, H hidden.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hourglass.models.cells import CELLS, SHUT, Cell, CellState, KernelCell
from hourglass.models.recurrent import RecurrentLayer

KERNELS = [name for name, kind in CELLS.items() if issubclass(kind, KernelCell)]
B, T, I, H = 4, 6, 3, 8  # noqa: E741
LENGTHS = torch.tensor([4, 6, 1, 5])  # unsorted; one full, one of a single token
MASK_BT = torch.arange(T) < LENGTHS.unsqueeze(1)


def make(cell: str, bidirectional: bool = False) -> RecurrentLayer:
    layer = RecurrentLayer(cell, I, H, bidirectional).double()
    for norm in layer.modules():
        if isinstance(norm, nn.LayerNorm):  # No weight at a special value.
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return layer


def state_of(layer: RecurrentLayer) -> CellState:
    """Return a random state of B rows."""
    return tuple(torch.randn(B, *shape, dtype=torch.double) for shape in layer.cell.state_shapes(H))


def library_twin(layer: RecurrentLayer, cell: str) -> nn.RNNBase:
    """Return torch's own layer, with the weights that a checkpoint of the layer has."""
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    twin = kind(I, H, bidirectional=layer.bidirectional, batch_first=True).double()
    twin.load_state_dict({name.removeprefix("weights."): weight for name, weight in layer.state_dict().items()})
    return twin


@pytest.mark.parametrize("cell", KERNELS)
def test_the_librarys_kernel_is_not_halved(cell: str) -> None:
    """Autocast to bfloat16 would have cuDNN compute in float16."""
    layer = make(cell, True).float()
    inputs = torch.randn(B, T, I)
    expected = layer.encode(inputs, MASK_BT)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, final = layer.encode(inputs, MASK_BT)
        from_bfloat16, _ = layer.encode(inputs.bfloat16(), MASK_BT)
    assert outputs.dtype == final.dtype == from_bfloat16.dtype == torch.float32
    torch.testing.assert_close((outputs, final), expected, rtol=0, atol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", KERNELS)
def test_padding_is_as_transparent_as_packing(cell: str, bidirectional: bool) -> None:
    """Outputs at real positions, final states, and the gradients of inputs and weights."""
    layer = make(cell, bidirectional)
    twin = library_twin(layer, cell)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double)
    inputs_BTI[~MASK_BT] = 1e3  # The inputs at padding must not matter.
    masked_BTI, packed_BTI = inputs_BTI.clone().requires_grad_(), inputs_BTI.clone().requires_grad_()

    outputs, final = layer.encode(masked_BTI, MASK_BT)

    packed = pack_padded_sequence(packed_BTI, LENGTHS, batch_first=True, enforce_sorted=False)
    packed_outputs, packed_final = twin(packed)
    expected, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=T)
    parts = packed_final if cell == "lstm" else (packed_final,)  # each [directions, B, H]
    expected_final = torch.cat([direction for part in parts for direction in part], -1)

    torch.testing.assert_close(outputs[MASK_BT], expected[MASK_BT])
    torch.testing.assert_close(final, expected_final)

    towards, towards_final = torch.randn_like(expected[MASK_BT]), torch.randn_like(final)
    ((outputs[MASK_BT] * towards).sum() + (final * towards_final).sum()).backward()
    ((expected[MASK_BT] * towards).sum() + (expected_final * towards_final).sum()).backward()
    assert masked_BTI.grad is not None
    assert not masked_BTI.grad[~MASK_BT].any()
    torch.testing.assert_close(masked_BTI.grad, packed_BTI.grad)
    for weight, twin_weight in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, twin_weight.grad)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_sentence_is_read_step_by_step_from_either_end(cell: str, bidirectional: bool) -> None:
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
            single = layer.directions[direction]
            state = single.zero_state(1, inputs_BTI)
            for t in reversed(range(length)) if direction else range(length):
                output, state = single.step(inputs_BTI[b : b + 1, t], state)
                torch.testing.assert_close(outputs[b : b + 1, t, direction * H : (direction + 1) * H], output)
            ends.append(state)
        # All of h, then all of c; of each part, the directions side by side in its last dimension.
        parts = [torch.cat(parts, -1) for parts in zip(*ends, strict=True)]
        assert [part.shape[1:] for part in parts] == [torch.Size(shape) for shape in layer.final_shapes]
        expected = torch.cat([part.flatten(1) for part in parts], -1)[0]
        torch.testing.assert_close(final[b], expected)
        sums.append(expected.sum())
    batched, by_sentence = (
        torch.autograd.grad(total, inputs_BTI)[0] for total in (final.sum(), torch.stack(sums).sum())
    )
    torch.testing.assert_close(batched, by_sentence)
    assert not batched[~MASK_BT].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_shut_gate_is_exactly_shut(dtype: torch.dtype) -> None:
    # Added to SHUT, all other inputs of a gate (here up to 100) have no effect.
    gate = torch.linspace(-100, 100, 9, dtype=dtype)
    assert (gate + SHUT).sigmoid().eq(1).all()
    assert (gate - SHUT).sigmoid().eq(0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_steps_make_the_sequence(cell: str) -> None:
    layer = make(cell)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double)
    start = state_of(layer)
    state, steps = start, []
    for input_BI in inputs_BTI.unbind(1):
        output, state = layer.step(input_BI, state)
        steps.append(output)
    stepped, whole = torch.stack(steps, 1), layer(inputs_BTI, start)
    torch.testing.assert_close(stepped, whole)

    towards = torch.randn_like(whole)
    by_steps = torch.autograd.grad((stepped * towards).sum(), tuple(layer.parameters()))
    at_once = torch.autograd.grad((whole * towards).sum(), tuple(layer.parameters()))
    torch.testing.assert_close(by_steps, at_once)


@pytest.mark.parametrize("ahead", [0, 2, I])
@pytest.mark.parametrize("cell", CELLS)
def test_some_inputs_of_a_step_may_be_projected_ahead(cell: str, ahead: int) -> None:
    """Values and gradients are those of steps that read all of them at once."""
    layer = make(cell)
    inputs_BTI = torch.randn(B, T, I, dtype=torch.double, requires_grad=True)
    whole = apart = state_of(layer)
    projection = layer.cell.project_ahead(inputs_BTI[..., :ahead])
    if projection is None:  # The cell does not have this form.
        assert type(layer.cell).project_ahead is Cell.project_ahead
        return
    by_whole: list[Tensor] = []
    by_parts: list[Tensor] = []
    for t in range(T):
        now = projection._replace(projected=projection.projected[:, t])
        output, whole = layer.step(inputs_BTI[:, t], whole)
        by_whole += [output, *whole]
        output, apart = layer.step(inputs_BTI[:, t, ahead:], apart, now)
        by_parts += [output, *apart]
    torch.testing.assert_close(by_whole, by_parts)
    towards = [torch.randn_like(part) for part in by_whole]
    weights = (inputs_BTI, *layer.parameters())
    gradients = [torch.autograd.grad(values, weights, towards) for values in (by_whole, by_parts)]
    torch.testing.assert_close(*gradients)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def affine(matrix: list[list[float]], vector: list[float], bias: list[float]) -> list[float]:
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(matrix, bias, strict=True)]


def lstm_equations(cell: Any, x: list[float], h: list[float], c: list[float]) -> list[list[float]]:
    """Gates i, f, g, o, in this order of rows."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in cell.weights.parameters())
    gates = [a + b for a, b in zip(affine(w_x, x, b_x), affine(w_h, h, b_h), strict=True)]
    new_h, new_c = [], []
    for j in range(H):
        i, f, g, o = (gates[j + k * H] for k in range(4))
        new_c.append(sigmoid(f) * c[j] + sigmoid(i) * math.tanh(g))
        new_h.append(sigmoid(o) * math.tanh(new_c[j]))
    return [new_h, new_c]


def gru_equations(cell: Any, x: list[float], h: list[float]) -> list[list[float]]:
    """Gates r, z, n, in this order of rows; the reset gate acts after the matrix, as in cuDNN."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in cell.weights.parameters())
    from_x, from_h = affine(w_x, x, b_x), affine(w_h, h, b_h)
    new_h = []
    for j in range(H):
        r = sigmoid(from_x[j] + from_h[j])
        z = sigmoid(from_x[j + H] + from_h[j + H])
        n = math.tanh(from_x[j + 2 * H] + r * from_h[j + 2 * H])
        new_h.append((1 - z) * n + z * h[j])
    return [new_h]


def gru_cho_equations(cell: Any, x: list[float], h: list[float]) -> list[list[float]]:
    """Cho et al. 2014, equations 5 to 8: the reset gate acts on the state, before the matrix."""
    w_x, w_h, b_x, b_h = (weight.tolist() for weight in cell.weights.parameters())
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


def lstm_normed_equations(cell: Any, x: list[float], h: list[float], c: list[float]) -> list[list[float]]:
    """Ba et al. 2016, equations 20 to 22, gates i, f, g, o."""
    w_x, w_h = (weight.tolist() for weight in cell.weights.parameters())
    norm_x, norm_h, norm_c = cell.input_norm, cell.hidden_norm, cell.cell_norm
    nothing = [0.0] * (4 * H)
    from_x, from_h = normed(affine(w_x, x, nothing), norm_x), normed(affine(w_h, h, nothing), norm_h)
    gates = [a + b for a, b in zip(from_x, from_h, strict=True)]
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    new_c = [sigmoid(f[j]) * c[j] + sigmoid(i[j]) * math.tanh(g[j]) for j in range(H)]
    return [[sigmoid(o[j]) * math.tanh(y) for j, y in enumerate(normed(new_c, norm_c))], new_c]


# The cells below have one map of the inputs, W x + b, whose rows are those of each gate in order.
Matrix = list[list[float]]
HEADS, WIDTH = 4, H // 4  # of the cells with a matrix as memory


def inputs_of(cell: Any, x: list[float], *sizes: int) -> list[list[float]]:
    """Return W x + b, in parts of these sizes."""
    rows = affine(cell.input_layer.weight.tolist(), x, cell.input_layer.bias.tolist())
    assert len(rows) == sum(sizes)
    return [rows[sum(sizes[:j]) : sum(sizes[: j + 1])] for j in range(len(sizes))]


def heads_of(part: list[float]) -> list[list[float]]:
    return [part[WIDTH * head : WIDTH * (head + 1)] for head in range(HEADS)]


def read_by(query: list[float], memory: Matrix) -> list[float]:
    """Return S^T q."""
    return [sum(q * row[j] for q, row in zip(query, memory, strict=True)) for j in range(WIDTH)]


def root_mean_square_normed(vector: list[float]) -> list[float]:
    scale = math.sqrt(sum(x * x for x in vector) / len(vector) + 1e-5)
    return [x / scale for x in vector]


def silu(x: float) -> float:
    return x * sigmoid(x)


def g(x: float) -> float:
    """Feng et al. 2024, appendix B.3."""
    return x + 0.5 if x >= 0 else sigmoid(x)


def min_gru_equations(cell: Any, x: list[float], h: list[float]) -> list[list[float]]:
    """Feng et al. 2024, section 3.1, with g of appendix B.3."""
    z, n = inputs_of(cell, x, H, H)
    return [[(1 - sigmoid(z[j])) * h[j] + sigmoid(z[j]) * g(n[j]) for j in range(H)]]


def min_lstm_equations(cell: Any, x: list[float], h: list[float]) -> list[list[float]]:
    """Feng et al. 2024, section 3.2: the gates are normalised by their sum; g of appendix B.3."""
    f, i, n = inputs_of(cell, x, H, H, H)
    total = [sigmoid(f[j]) + sigmoid(i[j]) for j in range(H)]
    return [[sigmoid(f[j]) / total[j] * h[j] + sigmoid(i[j]) / total[j] * g(n[j]) for j in range(H)]]


def linear_attention_equations(cell: Any, x: list[float], h: list[float], memory: list[Matrix]) -> list[Any]:
    """Yang et al. 2023, section 4.1 (S_t = diag(alpha_t) S_(t-1) + k_t^T v_t) and section 4.4, temperature 16."""
    q, k, v, gate, r = (heads_of(part) for part in inputs_of(cell, x, H, H, H, H, H))
    output, after = [], []
    for head in range(HEADS):
        decay = [sigmoid(a) ** (1 / 16) for a in gate[head]]
        after.append(
            [[decay[i] * memory[head][i][j] + k[head][i] * v[head][j] for j in range(WIDTH)] for i in range(WIDTH)]
        )
        read = root_mean_square_normed(read_by(q[head], after[head]))
        output += [silu(r[head][j]) * read[j] for j in range(WIDTH)]
    return [output, after]


def mlstm_equations(cell: Any, x: list[float], h: list[float], *memory: Any) -> list[Any]:
    """Beck et al. 2024, equations 19 to 27, without the stabiliser; it is divided out of C and n (15 to 17)."""
    c, n, m = memory
    *vectors, i, f = inputs_of(cell, x, H, H, H, H, HEADS, HEADS)
    q, k, v, o = map(heads_of, vectors)
    output, new_c, new_n, new_m = [], [], [], []
    for head in range(HEADS):
        key = [component / math.sqrt(WIDTH) for component in k[head]]
        i_t, f_t, scale = math.exp(i[head]), sigmoid(f[head]), math.exp(m[head])
        c_t = [[f_t * scale * c[head][a][b] + i_t * key[a] * v[head][b] for b in range(WIDTH)] for a in range(WIDTH)]
        n_t = [f_t * scale * n[head][a] + i_t * key[a] for a in range(WIDTH)]
        norm = max(abs(sum(a * b for a, b in zip(n_t, q[head], strict=True))), 1.0)
        output += [sigmoid(o[head][j]) * y / norm for j, y in enumerate(read_by(q[head], c_t))]
        new_m.append(max(math.log(f_t) + m[head], i[head]))
        new_c.append([[y / math.exp(new_m[-1]) for y in row] for row in c_t])
        new_n.append([y / math.exp(new_m[-1]) for y in n_t])
    return [output, new_c, new_n, new_m]


def delta_net_equations(cell: Any, x: list[float], h: list[float], memory: list[Matrix]) -> list[Any]:
    """Schlag et al. 2021, section 4.2 (read, mix, write); keys and queries as in Yang et al. 2024, section 3.3."""
    q, k, v, beta = inputs_of(cell, x, H, H, H, HEADS)
    output, after = [], []
    for head in range(HEADS):
        query, key = ([silu(y) for y in heads_of(part)[head]] for part in (q, k))
        query, key = ([y / math.sqrt(sum(z * z for z in vector) + 1e-6) for y in vector] for vector in (query, key))
        old, rate = read_by(key, memory[head]), sigmoid(beta[head])
        new = [rate * heads_of(v)[head][j] + (1 - rate) * old[j] for j in range(WIDTH)]
        after.append([[memory[head][i][j] + key[i] * (new[j] - old[j]) for j in range(WIDTH)] for i in range(WIDTH)])
        output += root_mean_square_normed(read_by(query, after[head]))
    return [output, after]


def selective_ssm_equations(cell: Any, x: list[float], h: list[float], memory: Matrix) -> list[Any]:
    """Gu and Dao 2023, equations 2a and 2b, discretised as in algorithm 2: exp(Delta A), and Delta B."""
    width = len(memory)
    u, delta, b, c = inputs_of(cell, x, H, H, width, width)
    step = [math.log1p(math.exp(y)) for y in delta]
    rates, skip = [[-math.exp(y) for y in row] for row in cell.log_rates.tolist()], cell.skip.tolist()
    after = [
        [math.exp(step[j] * rates[k][j]) * memory[k][j] + step[j] * b[k] * u[j] for j in range(H)] for k in range(width)
    ]
    return [[sum(c[k] * after[k][j] for k in range(width)) + skip[j] * u[j] for j in range(H)], after]


# Of one row: the cell, x and the parts of the state, to the parts of the next state; the first one is the output.
EQUATIONS: dict[str, Callable[..., list[Any]]] = {
    "lstm": lstm_equations,
    "gru": gru_equations,
    "gru_cho": gru_cho_equations,
    "lstm_normed": lstm_normed_equations,
    "min_gru": min_gru_equations,
    "min_lstm": min_lstm_equations,
    "linear_attention": linear_attention_equations,
    "mlstm": mlstm_equations,
    "delta_net": delta_net_equations,
    "selective_ssm": selective_ssm_equations,
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_its_equations(cell: str) -> None:
    layer = make(cell)
    input_BI = torch.randn(B, I, dtype=torch.double)
    assert cell in EQUATIONS, f"{cell}: write its equation into EQUATIONS"
    state = state_of(layer)
    output, after = layer.step(input_BI, state)
    for b in range(B):
        x, *before = input_BI[b].tolist(), *(part[b].tolist() for part in state)
        expected = [torch.tensor(part, dtype=torch.double) for part in EQUATIONS[cell](layer.cell, x, *before)]
        torch.testing.assert_close([part[b] for part in after], expected)
        torch.testing.assert_close(output[b], expected[0])


def test_forget_gates_start_open() -> None:
    torch.manual_seed(1)
    ours = make("lstm", bidirectional=True)
    torch.manual_seed(1)
    plain = nn.LSTM(I, H, bidirectional=True, batch_first=True).double()
    opened: Tensor = torch.zeros(4 * H, dtype=torch.double).index_fill(0, torch.arange(H, 2 * H), 1.0)
    for (name, our), their in zip(ours.named_parameters(), plain.parameters(), strict=True):
        expected = their + opened if "bias_ih" in name else their
        torch.testing.assert_close(our, expected)
    fresh: Any = RecurrentLayer("lstm_normed", I, H).cell
    assert fresh.input_norm.bias.tolist() == [0.0] * H + [1.0] * H + [0.0] * (2 * H)


@pytest.mark.parametrize("cell", CELLS)
def test_zero_state(cell: str) -> None:
    layer = make(cell)
    state = layer.cell.zero_state(3, like=torch.empty(1, dtype=torch.double))
    expected = [((3, *shape), torch.double, False) for shape in layer.cell.state_shapes(H)]
    assert [(part.shape, part.dtype, bool(part.any())) for part in state] == expected
    assert len(state) == len(layer.cell.state_parts)


@pytest.mark.parametrize("cell", CELLS)
def test_a_flat_state_has_its_parts_in_order(cell: str) -> None:
    layer = make(cell)
    numbers = torch.randn(B, layer.cell.state_size(H), dtype=torch.double)
    state = layer.cell.unflatten_state(numbers)
    assert [part.shape[1:] for part in state] == [torch.Size(shape) for shape in layer.cell.state_shapes(H)]
    assert torch.equal(torch.cat([part.flatten(1) for part in state], 1), numbers)


# What checkpoints have called the weights since the first: none may be renamed.
STORED = {
    "lstm": ["weights.weight_ih_l0", "weights.weight_hh_l0", "weights.bias_ih_l0", "weights.bias_hh_l0"],
    "lstm_normed": [
        "weights.weight_ih_l0",
        "weights.weight_hh_l0",
        *(f"{norm}_norms.0.{part}" for norm in ("input", "hidden", "cell") for part in ("weight", "bias")),
    ],
}
STORED |= dict.fromkeys(("gru", "gru_cho"), STORED["lstm"])
ONE_MAP = ["cells.0.input_layer.weight", "cells.0.input_layer.bias"]
STORED |= dict.fromkeys(("min_gru", "min_lstm", "linear_attention", "mlstm", "delta_net"), ONE_MAP)
STORED["selective_ssm"] = ["cells.0.log_rates", "cells.0.skip", *ONE_MAP]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", STORED)
def test_weights_keep_their_names_in_checkpoints(cell: str, bidirectional: bool) -> None:
    layer, other = make(cell, bidirectional), make(cell, bidirectional)
    names = list(STORED[cell])
    if bidirectional:
        names += [name.replace(".0.", ".1.") if ".0." in name else f"{name}_reverse" for name in names]
    state = layer.state_dict()
    assert sorted(state) == sorted(names)
    other.load_state_dict(state)
    for loaded, stored in zip(other.parameters(), layer.parameters(), strict=True):
        assert torch.equal(loaded, stored)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({name: weight for name, weight in state.items() if name != names[-1]})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(state | {"weights.weight_xh_l0": torch.zeros(1)})
