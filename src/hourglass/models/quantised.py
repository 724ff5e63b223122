"""A decoder in 8-bit integers, for search on a CPU: quantised products, the cells made of them, and the conversion.

Shapes: N rows, K inputs, M outputs of a product; I input, H hidden, P projected input of a cell.

    W[m, k] ~ w[m] Wq[m, k]      w[m] = max_k |W[m, k]| / 127     Wq from -127 to 127
    x[n, k] ~ s[n] xq[n, k]      s[n] = max_k |x[n, k]| / 63      xq from -63 to 63
    (W x)[n, m] ~ s[n] w[m] sum over k of Wq[m, k] xq[n, k]

Weights are rounded once, with a scale for each output; inputs in each call, with a scale for each row, so that a row
does not depend on the rows beside it. (Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", without zero points; dynamic scales as in ONNX's DynamicQuantizeLinear.)

Inputs have 7 bits, as in torch's and torchao's `reduce_range`. Without VNNI, x86 CPUs add two products of a uint8 and
an int8 in 16 bits. 8 bits on both sides overflow there and 2 * 127 * 127 does not, so that all CPUs give the same sums.

`torch.ops.onednn.qlinear_pointwise` computes the sums. It takes plain int8 and uint8 tensors, and is what torch.compile
makes of quantised linear layers on x86. docs/speed.md says why no other.
"""

import copy
from typing import Protocol

import torch
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.cells import (
    GRU,
    LSTM,
    Cell,
    CellState,
    ChoGRU,
    GatedCell,
    NormedLSTM,
    PartialProjection,
    gru_state,
    lstm_state,
)
from hourglass.models.recurrent import RecurrentLayer
from hourglass.models.seq2seq import Seq2Seq

# The largest absolute values of rounded weights and inputs.
WEIGHT_LEVELS, INPUT_LEVELS = 127, 63
# The operator takes unsigned inputs: this much is added to each, and its share of the sums is taken off again.
SHIFT = 64
# The least scale, for rows of zeros.
SMALLEST_SCALE = 1e-30


class QuantisedLinear(nn.Module):
    """W x + b with weights and inputs rounded as the file says, and b in float32; for inference on a CPU.

    Args:
        weight: W [M, K].
        bias: b [M], or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        weight = weight.detach().float()
        self.scales = (weight.abs().amax(1) / WEIGHT_LEVELS).clamp(min=SMALLEST_SCALE)  # [M]
        rounded = (weight / self.scales.unsqueeze(1)).round().to(torch.int8)
        self.offset = -SHIFT * self.scales * rounded.sum(1)  # [M], takes off the share of the shift
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zero_points = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = None if bias is None else bias.detach().float().clone()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs [..., M] of inputs [..., K]."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        rounded, scales = round_rows(rows)
        outputs = torch.ops.onednn.qlinear_pointwise(
            *(rounded, 1.0, 0, self.packed, self.scales, self.zero_points, self.offset),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        outputs.mul_(scales)
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], -1)


def round_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded inputs [N, K] of rows [N, K], as uint8 with SHIFT added, and their scales [N, 1]."""
    scales = rows.abs().amax(1, keepdim=True).div_(INPUT_LEVELS).clamp_(min=SMALLEST_SCALE)
    return (rows / scales).round_().add_(SHIFT).to(torch.uint8), scales


