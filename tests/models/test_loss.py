"""The loss in parts against torch's own operations, one after the other: bit for bit in float32."""

import pytest
import torch
from helpers import tiny_model
from torch import Tensor
from torch.nn import functional as F

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.models import loss as loss_module
from hourglass.models import seq2seq
from hourglass.models.loss import token_losses

N, V = 37, 50


def plain_losses(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """What autograd differentiates by itself."""
    log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    nll = F.nll_loss(log_probabilities, labels, ignore_index=PAD, reduction="sum")
    uniform = -(log_probabilities.mean(-1) * (labels != PAD)).sum() if smoothing else nll
    return (1 - smoothing) * nll + smoothing * uniform, nll


def make_labels(rows: int = N, pieces: int = V) -> Tensor:
    labels = torch.randint(EOS, pieces, (rows,))
    labels[::5] = PAD
    return labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("part", [1, V, 8 * V, 100 * V])  # Rows of a part: 1, 1, 8, all.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_autograd(
    smoothing: float, part: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "PART", part)
    logits, labels = 3 * torch.randn(N, V, dtype=dtype), make_labels()
    for weights in ((1 / 7, 0.0), (0.0, 1.0), (0.3, 0.2)):  # Of the two sums: the first alone is trained on.
        results = []
        for losses in (token_losses, plain_losses):
            own = logits.clone().requires_grad_()
            sums = losses(own, labels, smoothing)
            used = [weight * each for weight, each in zip(weights, sums, strict=True) if weight]
            (gradient,) = torch.autograd.grad(torch.stack(used).sum(), [own])
            results.append((*sums, gradient))
        for ours, autograd in zip(*results, strict=True):
            if weights[1] and weights[0]:  # The two reach the label's gradient in another order.
                torch.testing.assert_close(ours, autograd)
            else:
                assert torch.equal(ours, autograd)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bfloat16_logits_have_a_loss_in_float32(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "PART", 8 * V)
    logits, labels = (3 * torch.randn(N, V)).bfloat16(), make_labels()
    ours, autograd = (logits.clone().requires_grad_() for _ in range(2))
    sums, wanted = token_losses(ours, labels, smoothing), plain_losses(autograd, labels, smoothing)
    assert {each.dtype for each in sums} == {torch.float32}
    torch.testing.assert_close(sums, wanted)
    sums[0].backward()
    wanted[0].backward()
    torch.testing.assert_close(ours.grad, autograd.grad, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("rows", [8192, 40])  # The second cuts the logits, and computes them again.
def test_a_model_has_the_gradients_of_autograd_bit_for_bit(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size at which the logits are several parts."""
    pieces = 4000
    model = tiny_model(vocabulary=pieces).float()
    source, lengths = torch.randint(EOS + 1, pieces, (20, 6)), torch.full((20,), 6)
    target = torch.randint(EOS + 1, pieces, (20, 9))
    source[:, -1], target[:, 0], target[:, -1] = EOS, BOS, EOS
    target[3, 5:] = PAD
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", rows)
    gradients = []
    for losses in (token_losses, plain_losses):
        monkeypatch.setattr(seq2seq, "token_losses", losses)
        loss = model.loss(source, lengths, target, 0.1).smoothed / 150
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    assert 155 * pieces > loss_module.PART
    assert all(own is theirs is None or torch.equal(own, theirs) for own, theirs in zip(*gradients, strict=True))
