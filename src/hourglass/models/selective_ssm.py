"""The selective state-space model S6 (Gu and Dao 2023, "Mamba: Linear-time sequence modeling with selective state
spaces").

Shapes: B batch, T time, N rows of one step, H hidden (channels), K numbers of each channel's state, P projected input.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hourglass.models.cells import CellState
from hourglass.models.parallel_cells import ProjectedCell, last_output, widen


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
    unread_parts = ("h",)
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

    def _parts(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return Delta and u [..., H], B and C [..., K], and A [K, H], given [..., P]."""
        u, delta, b, c = self.split_projected(widen(projected))
        return F.softplus(delta), u, b, c, -widen(self.log_rates).exp()

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`; S is returned in float32 or wider."""
        delta, u, b, c, rates = self._parts(projected)
        decay, added = (delta.unsqueeze(-2) * rates).exp(), b.unsqueeze(-1) * (delta * u).unsqueeze(-2)
        after = decay * state[1] + added
        return (((c.unsqueeze(-1) * after).sum(-2)) + widen(self.skip) * u).to(projected.dtype), after

    def run(self, projected: Tensor, state: CellState, mask: Tensor | None = None) -> tuple[Tensor, CellState]:
        """See `Cell.run`: one step after the other, in float32 or wider, with a gradient of its own."""
        delta, u, b, c, rates = self._parts(projected)
        if mask is not None:  # A step of length 0 changes nothing.
            delta = delta.masked_fill(~mask.unsqueeze(-1), 0.0)
        with torch.autocast(projected.device.type, enabled=False):
            scan = _SelectiveScan.apply(delta, delta * u, b, c, rates, widen(state[1]))
        read, final = scan
        outputs = (read + widen(self.skip) * u).to(projected.dtype)
        return outputs, (last_output(outputs, state[0], mask), final.to(projected.dtype))


class _SelectiveScan(torch.autograd.Function):
    """C^T S at all steps [B, T, H], and the last S [B, K, H].

    Decays [B, T, K, H] are never kept, as memory is what takes the time: the backward pass computes them again, step by
    step, from Delta (section 3.3.2 of the paper).
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run over Delta and Delta * u [B, T, H], B and C [B, T, K], A [K, H], from S [B, K, H]."""
        delta, added, b, c, rates, start = inputs
        states = start.new_empty(delta.shape[1], *start.shape)
        read, state = [], start
        for t, after in enumerate(states):
            torch.mul(delta[:, t].unsqueeze(1), rates, out=after).exp_().mul_(state)
            state = after.addcmul_(b[:, t].unsqueeze(2), added[:, t].unsqueeze(1))
            read.append((c[:, t].unsqueeze(1) @ state).squeeze(1))
        ctx.save_for_backward(*inputs, states)
        return torch.stack(read, 1), state.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_read: Tensor, of_final: Tensor) -> tuple[Tensor, ...]:
        delta, added, b, c, rates, start, states = ctx.saved_tensors
        of_delta, of_added = torch.empty_like(delta), torch.empty_like(added)
        of_b, of_c = torch.empty_like(b), torch.empty_like(c)
        of_state, of_rates = of_final.clone(), torch.zeros_like(start)
        for t in reversed(range(len(states))):
            of_state.addcmul_(c[:, t].unsqueeze(2), of_read[:, t].unsqueeze(1))
            of_c[:, t] = (states[t] @ of_read[:, t].unsqueeze(2)).squeeze(2)
            of_b[:, t] = (of_state @ added[:, t].unsqueeze(2)).squeeze(2)
            of_added[:, t] = (b[:, t].unsqueeze(1) @ of_state).squeeze(1)
            of_state.mul_((delta[:, t].unsqueeze(1) * rates).exp_())  # Now that of the state before the step.
            of_exponent = of_state * (states[t - 1] if t else start)
            of_rates.addcmul_(of_exponent, delta[:, t].unsqueeze(1))
            of_delta[:, t] = of_exponent.mul_(rates).sum(1)
        return of_delta, of_added, of_b, of_c, of_rates.sum(0), of_state
