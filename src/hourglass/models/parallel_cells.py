"""Bases of the cells whose gates read the inputs alone: the states of a whole sequence need no loop over steps.

Shapes: B batch, T time, N rows of one step, I input, H hidden (the output of a cell), P projected input, C steps of a
chunk.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hourglass.models.cells import Cell, CellState, PartialProjection
from hourglass.models.loop_weights import LoopWeight


class ProjectedCell(Cell):
    """Base of the cells that read their inputs through one map, W x + b, and nothing else of them.

    `input_layer` is that map; `projected_sizes` says how many of its P rows each gate has.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.input_layer = nn.Linear(input_size, sum(self.projected_sizes(hidden_size)))

    @classmethod
    @abstractmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """Return the number of rows of each part of W x + b, in their order; the sum is P."""

    def split_projected(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of W x + b, given [..., P]."""
        return projected.split(self.projected_sizes(self.hidden_size), -1)

    def project(self, inputs: Tensor) -> Tensor:
        """See `Cell.project`: W x + b."""
        return self.input_layer(inputs)

    def project_ahead(self, inputs: Tensor) -> PartialProjection | None:
        """See `Cell.project_ahead`: the first I' columns of W."""
        known, rest = self.input_layer.weight.tensor_split([inputs.shape[-1]], 1)
        return PartialProjection(F.linear(inputs, known, self.input_layer.bias), LoopWeight(rest))

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """See `Cell.complete`: the other columns of W."""
        assert ahead.rest is not None
        return ahead.rest.multiply(inputs, ahead.projected)


class MatrixCell(ProjectedCell):
    """Base of the cells whose memory is a matrix for each head, read by a query: linear attention as a recurrence.

    The state is h, the last output, and the memory. h is part of it for decoder.query=previous alone: before a step
    there is no query yet that could read the memory. The parts of a head are computed from [B, heads, T, ...].

    A whole sequence is read in chunks: within a chunk by products of all queries with all keys, from chunk to chunk by
    the memory (Yang et al. 2023, "Gated linear attention transformers with hardware-efficient training", section 4.2).
    All of it is computed, and the memory is kept, in float32 or wider, as sums over many steps lose small terms in
    bfloat16.

    Class attributes: `heads`, each with keys and values of width d = H / heads, and `width_multiple`, the same number;
    `chunk`, the steps of a chunk.
    """

    state_parts: tuple[str, ...] = ("h", "S")
    unread_parts = ("h",)
    heads = 4
    width_multiple = heads
    chunk = 16

    @classmethod
    def state_shapes(cls, hidden_size: int) -> tuple[tuple[int, ...], ...]:
        """See `Cell.state_shapes`: h [H], and S [heads, d, d], of keys by values."""
        width = hidden_size // cls.heads
        return (hidden_size,), (cls.heads, width, width)

    @abstractmethod
    def read_inputs(self, projected: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """Return what the memory takes of its inputs, with all their nonlinearities.

        Args:
            projected: [B, T, P].
            mask: [B, T], False at padding, or None: there is none. At padding the result leaves the memory as it is.

        Returns:
            tensors [B, heads, T, ...].
        """

    @abstractmethod
    def advance_memory(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """Advance one step: the recurrence as published.

        Args:
            inputs: tensors [N, heads, ...] of `read_inputs`.
            memory: the state without h, of N rows.

        Returns:
            what the queries read after the step, [N, heads, d], and the next memory.
        """

    @abstractmethod
    def advance_chunk(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """Advance C steps at once; see `advance_memory`.

        Args:
            inputs: tensors [B, heads, C, ...].
            memory: of B rows.

        Returns:
            what the queries read, [B, heads, C, d], and the memory after the last step.
        """

    def finish(self, read: Tensor, projected: Tensor) -> Tensor:
        """Return h [..., H], given what the heads read, [..., heads, d], and the projection [..., P]."""
        return read.flatten(-2)

    def by_head(self, part: Tensor) -> Tensor:
        """Return [B, heads, T, d], given [B, T, heads * d]."""
        return part.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`; the memory is returned in float32 or wider."""
        wide = widen(projected)
        inputs = tuple(part.squeeze(2) for part in self.read_inputs(wide.unsqueeze(1), None))
        read, memory = self.advance_memory(inputs, tuple(widen(part) for part in state[1:]))
        return (self.finish(read, wide).to(projected.dtype), *memory)

    def run(self, projected: Tensor, state: CellState, mask: Tensor | None = None) -> tuple[Tensor, CellState]:
        """See `Cell.run`: chunk by chunk."""
        reads = []
        with torch.autocast(projected.device.type, enabled=False):
            wide, memory = widen(projected), tuple(widen(part) for part in state[1:])
            inputs = self.read_inputs(wide, mask)
            for chunk in zip(*(part.split(self.chunk, 2) for part in inputs), strict=True):
                read, memory = self.advance_chunk(chunk, memory)
                reads.append(read)
            outputs = self.finish(torch.cat(reads, 2).transpose(1, 2), wide).to(projected.dtype)
        last = last_output(outputs, state[0], mask)
        return outputs, (last, *(part.to(projected.dtype) for part in memory))


def widen(numbers: Tensor) -> Tensor:
    """Return numbers in float32, or as they are if they are wider."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def last_output(outputs: Tensor, start: Tensor, mask: Tensor | None) -> Tensor:
    """Return the last output that is not at padding, [B, H], of outputs [B, T, H]; `start` [B, H] where all are."""
    if mask is None:
        return outputs[:, -1]
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    last = (mask * positions).amax(1).view(-1, 1, 1).expand(-1, 1, outputs.shape[-1])
    return torch.cat([start.unsqueeze(1), outputs], 1).gather(1, last).squeeze(1)


def linear_scan(decay: Tensor, added: Tensor, start: Tensor) -> Tensor:
    """Return the states of s_t = decay_t * s_(t-1) + added_t, at all T steps.

    No product of decays is divided by another, and no logarithm is taken: any decay from 0 to 1 is safe, 0 itself too.

    Args:
        decay: [B, T, ...].
        added: as `decay`.
        start: s_0 [B, ...].

    Returns:
        [B, T, ...].
    """
    states: Tensor = _LinearScan.apply(decay, added, start)
    return states


class _LinearScan(torch.autograd.Function):
    """`linear_scan`. Its gradient is a scan of the same form from the last step to the first."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, added: Tensor, start: Tensor) -> Tensor:
        states = _scan(decay, added, start)
        ctx.save_for_backward(decay, states, start)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, states, start = ctx.saved_tensors
        # A state's gradient is that of its own output, and decay times that of the next state.
        after, last = gradient[:, :-1].flip(1), gradient[:, -1]
        of_states = torch.cat([last.unsqueeze(1), _scan(decay[:, 1:].flip(1), after, last)], 1).flip(1)
        before = torch.cat([start.unsqueeze(1), states[:, :-1]], 1)
        return of_states * before, of_states, of_states[:, 0] * decay[:, 0]


def _scan(decay: Tensor, added: Tensor, start: Tensor) -> Tensor:
    """`linear_scan` in log2 T rounds (Hillis and Steele 1986, "Data parallel algorithms").

    Before a round, states[t] is the state after the last `reach` steps from a zero state, and factors[t] the product of
    their decays; the round puts the `reach` steps before them in front. The start is step 0, which nothing precedes.
    """
    states = torch.cat([start.unsqueeze(1), added], 1)
    factors = torch.cat([torch.zeros_like(start).unsqueeze(1), decay], 1)
    reach = 1
    while reach < states.shape[1]:
        states[:, reach:] += factors[:, reach:] * states[:, :-reach]
        factors[:, reach:] = factors[:, reach:] * factors[:, :-reach]
        reach *= 2
    return states[:, 1:]
