"""Cells with a matrix as memory: gated linear attention, the mLSTM and DeltaNet.

Shapes: B batch, T time, N rows of one step, C steps of a chunk, H hidden, P projected input; d = H / heads, the width
of a head. All three have the same memory, beside the normaliser of the mLSTM: only the rule of its update differs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass.models.cells import CellState
from hourglass.models.parallel_cells import MatrixCell

# Added to a sum of squares, and to a mean of squares, before the root: zeros have a gradient, and one that is not too
# steep. (Those of the authors' code.)
LENGTH_EPSILON, NORM_EPSILON = 1e-6, 1e-5


class LinearAttention(MatrixCell):
    """Gated linear attention, GLA (Yang et al. 2023, sections 4.1 and 4.4).

        q, k, v = W x + b
        a = sigmoid(W x + b)^(1/16)
        r = swish(W x + b)
        S' = diag(a) S + k v^T
        h = r * RMSNorm(S'^T q)

    for each head, each with rows of its own, in the order q, k, v, a, r. S decays by a of its own for each row, the
    component of a key. Differences from the paper's layer: the map of a has full rank, keys are as wide as values, the
    norm of a head is RMSNorm without weights (as in the authors' later code, but for the weights), and the matrix of
    the output is left out: what reads h has one.
    """

    name = "linear_attention"
    # The exponent of a is its inverse: a starts near 1, so that no bias needs to open it.
    temperature = 16.0
    # log a is no less than this: `chunk` steps of it are a factor that float32 can have. The sigmoid is 2e-35 there.
    least_log_a = -5.0

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: q, k, v, a, r."""
        return (hidden_size,) * 5

    def read_inputs(self, projected: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """See `MatrixCell.read_inputs`: q, k, v and log a, each [B, heads, T, d]."""
        q, k, v, gate, _ = map(self.by_head, self.split_projected(projected))
        log_a = (F.logsigmoid(gate) / self.temperature).clamp(min=self.least_log_a)
        if mask is not None:
            padding = ~mask[:, None, :, None]
            k, log_a = k.masked_fill(padding, 0.0), log_a.masked_fill(padding, 0.0)
        return q, k, v, log_a

    def advance_memory(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_memory`."""
        q, k, v, log_a = inputs
        after = log_a.exp().unsqueeze(-1) * memory[0] + k.unsqueeze(-1) * v.unsqueeze(-2)
        return (q.unsqueeze(-2) @ after).squeeze(-2), (after,)

    def advance_chunk(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_chunk`: the decay from step s to step t is that of the query from the start to t, and
        the inverse of that of the key to s (the parallel form of section 4.1).
        """
        q, k, v, log_a = inputs
        since_start = log_a.cumsum(2)
        decayed_q = q * since_start.exp()
        scores = (decayed_q @ (k * (-since_start).exp()).mT).tril()
        read = scores @ v + decayed_q @ memory[0]
        whole = since_start[:, :, -1:]
        after = whole.exp().mT * memory[0] + (k * (whole - since_start).exp()).mT @ v
        return read, (after,)

    def finish(self, read: Tensor, projected: Tensor) -> Tensor:
        """See `MatrixCell.finish`."""
        return F.silu(self.split_projected(projected)[-1]) * normalise_heads(read).flatten(-2)


class MLSTM(MatrixCell):
    """The mLSTM of the xLSTM (Beck et al. 2024, equations 19 to 27), with sigmoid forget gates.

        q, v = W x + b,   k = (W x + b) / sqrt(d)
        i = exp(W x + b),   f = sigmoid(W x + b)
        C' = f C + i k v^T,   n' = f n + i k
        h = sigmoid(W x + b) * C'^T q / max(|n'^T q|, 1)

    for each head, each with rows of its own, in the order q, k, v, output gate, i, f; i and f are one number a head.
    (C is that of the paper transposed.) The state has C and n divided by exp(m), where m is the stabiliser of equations
    15 to 17, m' = max(log f + m, log i). So is the 1 of the last line.

    The state is h, C, n and m. Forget gates start with 3 to 6, spread evenly over the heads, added to their biases, as
    in the authors' code: sigmoids of that keep a memory for 20 to 400 steps.
    """

    name = "mlstm"
    state_parts = ("h", "C", "n", "m")
    # exp of this is a finite number in float32. Where -m is larger, the output is 0 but for rounding.
    largest_exponent = 80.0

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.open_forget_gates()

    @classmethod
    def state_shapes(cls, hidden_size: int) -> tuple[tuple[int, ...], ...]:
        """See `Cell.state_shapes`: h [H], C [heads, d, d], n [heads, d] and m [heads]."""
        return *super().state_shapes(hidden_size), (cls.heads, hidden_size // cls.heads), (cls.heads,)

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: q, k, v, output gate, i, f."""
        return (*(hidden_size,) * 4, cls.heads, cls.heads)

    def open_forget_gates(self) -> None:
        """See `Cell.open_forget_gates`."""
        with torch.no_grad():
            self.input_layer.bias[-self.heads :] += torch.linspace(3.0, 6.0, self.heads)

    def bound_state(self, state: CellState) -> CellState:
        """See `Cell.bound_state`: tanh of m, so that C and n have a scale at which new inputs count."""
        return (*state[:3], state[3].tanh())

    def read_inputs(self, projected: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """See `MatrixCell.read_inputs`: q, k, v [B, heads, T, d], and log i, log f [B, heads, T]."""
        q, k, v, _, i, f = self.split_projected(projected)
        log_i, log_f = i.transpose(1, 2), F.logsigmoid(f).transpose(1, 2)
        if mask is not None:
            padding = ~mask.unsqueeze(1)
            log_i, log_f = log_i.masked_fill(padding, -torch.inf), log_f.masked_fill(padding, 0.0)
        return self.by_head(q), self.by_head(k) / math.sqrt(k.shape[-1] // self.heads), self.by_head(v), log_i, log_f

    def advance_memory(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_memory`."""
        q, k, v, log_i, log_f = inputs
        c, n, m = memory
        after_m = torch.maximum(log_f + m, log_i)
        i, f = (log_i - after_m).exp().unsqueeze(-1), (log_f + m - after_m).exp().unsqueeze(-1)
        after_n = f * n + i * k
        after_c = f.unsqueeze(-1) * c + (i * k).unsqueeze(-1) * v.unsqueeze(-2)
        read = (q.unsqueeze(-2) @ after_c).squeeze(-2)
        return self._normalise(read, (q * after_n).sum(-1), after_m), (after_c, after_n, after_m)

    def advance_chunk(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_chunk`; m is a cumulative maximum."""
        q, k, v, log_i, log_f = inputs
        c, n, m = memory
        since_start = log_f.cumsum(2)
        largest = (log_i - since_start).cummax(2).values
        after_m = since_start + torch.maximum(m.unsqueeze(2), largest)
        # Of each step, what an input of another step counts, and what the memory at the start counts.
        counts = since_start.unsqueeze(3) - since_start.unsqueeze(2) + log_i.unsqueeze(2) - after_m.unsqueeze(3)
        counts = counts.masked_fill(~causal(q), -torch.inf).exp()  # [B, heads, C, C]
        start_counts = (since_start + m.unsqueeze(2) - after_m).exp().unsqueeze(-1)  # [B, heads, C, 1]
        scores = (q @ k.mT) * counts
        read = scores @ v + start_counts * (q @ c)
        norm = scores.sum(-1) + (start_counts * q @ n.unsqueeze(-1)).squeeze(-1)
        kept, weighted = start_counts[:, :, -1], counts[:, :, -1].unsqueeze(-1) * k
        after = kept.unsqueeze(-1) * c + weighted.mT @ v, kept * n + weighted.sum(2), after_m[:, :, -1]
        return self._normalise(read, norm, after_m), after

    def _normalise(self, read: Tensor, norm: Tensor, m: Tensor) -> Tensor:
        """Return C^T q / max(|n^T q|, 1) [..., d], given C^T q [..., d] and n^T q [...] divided by exp(m), m [...]."""
        one = (-m).clamp(max=self.largest_exponent).exp()
        return read / torch.maximum(norm.abs(), one).unsqueeze(-1)

    def finish(self, read: Tensor, projected: Tensor) -> Tensor:
        """See `MatrixCell.finish`."""
        return self.split_projected(projected)[3].sigmoid() * read.flatten(-2)


class DeltaNet(MatrixCell):
    """DeltaNet (Schlag et al. 2021, "Linear transformers are secretly fast weight programmers", section 4.2; Yang et
    al. 2024, "Parallelizing linear transformers with the delta rule over sequence length", sections 2.2 and 3.3).

        q, k = L2norm(silu(W x + b)),   v = W x + b
        beta = sigmoid(W x + b)
        S' = S - beta k (k^T S - v^T)
        h = RMSNorm(S'^T q)

    for each head, each with rows of its own, in the order q, k, v, beta; beta is one number a head. (S is that of the
    papers transposed.) What the memory has at a key moves towards the new value by the share beta. Differences from the
    layer of Yang et al.: no convolution over inputs, RMSNorm without weights, and no matrix of the output: what reads h
    has one.
    """

    name = "delta_net"

    @classmethod
    def projected_sizes(cls, hidden_size: int) -> tuple[int, ...]:
        """See `ProjectedCell.projected_sizes`: q, k, v, beta."""
        return hidden_size, hidden_size, hidden_size, cls.heads

    def read_inputs(self, projected: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """See `MatrixCell.read_inputs`: q, k, v [B, heads, T, d] and beta [B, heads, T, 1]."""
        q, k, v, beta = map(self.by_head, self.split_projected(projected))
        beta = beta.sigmoid()
        if mask is not None:
            beta = beta.masked_fill(~mask[:, None, :, None], 0.0)
        return unit_length(F.silu(q)), unit_length(F.silu(k)), v, beta

    def advance_memory(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_memory`."""
        q, k, v, beta = inputs
        error = v - (k.unsqueeze(-2) @ memory[0]).squeeze(-2)
        after = memory[0] + k.unsqueeze(-1) * (beta * error).unsqueeze(-2)
        return (q.unsqueeze(-2) @ after).squeeze(-2), (after,)

    def advance_chunk(self, inputs: tuple[Tensor, ...], memory: CellState) -> tuple[Tensor, CellState]:
        """See `MatrixCell.advance_chunk`: S' = S + K^T U, where U are the corrections of all steps.

        A correction is beta (v - S^T k) with the corrections of the steps before it in S: a triangular system (the UT
        transform, Yang et al. 2024, section 3.2, solved for the values at once).
        """
        q, k, v, beta = inputs
        earlier = (beta * (k @ k.mT)).tril(-1)  # [B, heads, C, C]; the diagonal of the system is 1
        wanted = beta * (v - k @ memory[0])
        corrections = torch.linalg.solve_triangular(earlier, wanted, upper=False, unitriangular=True)
        read = q @ memory[0] + (q @ k.mT).tril() @ corrections
        return read, (memory[0] + k.mT @ corrections,)

    def finish(self, read: Tensor, projected: Tensor) -> Tensor:
        """See `MatrixCell.finish`."""
        return normalise_heads(read).flatten(-2)


def causal(queries: Tensor) -> Tensor:
    """Return [C, C] bool, True where step t (row) sees step s <= t (column), for queries [..., C, d]."""
    steps = queries.shape[-2]
    return torch.ones(steps, steps, dtype=torch.bool, device=queries.device).tril()


def unit_length(vectors: Tensor) -> Tensor:
    """Return vectors [..., d] divided by their length."""
    return vectors * (vectors.square().sum(-1, keepdim=True) + LENGTH_EPSILON).rsqrt()


def normalise_heads(read: Tensor) -> Tensor:
    """Return what each head reads, [..., d], divided by its root mean square (RMSNorm without weights)."""
    return read * (read.square().mean(-1, keepdim=True) + NORM_EPSILON).rsqrt()
