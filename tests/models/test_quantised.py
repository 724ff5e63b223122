"""Quantised products against the same quantisation in float64; quantised cells against their cells.

Shapes: N rows, K inputs, M outputs; B batch, T time, I input, H hidden.
"""

from typing import Any

import pytest
import torch
from helpers import tiny_model
from torch import Tensor, nn

import hourglass.models.quantised as quantised_module
from hourglass.errors import UserError
from hourglass.models.cells import CELLS, LSTM, Cell, GatedCell
from hourglass.models.quantised import (
    INPUT_LEVELS,
    QUANTISED_CELLS,
    SHIFT,
    WEIGHT_LEVELS,
    QuantisedCell,
    QuantisedLinear,
    check_quantised_form,
    quantise_decoder,
    round_rows,
)
from hourglass.models.recurrent import RecurrentLayer

SHAPES = [(1, 1, 1), (3, 5, 2), (7, 256, 33), (2, 1031, 300), (1, 64, 1000)]  # N, K, M


def plain_product(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """Return W x + b by the equations of models/quantised.py, one row and one output at a time, in float64."""
    rows = []
    for x in inputs:
        # In float32, as the scales decide which way a value is rounded.
        s = float(x.abs().max() / 63)
        row = []
        for m, w_row in enumerate(weight):
            w = float(w_row.abs().max() / 127)
            sum_ = (torch.round(w_row / w).double() * torch.round(x / s).double()).sum()
            row.append(s * w * float(sum_) + (0.0 if bias is None else float(bias[m])))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.double)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
def test_a_product_is_that_of_its_quantisation(n: int, k: int, m: int, biased: bool) -> None:
    linear = nn.Linear(k, m, bias=biased)
    inputs = torch.randn(n, k) * torch.logspace(-3, 3, n).unsqueeze(1)  # Each row has a range of its own.
    with torch.no_grad():
        expected = plain_product(linear.weight, linear.bias, inputs)
    outputs = QuantisedLinear(linear.weight, linear.bias)(inputs)
    # The sums are exact; what is left is float32's rounding of sums that are shifted by SHIFT * sum of a row of W.
    largest = expected.abs().amax(1, keepdim=True)
    assert ((outputs - expected).abs() <= 1e-5 * largest + 1e-5).all()


def test_the_largest_sums_do_not_overflow() -> None:
    """Without VNNI, a CPU adds two products in 16 bits, where 2 * 127 * 127 is the most that 7-bit inputs can make."""
    k = 512
    weight, inputs = torch.ones(3, k), torch.ones(2, k)
    weight[1], inputs[1] = -1, -1
    weight[2, ::2] = -1
    outputs = QuantisedLinear(weight, None)(inputs)
    torch.testing.assert_close(outputs, inputs @ weight.T)


@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
def test_the_error_of_a_product_is_bounded(n: int, k: int, m: int) -> None:
    """Rounding moves a weight by at most w/2 and an input by at most s/2, so that a sum of K products moves by at most
    sum |W| s/2 + sum |x| w/2 + K s w/4."""
    linear, inputs = nn.Linear(k, m), torch.randn(n, k)
    with torch.no_grad():
        exact = linear.double()(inputs.double())
    quantised = QuantisedLinear(linear.weight, linear.bias)(inputs)
    s = inputs.abs().amax(1, keepdim=True) / INPUT_LEVELS  # [N, 1]
    w = linear.weight.abs().amax(1) / WEIGHT_LEVELS  # [M]
    bound = linear.weight.abs().sum(1) * s / 2 + inputs.abs().sum(1, keepdim=True) * w / 2 + k * s * w / 4
    error = (quantised - exact).abs()
    assert (error <= bound + 1e-5).all()
    assert error.max() > 0


def test_a_row_does_not_depend_on_the_others() -> None:
    linear, inputs = nn.Linear(40, 30), torch.randn(6, 40)
    quantised = QuantisedLinear(linear.weight, linear.bias)
    together = quantised(inputs)
    for n in range(len(inputs)):
        assert quantised(inputs[n : n + 1]).equal(together[n : n + 1])
        assert quantised(1000 * inputs)[n].equal(quantised(1000 * inputs[n]))
    assert quantised(inputs.view(2, 3, 40)).equal(together.view(2, 3, 30))


def test_inputs_are_rounded_to_their_range() -> None:
    rounded, scales = round_rows(torch.tensor([[-6.3, 0.0, 0.1, 0.04, 0.06], [0.0, 0.0, 0.0, 0.0, 0.0]]))
    assert rounded.int().tolist() == [[SHIFT - 63, SHIFT, SHIFT + 1, SHIFT, SHIFT + 1], [SHIFT] * 5]
    assert scales[0].item() == pytest.approx(0.1)


