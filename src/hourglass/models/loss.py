"""The cross-entropy of target tokens on a CPU, forward and backward in parts that stay in the processor's cache.

Autograd goes over the logits ten times in the backward pass alone, and each time fetches them from memory: it fills the
gradient of the likelihoods with zeros, writes those of the labels, expands and adds that of label smoothing, and adds
up. In float32 the result is that of these operations, bit for bit.

Shapes: N target tokens, V vocabulary; B batch, S source length, T target length.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hourglass.data.pieces import PAD

# Numbers of logits in a part: 2 megabytes in float32.
PART = 2**19

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


def doubly_stochastic_penalty(weights: Tensor, mask: Tensor, real: Tensor) -> Tensor:
    """Return how unevenly the steps of each target look at its source (Xu et al. 2015, equation 14), summed, [].

        sum_i (1 - sum_t weights_ti)^2

    Args:
        weights: attention weights [B, T, S].
        mask: [B, S], True at real source positions i.
        real: [B, T], True at real target positions t.
    """
    looks = (weights * real.unsqueeze(-1)).sum(1)  # [B, S]
    return ((1 - looks) ** 2 * mask).sum()


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
        saved, labels, *shifts = ctx.saved_tensors
        if shifts:
            return _gradient_of_logits(saved, labels, shifts[0], ctx.smoothing, gradients), None, None
        return _gradient_by_operations(saved, labels, ctx.smoothing, gradients), None, None


def _gradient_by_operations(
    log_probabilities: Tensor, labels: Tensor, smoothing: float, gradients: tuple[Tensor, ...]
) -> Tensor:
    """Return the gradient of logits [N, V] by the operations of autograd, given those of the two sums."""
    of_smoothed, of_nll = gradients
    vocabulary = log_probabilities.shape[-1]
    of_label = of_smoothed * (1 - smoothing) + of_nll
    of_each = (-(of_smoothed * smoothing)).expand(len(labels)) * (labels != PAD) if smoothing else None
    if not smoothing:  # As in `_sums`, where the smoothed loss reads the other twice.
        of_label = of_label + of_smoothed * smoothing
    total_weight = of_label.new_zeros(())  # Not read in a sum.
    result = torch.empty_like(log_probabilities)
    for rows in _parts(log_probabilities):
        part = log_probabilities[rows]
        arguments = (part, labels[rows], None, _SUM, PAD, total_weight)
        gradient = torch.ops.aten.nll_loss_backward(of_label, *arguments)
        if of_each is not None:
            gradient += (of_each[rows] / vocabulary).unsqueeze(-1)
        result[rows] = torch.ops.aten._log_softmax_backward_data(gradient, part, -1, part.dtype)
    return result


def _gradient_of_logits(
    logits: Tensor, labels: Tensor, shifts: Tensor, smoothing: float, gradients: tuple[Tensor, ...]
) -> Tensor:
    """Return the gradient of 16-bit logits [N, V], given those of the two sums: probabilities less the target.

    Args:
        logits: [N, V].
        labels: [N].
        shifts: [N, 1], the logarithms of the sums of exponentials, in float32.
        smoothing: see `token_losses`.
        gradients: those of the two sums.
    """
    of_smoothed, of_nll = gradients
    counted = (labels != PAD).to(shifts.dtype).unsqueeze(-1)
    of_label = (of_smoothed * (1 - smoothing) + of_nll) * counted
    of_all = of_smoothed * smoothing * counted
    result = torch.empty_like(logits)
    for rows in _parts(logits):
        part = logits[rows].float()
        part.sub_(shifts[rows]).exp_().mul_(of_label[rows] + of_all[rows])
        # Before the result is rounded: it is small where the label's probability is near 1.
        part.scatter_add_(1, labels[rows].unsqueeze(-1), -of_label[rows])
        if smoothing:
            part.sub_(of_all[rows] / logits.shape[-1])
        result[rows] = part
    return result


def _parts(logits: Tensor) -> Iterator[slice]:
    """Yield slices over the rows of [N, V], of at most PART numbers."""
    size = max(1, PART // logits.shape[-1])
    for start in range(0, len(logits), size):
        yield slice(start, start + size)
