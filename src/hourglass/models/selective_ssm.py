"""The selective state-space model S6 (Gu and Dao 2023, "Mamba: Linear-time sequence modeling with selective state
spaces").

Shapes: B batch, T time, N rows of one step, H hidden (channels), K numbers of each channel's state, P projected input.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.models.cells import CellState
from hourglass.models.parallel_cells import ProjectedCell, last_output, linear_scan, widen


class SelectiveSSM(ProjectedCell):
    """S6: a diagonal linear system for each channel, whose step, input and output maps depend on the inputs.

        u = W x + b                        [H], the channels
        Delta = softplus(W x + b)          [H], the length of a step
        B, C = W x + b                     [K] each
        A = -exp(log_rates)                [K, H]
        S' = exp(Delta A) * S + B (Delta * u)^T     (equation 2a, discretised as in algorithm 2 and section 3.6)
        h = C^T S' + skip * u                       (equation 2b)

    each of u, Delta, B, C with rows of its own. B (Delta * u) is the authors' simplification of equation 4 for the
    input. x itself, I wide, is not the input of the system: u is. In the Mamba block, a convolution and a gate stand
    around S6; they are not part of it, nor of this cell.

    The state is h, the last output (for decoder.query=previous, which has no C before the step), and S [K, H]. A starts
    at -1, ..., -K (the authors' S4D-real), Delta between 0.001 and 0.1, spread evenly over the channels on a log scale
    (section 3.6).

    Class attribute: `state_width`, K.
    """

    name = "selective_ssm"
    state_parts = ("h", "S")
    state_width = 16

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.log_rates = nn.Parameter(torch.empty(self.state_width, hidden_size))
        self.skip = nn.Parameter(torch.empty(hidden_size))
        self.open_forget_gates()

    @classmethod
    def state_shapes(cls, hidden_size: int) -> tuple[tuple[int, ...], ...]:
        """See `Cell.state_shapes`: h [H] and S [K, H]."""
        return (hidden_size,), (cls.state_width, hidden_size)

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: u, Delta, B, C."""
        return hidden_size, hidden_size, cls.state_width, cls.state_width

    def open_forget_gates(self) -> None:
        """See `Cell.open_forget_gates`: here A, the biases of Delta and `skip` are set to where they start."""
        with torch.no_grad():
            self.skip.fill_(1.0)
            rates = torch.arange(1, self.state_width + 1).log().unsqueeze(1)
            self.log_rates.copy_(rates.expand_as(self.log_rates))
            steps = torch.linspace(math.log(0.001), math.log(0.1), self.hidden_size).exp()
            # The inverse of softplus.
            self.input_layer.bias[self.hidden_size : 2 * self.hidden_size] = steps.expm1().log()

    def _discretise(self, projected: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return decay [..., K, H], what is added [..., K, H], C [..., K] and skip * u [..., H], given [..., P]."""
        u, delta, b, c = self.split_projected(projected)
        delta = F.softplus(delta)
        if mask is not None:
            delta = delta.masked_fill(~mask.unsqueeze(-1), 0.0)
        rates = -widen(self.log_rates).exp()
        decay = (delta.unsqueeze(-2) * rates).exp()
        return decay, b.unsqueeze(-1) * (delta * u).unsqueeze(-2), c, widen(self.skip) * u

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`; S is returned in float32 or wider."""
        decay, added, c, skipped = self._discretise(widen(projected))
        after = decay * state[1] + added
        return (torch.einsum("nkh,nk->nh", after, c) + skipped).to(projected.dtype), after

    def run(self, projected: Tensor, state: CellState, mask: Tensor | None = None) -> tuple[Tensor, CellState]:
        """See `Cell.run`: by a scan, in float32 or wider."""
        decay, added, c, skipped = self._discretise(widen(projected), mask)
        states = linear_scan(decay, added, widen(state[1]))
        outputs = (torch.einsum("btkh,btk->bth", states, c) + skipped).to(projected.dtype)
        return outputs, (last_output(outputs, state[0], mask), states[:, -1].to(projected.dtype))