class QuantisedCell(Cell):
    """Base of the quantised forms of cells, with quantised W and U; for the equations see the cell itself.

    The inputs that are known before a step (the embedding of the last piece) have a product of their own: it is
    computed once for all rows with the same piece, and their range is another than that of the rest.

    Args:
        cell: the cell, whose weights are copied.
        ahead: I', how many of the first inputs are known before a step.
    """

    def __init__(self, cell: GatedCell, ahead: int):
        super().__init__(cell.input_size, cell.hidden_size)
        weight, recurrent_weight, *biases = cell.matrices
        bias, recurrent_bias = biases or (None, None)
        self.ahead = ahead
        self.first = QuantisedLinear(weight[:, :ahead], bias)
        self.rest = QuantisedLinear(weight[:, ahead:], None) if ahead < cell.input_size else None
        self.recurrence = self._quantise_recurrence(recurrent_weight, recurrent_bias)

    def _quantise_recurrence(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        return QuantisedLinear(weight, bias)

    def bound_state(self, state: CellState) -> CellState:
        """See `GatedCell.bound_state`."""
        return (state[0].tanh(), *state[1:])

    def project(self, inputs: Tensor) -> Tensor:
        """See `Cell.project`."""
        return self.complete(self.project_ahead(inputs[..., : self.ahead]), inputs[..., self.ahead :])

    def project_ahead(self, inputs: Tensor) -> PartialProjection:
        """See `Cell.project_ahead`; `inputs` are the first I' of the constructor, no others."""
        return PartialProjection(self.first(inputs))

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """See `Cell.complete`; the other weights are those of this cell, not of `ahead`."""
        return ahead.projected if self.rest is None else ahead.projected + self.rest(inputs)


class QuantisedLSTM(QuantisedCell):
    """The quantised form of `LSTM`."""

    name = LSTM.name
    state_parts = LSTM.state_parts

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        return lstm_state(self.recurrence(state[0]).add_(projected), state[1])


class QuantisedGRU(QuantisedCell):
    """The quantised form of `GRU`."""

    name = GRU.name

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        return gru_state(projected, self.recurrence(state[0]), state[0])


class QuantisedChoGRU(QuantisedCell):
    """The quantised form of `ChoGRU`."""

    name = ChoGRU.name

    def _quantise_recurrence(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        assert bias is not None
        gates = 2 * self.hidden_size
        parts = zip(weight.tensor_split([gates]), bias.tensor_split([gates]), strict=True)
        return nn.ModuleList(QuantisedLinear(*part) for part in parts)

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        h, gates = state[0], 2 * self.hidden_size
        assert isinstance(self.recurrence, nn.ModuleList)
        of_gates, of_candidate = self.recurrence
        r, z = (projected[:, :gates] + of_gates(h)).sigmoid().chunk(2, -1)
        n = (projected[:, gates:] + of_candidate(r * h)).tanh()
        return ((1 - z) * n + z * h,)


class QuantisedNormedLSTM(QuantisedCell):
    """The quantised form of `NormedLSTM`; its norms stay in float32."""

    name = NormedLSTM.name
    state_parts = NormedLSTM.state_parts

    def __init__(self, cell: NormedLSTM, ahead: int):
        super().__init__(cell, ahead)
        self.input_norm, self.hidden_norm, self.cell_norm = cell.input_norm, cell.hidden_norm, cell.cell_norm

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """See `Cell.complete`; the norm needs all of W x."""
        return self.input_norm(super().complete(ahead, inputs))

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        i, f, g, o = (projected + self.hidden_norm(self.recurrence(state[0]))).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.cell_norm(c).tanh(), c


class _Form(Protocol):
    def __call__(self, cell: Cell, ahead: int) -> QuantisedCell: ...


# By the class of a cell its quantised form. A plugin may add that of its own cell.
QUANTISED_CELLS: dict[type[Cell], _Form] = {
    LSTM: QuantisedLSTM,  # type: ignore[dict-item]
    GRU: QuantisedGRU,  # type: ignore[dict-item]
    ChoGRU: QuantisedChoGRU,  # type: ignore[dict-item]
    NormedLSTM: QuantisedNormedLSTM,  # type: ignore[dict-item]
}


def check_quantised_form(cell: type[Cell]) -> None:
    """Check that a decoder with this cell can be quantised.

    Raises:
        UserError: the cell has no quantised form.
    """
    if cell not in QUANTISED_CELLS:
        forms = ", ".join(each.name for each in QUANTISED_CELLS)
        raise UserError(
            f"search.precision=int8: decoder.cell={cell.name} has no quantised form, as {forms} have: set "
            "search.precision=32 or search.precision=bf16"
        )


def quantise_decoder(model: Seq2Seq) -> Seq2Seq:
    """Return a copy of a model whose decoder, attention and output layer are quantised; the encoder is that of `model`.

    The encoder, and with it the neck, stays in float32, as do the map of the summary to the first state, the copy
    switch, the products of queries, keys and states, and all nonlinearities. So do weights of an attention that are in
    no nn.Linear.

    Args:
        model: in float32, in evaluation mode, on the CPU.

    Raises:
        UserError: the decoder's cell has no quantised form.
    """
    check_quantised_form(type(model.decoder.cell))
    # Of the encoder nothing is copied.
    copied = copy.deepcopy(model, {id(model.encoder): model.encoder})
    decoder = copied.decoder
    for depth, layer in enumerate(decoder.layers):
        assert isinstance(layer, RecurrentLayer)
        ahead = decoder.settings.embedding_size if depth == 0 else layer.cell.input_size
        layer.cells = nn.ModuleList([QUANTISED_CELLS[type(layer.cell)](layer.cell, ahead)])
    for parent in list(decoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child not in (decoder.bridge, decoder.switch):
                setattr(parent, name, QuantisedLinear(child.weight, child.bias))
    copied.output = QuantisedLinear(copied.output.weight, copied.output.bias)  # type: ignore[assignment]
    return copied.eval()
