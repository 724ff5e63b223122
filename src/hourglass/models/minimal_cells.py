"""minGRU and minLSTM: the gates of a GRU and an LSTM without the state (Feng et al. 2024, "Were RNNs all we needed?").

Shapes: B batch, T time, N rows of one step, H hidden, P projected input.

The paper numbers no equations: sections are named. It computes whole sequences by sums of logarithms, which overflow
nowhere but ask for positive states, hence g. The scan here has no logarithms; g is kept, as it is part of the cells
that the paper trains.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass.models.cells import CellState, StateRange
from hourglass.models.parallel_cells import ProjectedCell, linear_scan, widen


def positive(numbers: Tensor) -> Tensor:
    """Return g of Feng et al. 2024 (appendix B.3), element by element: x + 0.5 from 0 up, sigmoid(x) below."""
    return torch.where(numbers >= 0, numbers + 0.5, numbers.sigmoid())


class MinimalCell(ProjectedCell):
    """Base of cells with h' = a * h + b, where a and b, each [H], depend on the inputs alone."""

    state_ranges: ClassVar[Mapping[str, StateRange]] = {"h": "positive"}

    @abstractmethod
    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Return a, from 0 to 1, and b, each [..., H], given [..., P]."""

    def bound_state(self, state: CellState) -> CellState:
        """See `Cell.bound_state`: g, as the cell's own states are means of its values."""
        return (positive(state[0]),)

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        a, b = self.gates(projected)
        return (a * state[0] + b,)

    def run(self, projected: Tensor, state: CellState, mask: Tensor | None = None) -> tuple[Tensor, CellState]:
        """See `Cell.run`: by a scan, in float32 or wider."""
        a, b = self.gates(widen(projected))
        if mask is not None:
            padding = ~mask.unsqueeze(-1)
            a, b = a.masked_fill(padding, 1.0), b.masked_fill(padding, 0.0)
        outputs = linear_scan(a, b, widen(state[0])).to(projected.dtype)
        return outputs, (outputs[:, -1],)


class MinGRU(MinimalCell):
    """minGRU (Feng et al. 2024, section 3.1; g of appendix B.3).

        z = sigmoid(W x + b)
        n = g(W x + b)
        h' = (1 - z) * h + z * n

    each with rows of its own, in the order z, n.
    """

    name = "min_gru"

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: z, n."""
        return hidden_size, hidden_size

    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """See `MinimalCell.gates`."""
        z, n = self.split_projected(projected)
        return (-z).sigmoid(), z.sigmoid() * positive(n)


class MinLSTM(MinimalCell):
    """minLSTM (Feng et al. 2024, section 3.2, with f and i normalised; g of appendix B.3).

        f, i = sigmoid(W x + b)
        n = g(W x + b)
        h' = f / (f + i) * h + i / (f + i) * n

    each with rows of its own, in the order f, i, n. The forget gates start with 1 added to their biases, as those of
    `LSTM`.
    """

    name = "min_lstm"

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.open_forget_gates()

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: f, i, n."""
        return hidden_size, hidden_size, hidden_size

    def open_forget_gates(self) -> None:
        """See `Cell.open_forget_gates`."""
        with torch.no_grad():
            self.input_layer.bias[: self.hidden_size] += 1.0

    def gates(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """See `MinimalCell.gates`; f / (f + i) is a sigmoid of log f - log i, which is safe where both are 0."""
        f, i, n = self.split_projected(projected)
        log_ratio = F.logsigmoid(f) - F.logsigmoid(i)
        return log_ratio.sigmoid(), (-log_ratio).sigmoid() * positive(n)
