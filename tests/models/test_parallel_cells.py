"""Cells with a form for whole sequences: against the loop of their steps, at any length, padding and gate value.

Shapes: B batch, T time, I input, H hidden. A step is compared with the published equations in test_recurrent.py.
"""

import math
import re
from typing import Any

import pytest
import torch
from helpers import ROOT
from torch import Tensor, nn

from hourglass.models.cells import CELLS, Cell, CellState, GatedCell
from hourglass.models.matrix_cells import MLSTM, LinearAttention
from hourglass.models.minimal_cells import positive
from hourglass.models.parallel_cells import MatrixCell, ProjectedCell, last_output, linear_scan
from hourglass.models.recurrent import RecurrentLayer
from hourglass.models.seq2seq import draw_evenly

PARALLEL = [name for name, kind in CELLS.items() if issubclass(kind, ProjectedCell)]
MATRICES = [name for name in PARALLEL if issubclass(CELLS[name], MatrixCell)]
B, I, H = 3, 5, 8  # noqa: E741
CHUNK = MatrixCell.chunk


def make(name: str) -> ProjectedCell:
    cell = RecurrentLayer(name, I, H).double().cell
    assert isinstance(cell, ProjectedCell)
    return cell


def random_state(cell: Cell, rows: int = B) -> CellState:
    """Return a state as decoder.start=dense makes it."""
    return cell.bound_state(cell.unflatten_state(torch.randn(rows, cell.state_size(H), dtype=torch.double)))