def test_zeros_and_nan_stay_what_they_are() -> None:
    quantised = QuantisedLinear(torch.randn(4, 3), torch.arange(4.0))
    assert quantised(torch.zeros(2, 3)).equal(torch.arange(4.0).expand(2, -1))
    assert quantised(torch.tensor([[1.0, float("nan"), 2.0]])).isnan().all()
    assert QuantisedLinear(torch.zeros(2, 3), None)(torch.ones(1, 3)).equal(torch.zeros(1, 2))


# Their gates read the inputs alone: the recurrence itself has no product to quantise.
NOT_QUANTISED = ("min_gru", "min_lstm", "linear_attention", "mlstm", "delta_net", "selective_ssm")


def test_every_cell_has_a_quantised_form_or_is_refused() -> None:
    """A new cell needs one, or an entry above with the reason."""
    assert set(CELLS.values()) == QUANTISED_CELLS.keys() | {CELLS[name] for name in NOT_QUANTISED}
    for name in NOT_QUANTISED:
        with pytest.raises(UserError, match=rf"decoder\.cell={name} has no quantised form.*set search\.precision=32"):
            check_quantised_form(CELLS[name])


def quantised_cell(name: str, inputs: int, hidden: int, ahead: int) -> tuple[GatedCell, QuantisedCell]:
    cell = CELLS[name](inputs, hidden)
    assert isinstance(cell, GatedCell)
    for norm in cell.modules():
        if isinstance(norm, nn.LayerNorm):  # No weight at a special value.
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, 0.0, 0.2)
    return cell, QUANTISED_CELLS[type(cell)](cell, ahead)


class ExactLinear(nn.Linear):
    """In place of `QuantisedLinear`: a product that rounds nothing."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight.shape[1], weight.shape[0], bias is not None)
        self.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))


@pytest.mark.parametrize("ahead", [3, 5])
@pytest.mark.parametrize("name", [cell.name for cell in QUANTISED_CELLS])
@pytest.mark.parametrize("rounds", [True, False])
@torch.no_grad()
def test_a_quantised_cell_is_its_cell(name: str, ahead: int, rounds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal but for rounding; in one step, with inputs together or in two parts, and over a sequence."""
    hidden, mean, most = 64, 0.02, 0.2
    if not rounds:
        monkeypatch.setattr(quantised_module, "QuantisedLinear", ExactLinear)
        mean = most = 2e-6
    cell, quantised = quantised_cell(name, 5, hidden, ahead)
    inputs = torch.randn(4, 6, 5)
    state = tuple(torch.randn(4, *shape).tanh() for shape in cell.state_shapes(hidden))
    expected = [*cell.step(inputs[:, 0], state)[1], cell.run(cell.project(inputs), state)[0]]
    known = quantised.project_ahead(inputs[:, 0, :ahead])
    parts = quantised.step(inputs[:, 0, ahead:], state, known)[1]
    results = [*quantised.step(inputs[:, 0], state)[1], quantised.run(quantised.project(inputs), state)[0]]
    for part, result in zip(parts, results, strict=False):
        assert part.equal(result)
    for value, result in zip(expected, results, strict=True):
        error = (value - result).abs()
        assert error.mean() < mean
        assert error.max() < most
        assert (error.max() > 1e-4) == rounds
    numbers = torch.randn(4, cell.state_size(hidden))
    bounds = (each.bound_state(each.unflatten_state(numbers)) for each in (cell, quantised))
    assert all(one.equal(other) for one, other in zip(*bounds, strict=True))


@pytest.mark.parametrize(
    "changes", [{}, {"decoder.layers": 2, "decoder.context_to_all": True, "decoder.tie": "output"}]
)
def test_a_copy_is_quantised_and_its_model_is_not(changes: dict[str, Any]) -> None:
    model = tiny_model("bahdanau", changes).float()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    copied = quantise_decoder(model)
    assert copied.encoder is model.encoder
    assert not any(isinstance(module, QuantisedLinear | QuantisedCell) for module in model.modules())
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())
    kept = {name for name, module in copied.decoder.named_modules() if isinstance(module, nn.Linear | GatedCell)}
    assert kept == {"bridge"}
    assert copied.decoder.bridge is not model.decoder.bridge
    assert isinstance(copied.output, QuantisedLinear)
    assert isinstance(copied.decoder.layers[0], RecurrentLayer)


def test_a_cell_without_a_quantised_form_is_refused() -> None:
    class Peephole(LSTM):
        name = "peephole"

    with pytest.raises(UserError, match=r"^search\.precision=int8: decoder\.cell=peephole has no quantised form"):
        check_quantised_form(Peephole)
    for cell in QUANTISED_CELLS:
        assert issubclass(cell, Cell)
        check_quantised_form(cell)
