"""One recurrent layer, run over a whole padded sequence or one step at a time, with the same parameters.

Shapes: B batch, T time, I input, H state of one direction, N rows of a single step.
"""

import warnings
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cell = Literal["lstm", "gru", "gru_cho", "lstm_normed"]


CellState = tuple[Tensor, ...]  # LSTM: (h, c); GRU: (h,); each [N, H]


# Cells without a kernel of the library's, which are run step by step.
LOOPED = ("gru_cho", "lstm_normed")


# An encoder's weights get a column at every call, and are then packed anew for cuDNN: known, and some microseconds.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")


# Added to gates at padding. Sigmoid of it is exactly 1, and of its negative exactly 0, in every float format.
SHUT = 1e4


class Known(NamedTuple):
    """What a step's gates take of those inputs that were known before the loop, and the weights of the others."""

    gates: Tensor  # [N, gates * H]
    rest: Tensor  # [gates * H, I less the inputs that were known]


def parts_of(cell: Cell) -> int:
    """Return how many vectors a state has."""
    return 2 if cell.startswith("lstm") else 1


class RecurrentLayer(nn.Module):
    """A recurrent layer, in one direction or both.

    - lstm: Hochreiter and Schmidhuber 1997, with forget gates.
    - gru: as in cuDNN, n = tanh(W x + r * (U h)).
    - gru_cho: as published, n = tanh(W x + U (r * h)) (Cho et al. 2014, equation 8; Bahdanau et al. 2014, appendix
      A.1.1, whose update gate is one minus this one).
    - lstm_normed: gates of LN(W x) + LN(U h), and h = o * tanh(LN(c)) (Ba et al. 2016, equations 20 to 22; the bias is
      that of the two norms).

    Padding is made transparent rather than packed away: one more input feature, 1 at padding, holds the gates so
    that the state passes through unchanged. The result is that of packing, by an unpacked call of the library's
    kernel, which is 3 times as fast as the packed one on a CPU. The last two cells have no kernel and are run step
    by step, several times slower.
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, bidirectional: bool = False):
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.parts = parts_of(cell)
        library = nn.LSTM if self.parts == 2 else nn.GRU
        biased = cell != "lstm_normed"
        self.weights = library(input_size, hidden_size, bias=biased, bidirectional=bidirectional, batch_first=True)
        directions = 0 if biased else 2 if bidirectional else 1
        self.input_norms = nn.ModuleList(nn.LayerNorm(4 * hidden_size) for _ in range(directions))
        self.hidden_norms = nn.ModuleList(nn.LayerNorm(4 * hidden_size) for _ in range(directions))
        self.cell_norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(directions))
        self.open_forget_gates()

    def open_forget_gates(self) -> None:
        """Add 1 to their biases, to begin with (Gers et al. 2000; Jozefowicz et al. 2015, section 2.2)."""
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        with torch.no_grad():
            for name, bias in self.weights.named_parameters():
                if self.cell == "lstm" and name.startswith("bias_ih"):
                    bias[forget] += 1.0
            for norm in self.input_norms:
                assert isinstance(norm, nn.LayerNorm)
                norm.bias[forget] += 1.0

    def zero_state(self, rows: int, like: Tensor) -> CellState:
        """Return the zero state for `rows` rows, of the type and on the device of `like`."""
        return tuple(like.new_zeros(rows, self.hidden_size) for _ in range(self.parts))

    def know(self, inputs: Tensor) -> Known:
        """Project inputs [..., I'] of all steps at once, the first I' of the layer's I: gates [..., gates * H]."""
        first, *others = self.weights.all_weights[0]
        known, rest = first.split([inputs.shape[-1], first.shape[1] - inputs.shape[-1]], 1)
        return Known(F.linear(inputs, known, None if self.cell == "lstm_normed" else others[1]), rest)

    def step(self, inputs: Tensor, state: CellState, known: Known | None = None) -> CellState:
        """Advance one step.

        Args:
            inputs: [N, I], or those of them that are not `known`.
            state: [N, H] tensors.
            known: what the gates take of the first inputs; the result is that of `step` with all of them.

        Returns:
            the next state, whose first tensor is h.
        """
        if known is not None:
            gates = torch.addmm(known.gates, inputs, known.rest.mT)
            return self._advance(self.input_norms[0](gates) if self.cell == "lstm_normed" else gates, state, 0)
        if self.cell in LOOPED:
            return self._advance(self._project(inputs, 0), state, 0)
        weights = self.weights.all_weights[0]
        if self.cell == "lstm":
            return torch.lstm_cell(inputs, state, *weights)
        return (torch.gru_cell(inputs, state[0], *weights),)

    def forward(self, inputs: Tensor, state: CellState) -> Tensor:
        """Run from `state` over inputs [B, T, I] without padding that matters (a decoder's): outputs [B, T, H]."""
        if self.cell in LOOPED:
            return self._loop(inputs, state, 0)[0]
        outputs, *_ = self._run(inputs, tuple(part.unsqueeze(0) for part in state), self._flat_weights())
        return outputs

    def encode(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run from zero over padded inputs.

        Args:
            inputs: [B, T, I], padded on the right.
            mask: [B, T], True at real positions.

        Returns:
            outputs [B, T, H] (two directions: [B, T, 2H]), arbitrary at padding; and the final state of every
            direction, each at its own end of the sentence, side by side: [B, directions * parts * H].
        """
        directions = 2 if self.bidirectional else 1
        if self.cell in LOOPED:
            start = self.zero_state(len(inputs), inputs)
            ways = [self._loop(inputs, start, direction, mask) for direction in range(directions)]
            last_states = [torch.cat(part, -1) for part in zip(*(state for _, state in ways), strict=True)]
            return torch.cat([way for way, _ in ways], -1), torch.cat(last_states, -1)
        zero = inputs.new_zeros(directions, len(inputs), self.hidden_size)
        padding = (~mask).unsqueeze(-1).to(inputs.dtype)
        outputs, *final = self._run(
            torch.cat([inputs, padding], -1), (zero,) * self.parts, self._flat_weights(holding=True)
        )
        if self.cell == "lstm":
            # The cell is held through the padding, but h = o * tanh(c) is not, as o still moves: take h at the end.
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, self.hidden_size)
            forward_end = outputs[..., : self.hidden_size].gather(1, last).squeeze(1)
            ends = [forward_end, *final[0][1:]]  # The backward direction ends at position 0, never padding.
            final = [torch.stack(ends), *final[1:]]
        return outputs, torch.cat([part.transpose(0, 1).flatten(1) for part in final], -1)

    def _flat_weights(self, holding: bool = False) -> list[Tensor]:
        """The kernel's weights; with `holding`, W_ih gets the column that holds the state at padding."""
        flat: list[Tensor] = []
        for name, parameter in self.weights.named_parameters():
            weight: Tensor = parameter
            if holding and name.startswith("weight_ih"):
                # LSTM gates i f g o: shut i, open f. GRU gates r z n: open z, which keeps the old state.
                signs = [-SHUT, SHUT, 0.0, 0.0] if self.cell == "lstm" else [0.0, SHUT, 0.0]
                column = torch.cat([weight.new_full((self.hidden_size, 1), sign) for sign in signs])
                weight = torch.cat([weight, column], 1)
            flat.append(weight)
        return flat

    def _run(self, inputs: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
        settings = (True, 1, 0.0, self.training, self.bidirectional, True)  # biases, layers, dropout, ..., batch first
        kind = weights[0].dtype
        state = tuple(part.to(kind).contiguous() for part in state)  # cuDNN takes no other.
        # Autocast would have cuDNN compute in float16, bf16-mixed or not, where gradients vanish that are not scaled.
        with torch.autocast(inputs.device.type, enabled=False):
            if self.cell == "lstm":
                return torch.lstm(inputs.to(kind), state, weights, *settings)
            return torch.gru(inputs.to(kind), state[0], weights, *settings)

    def _project(self, inputs: Tensor, direction: int) -> Tensor:
        """What a looped cell's gates take of inputs [..., I], for all steps at once: [..., gates * H]."""
        weights = self.weights.all_weights[direction]
        if self.cell == "lstm_normed":
            return self.input_norms[direction](F.linear(inputs, weights[0]))
        return F.linear(inputs, weights[0], weights[2])

    def _advance(self, projected: Tensor, state: CellState, direction: int) -> CellState:
        """One step of a cell, in plain products: projected [N, gates * H] is what its gates take of the input."""
        h, width = state[0], self.hidden_size
        _, w, *biases = self.weights.all_weights[direction]
        if self.parts == 2:
            normed = self.cell == "lstm_normed"
            if normed:
                gates = projected + self.hidden_norms[direction](F.linear(h, w))
            else:
                gates = torch.addmm(projected + biases[1], h, w.mT)
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * (self.cell_norms[direction](c) if normed else c).tanh(), c
        b = biases[1]
        if self.cell == "gru":
            r_x, z_x, n_x = projected.chunk(3, -1)
            r_h, z_h, n_h = F.linear(h, w, b).chunk(3, -1)
            z, n = (z_x + z_h).sigmoid(), (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
            return ((1 - z) * n + z * h,)
        r, z = (projected[:, : 2 * width] + F.linear(h, w[: 2 * width], b[: 2 * width])).sigmoid().chunk(2, -1)
        n = (projected[:, 2 * width :] + F.linear(r * h, w[2 * width :], b[2 * width :])).tanh()
        return ((1 - z) * n + z * h,)

    def _loop(
        self, inputs: Tensor, state: CellState, direction: int, mask: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Run a looped cell over [B, T, I], the second direction from the end, and hold it where mask [B, T] is False.

        Returns:
            outputs [B, T, H], and the final state.
        """
        projected, outputs = self._project(inputs, direction).unbind(1), {}
        times = range(len(projected))
        for t in reversed(times) if direction else times:
            after = self._advance(projected[t], state, direction)
            if mask is not None:
                real = mask[:, t : t + 1]
                after = tuple(torch.where(real, new, old) for new, old in zip(after, state, strict=True))
            state, outputs[t] = after, after[0]
        return torch.stack([outputs[t] for t in times], 1), state