def run_and_gradients(
    cell: Cell, projected: Tensor, state: CellState, mask: Tensor | None, *, loop: bool
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Return outputs (0 at padding) and final state, and the gradients of a fixed random sum of all of them."""
    inputs = [each.detach().clone().requires_grad_() for each in (projected, *state)]
    run = Cell.run if loop else type(cell).run
    outputs, final = run(cell, inputs[0], tuple(inputs[1:]), mask)
    if mask is not None:
        outputs = outputs.where(mask.unsqueeze(-1), 0.0)
    values = [outputs, *final]
    generator = torch.Generator().manual_seed(1)
    towards = [torch.randn(each.shape, generator=generator, dtype=torch.double).to(each.dtype) for each in values]
    weights = (*inputs, *(weight for name, weight in cell.named_parameters() if "input_layer" not in name))
    gradients = torch.autograd.grad(values, weights, towards, materialize_grads=True)
    return values, gradients


# Padding at the end, at the start, in between, everywhere in one row; a mask may be anything.
@pytest.mark.parametrize("padding", ["none", "some", "all of a row"])
@pytest.mark.parametrize("steps", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("name", PARALLEL)
def test_a_whole_sequence_is_its_steps(name: str, steps: int, padding: str) -> None:
    """Outputs, final states and all gradients, from a state that is not zero."""
    cell = make(name)
    inputs = 2 * torch.randn(B, steps, I, dtype=torch.double)
    mask = None if padding == "none" else torch.rand(B, steps) < 0.6
    if padding == "all of a row":
        assert mask is not None
        mask[1] = False
    with torch.no_grad():
        projected, state = cell.project(inputs), random_state(cell)
    whole, loop = (run_and_gradients(cell, projected, state, mask, loop=each) for each in (False, True))
    torch.testing.assert_close(whole, loop, rtol=1e-9, atol=1e-10)
    if padding == "all of a row":
        for part, start in zip(whole[0][1:], state, strict=True):
            assert torch.equal(part[1], start[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [30.0, 1000.0])
@pytest.mark.parametrize("name", PARALLEL)
def test_extreme_gates_give_numbers(name: str, size: float, dtype: torch.dtype) -> None:
    """Gates that are open or shut but for rounding, at random; keys and values stay of size 1."""
    cell = make(name).to(dtype)
    sizes = cell.projected_sizes(H)
    gates = {"linear_attention": (3, 4), "mlstm": (3, 4, 5), "delta_net": (3,), "selective_ssm": (1,)}
    projected = list(torch.randn(B, 2 * CHUNK + 3, sum(sizes), dtype=dtype).split(sizes, -1))
    for gate in gates.get(name, (0, 1)):
        projected[gate] = size * projected[gate]
    # At first a run of gates with one sign, each as far from 0 as any.
    projected[-1][:, :CHUNK] = -projected[-1][:, :CHUNK].abs()
    if name == "linear_attention":  # Where the logarithm of the decay is bounded, see below.
        projected[3] = projected[3].clamp(min=LinearAttention.least_log_a * LinearAttention.temperature)
    state = tuple(part.to(dtype) for part in random_state(cell))
    mask = torch.rand(B, 2 * CHUNK + 3) < 0.8
    whole, loop = (run_and_gradients(cell, torch.cat(projected, -1), state, mask, loop=each) for each in (False, True))
    assert all(each.isfinite().all() for part in (*whole, *loop) for each in part)
    if dtype == torch.float64:
        torch.testing.assert_close(whole, loop, rtol=1e-6, atol=1e-6)


def test_a_shut_decay_of_linear_attention_is_bounded() -> None:
    """A chunk of the least decays is a factor that float32 has; the memory is gone all the same."""
    cell = make("linear_attention").float()
    projected = torch.randn(B, 3 * CHUNK, 5 * H)
    projected[..., 3 * H : 4 * H] = -1e6
    outputs, (_, memory) = cell.run(projected, (torch.zeros(B, H), torch.full((B, 4, 2, 2), 1e3)))
    assert outputs.isfinite().all()
    assert math.exp(-LinearAttention.least_log_a * CHUNK) < torch.finfo(torch.float32).max
    _, k, v, *_ = projected[:, -1].split(H, -1)
    last = k.view(B, 4, 2, 1) * v.view(B, 4, 1, 2)
    torch.testing.assert_close(memory, last, rtol=0, atol=0.1)


@pytest.mark.parametrize("name", PARALLEL)
def test_autocast_and_bfloat16_compute_in_float32(name: str) -> None:
    """Inputs are rounded to bfloat16, sums over steps are not; outputs and states have the type of the inputs."""
    cell = make(name).float()
    projected = torch.randn(B, 4 * CHUNK, sum(cell.projected_sizes(H))).bfloat16()
    state = tuple(part.bfloat16() for part in random_state(cell))
    wide, final = cell.run(projected.float(), tuple(part.float() for part in state))
    with torch.autocast("cpu", torch.bfloat16):
        outputs, after = cell.run(projected, state)
    assert {outputs.dtype, *(part.dtype for part in after)} == {torch.bfloat16}
    torch.testing.assert_close(outputs, wide.bfloat16())
    torch.testing.assert_close(after, tuple(part.bfloat16() for part in final))


@pytest.mark.parametrize("name", MATRICES)
def test_steps_in_bfloat16_keep_the_memory_in_float32(name: str) -> None:
    cell = make(name).bfloat16()
    output, (h, *memory) = cell.step(torch.randn(B, I).bfloat16(), cell.zero_state(B, torch.empty(1).bfloat16()))
    assert (output.dtype, h.dtype) == (torch.bfloat16, torch.bfloat16)
    assert {part.dtype for part in memory} == {torch.float32}


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 9, 33])
def test_a_scan_is_its_recurrence(steps: int) -> None:
    """With decays of 0 and 1 among them."""
    decay, added = torch.rand(2, B, steps, H, dtype=torch.double)
    decay[torch.rand_like(decay) < 0.2], decay[torch.rand_like(decay) < 0.2] = 0.0, 1.0
    start = torch.randn(B, H, dtype=torch.double)
    state, states = start, []
    for t in range(steps):
        state = decay[:, t] * state + added[:, t]
        states.append(state)
    torch.testing.assert_close(linear_scan(decay, added, start), torch.stack(states, 1))
    inputs = [each[:1, ..., :2].clone().requires_grad_() for each in (decay, added, start)]
    assert torch.autograd.gradcheck(linear_scan, inputs)


def test_the_last_output_is_the_last_before_padding() -> None:
    outputs, start = torch.arange(24.0).view(3, 4, 2), torch.full((3, 2), -1.0)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]).bool()
    assert last_output(outputs, start, None).equal(outputs[:, -1])
    assert last_output(outputs, start, mask).equal(torch.stack([outputs[0, 1], start[1], outputs[2, 3]]))


@pytest.mark.parametrize("name", PARALLEL)
def test_a_query_before_the_next_step_is_the_last_output(name: str) -> None:
    cell = make(name)
    output, state = cell.step(torch.randn(B, I, dtype=torch.double), random_state(cell))
    assert cell.query(state).equal(output)
    outputs, final = cell.run(torch.randn(B, 5, sum(cell.projected_sizes(H)), dtype=torch.double), state)
    assert cell.query(final).equal(outputs[:, -1])


def test_bounded_states_are_states_of_the_cell() -> None:
    """Numbers of a linear map, of any size: means of positive values for the minimal cells, a small m for the mLSTM."""
    numbers = torch.tensor([[-50.0, -0.5, 0.0, 50.0]])
    assert positive(numbers).tolist() == [[pytest.approx(0, abs=1e-20), pytest.approx(0.37754067), 0.5, 50.5]]
    for name in ("min_gru", "min_lstm"):
        (h,) = CELLS[name](I, 4).bound_state((numbers,))
        assert h.equal(positive(numbers))
    cell = CELLS["mlstm"](I, H)
    numbers = 1000 * torch.randn(B, cell.state_size(H))
    *others, m = cell.bound_state(cell.unflatten_state(numbers))
    assert m.abs().max() <= 1
    assert all(one.equal(other) for one, other in zip(others, cell.unflatten_state(numbers), strict=False))


@pytest.mark.parametrize("drawn", [False, True])
def test_forget_gates_start_open(drawn: bool) -> None:
    """Also after all weights were drawn by init_range."""
    width = 1e-9

    def fresh(name: str) -> Any:
        cell = CELLS[name](I, H)
        if drawn:
            draw_evenly(nn.ModuleList([cell]), width)  # type: ignore[arg-type]
        elif isinstance(cell, ProjectedCell):
            bound = 1 / math.sqrt(I)
            return cell, bound
        return cell, width

    cell, bound = fresh("min_lstm")
    assert ((cell.input_layer.bias[:H] - 1).abs() <= bound).all()
    assert (cell.input_layer.bias[H:].abs() <= bound).all()
    cell, bound = fresh("mlstm")
    assert ((cell.input_layer.bias[-4:] - torch.tensor([3.0, 4.0, 5.0, 6.0])).abs() <= bound + 1e-6).all()
    assert (cell.input_layer.bias[:-4].abs() <= bound).all()
    cell, _ = fresh("selective_ssm")
    torch.testing.assert_close(-cell.log_rates.exp(), -torch.arange(1.0, 17).unsqueeze(1).expand(16, H))
    steps = nn.functional.softplus(cell.input_layer.bias[H : 2 * H])
    assert steps[0].item() == pytest.approx(0.001, rel=1e-3)
    assert steps[-1].item() == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(steps[1:] / steps[:-1], torch.full((H - 1,), 100 ** (1 / (H - 1))), rtol=1e-3, atol=0)
    assert cell.skip.eq(1).all()


def test_the_sizes_of_states_are_those_of_the_docs() -> None:
    """In numbers, for H = 256: the table of docs/cells.md has every cell, those of the list by hand among them."""
    sizes = {name: cell.state_size(256) for name, cell in CELLS.items()}
    by_hand = {"lstm": 512, "gru": 256, "min_lstm": 256, "delta_net": 16640, "mlstm": 16900, "selective_ssm": 4352}
    assert by_hand.items() <= sizes.items()
    rows = re.findall(r"^\| `(\w+)` \|.*?(\d+) \|$", (ROOT / "docs" / "cells.md").read_text(), re.MULTILINE)
    assert {name: int(size) for name, size in rows} == sizes
    assert all(not issubclass(CELLS[name], GatedCell) for name in PARALLEL)


def test_a_stabiliser_moves_no_output() -> None:
    """C, n and m stand for C exp(m) and n exp(m): the same memory by another m gives the same outputs."""
    cell = make("mlstm")
    assert isinstance(cell, MLSTM)
    projected = torch.randn(B, 2 * CHUNK, sum(cell.projected_sizes(H)), dtype=torch.double)
    h, c, n, m = random_state(cell)
    shift = torch.randn(B, 4, dtype=torch.double)
    other = (h, c * shift.exp()[..., None, None], n * shift.exp()[..., None], m - shift)
    torch.testing.assert_close(cell.run(projected, (h, c, n, m))[0], cell.run(projected, other)[0])
