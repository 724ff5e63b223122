"""The cross-entropy of target tokens on a CPU, forward and backward in parts that stay in the processor's cache.

Autograd goes over the logits ten times in the backward pass alone, and each time fetches them from memory: it fills the
gradient of the likelihoods with zeros, writes those of the labels, expands and adds that of label smoothing, and adds
up. In float32 the result is that of these operations, bit for bit.

Shapes: N target tokens, V vocabulary; B batch, T target length.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hourglass.data.pieces import PAD

# Numbers of logits in a part: half a megabyte in float32.
PART = 2**17

# Of torch's nll_loss: what `reduction="sum"` is called in its operators.
_SUM = 2


def token_losses(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return two sums over target tokens, in nats: cross-entropy against the smoothed target, and log-likelihood.

    Args:
        logits: [N, V]; 16-bit ones are converted to float32 before the softmax.
        labels: [N]; those at padding do not count.
        smoothing: see `Seq2Seq.loss`.
    """
    if logits.device.type == "cpu":
        smoothed, nll = _PartedLosses.apply(logits, labels, smoothing)
        return smoothed, nll
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _sums(wide.log_softmax(-1), labels, smoothing)


def without_prefixes(labels: Tensor, prefix_lengths: Tensor) -> Tensor:
    """Return labels [B, T] in which the first `prefix_lengths` [B] are padding, which no loss counts."""
    positions = torch.arange(labels.shape[1], device=labels.device)
    return labels.masked_fill(positions < prefix_lengths.unsqueeze(1), PAD)


def _sums(log_probabilities: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return the sums of `token_losses`, of log-probabilities [N, V]."""
    nll = F.nll_loss(log_probabilities, labels, ignore_index=PAD, reduction="sum")
    uniform = -(log_probabilities.mean(-1) * (labels != PAD)).sum() if smoothing else nll
    return (1 - smoothing) * nll + smoothing * uniform, nll


class _PartedLosses(torch.autograd.Function):
    """`_sums`, whose backward pass goes over parts. Of 16-bit logits, log-probabilities are never whole in memory."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        ctx.smoothing = smoothing
        if logits.dtype == torch.promote_types(logits.dtype, torch.float32):
            log_probabilities = logits.log_softmax(-1)
            ctx.save_for_backward(log_probabilities, labels)
            return _sums(log_probabilities, labels, smoothing)
        shifts = logits.new_empty(len(logits), 1, dtype=torch.float32)
        sums = []
        for rows in _parts(logits):
            part = logits[rows].float()
            log_probabilities = part.log_softmax(-1)
            shifts[rows] = part[:, :1] - log_probabilities[:, :1]  # The logarithm of the sum of exponentials.
            sums.append(torch.stack(_sums(log_probabilities, labels[rows], smoothing)))
        ctx.save_for_backward(logits, labels, shifts)
        smoothed, nll = torch.stack(sums).sum(0).unbind()
        return smoothed.clone(), nll.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        of_smoothed, of_nll = gradients
        saved, labels, *shifts = ctx.saved_tensors
        smoothing, vocabulary = ctx.smoothing, saved.shape[-1]
        of_label = of_smoothed * (1 - smoothing) + of_nll
        of_each = (-(of_smoothed * smoothing)).expand(len(labels)) * (labels != PAD) if smoothing else None
        if not smoothing:  # As in `_sums`, where the smoothed loss reads the other twice.
            of_label = of_label + of_smoothed * smoothing
        total_weight = of_label.new_zeros(())  # Not read in a sum.
        result = torch.empty_like(saved)
        for rows in _parts(saved):
            part = saved[rows].float() - shifts[0][rows] if shifts else saved[rows]
            arguments = (part, labels[rows], None, _SUM, PAD, total_weight)
            gradient = torch.ops.aten.nll_loss_backward(of_label, *arguments)
            if of_each is not None:
                gradient += (of_each[rows] / vocabulary).unsqueeze(-1)
            result[rows] = torch.ops.aten._log_softmax_backward_data(gradient, part, -1, part.dtype)
        return result, None, None


def _parts(logits: Tensor) -> Iterator[slice]:
    """Yield slices over the rows of [N, V], of at most PART numbers."""
    size = max(1, PART // logits.shape[-1])
    for start in range(0, len(logits), size):
        yield slice(start, start + size)
