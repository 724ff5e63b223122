"""Loop weights: values and gradients are those of autograd, step by step."""

import pytest
import torch
from torch import Tensor

from hourglass.models.loop_weights import LoopWeight

N, H, T = 3, 4, 5


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A weight, what is added in each step, a bias, and the first state."""
    sizes = ((H, H), (T, N, H), (H,), (N, H))
    weight, added, bias, start = (torch.randn(size, dtype=torch.double, requires_grad=True) for size in sizes)
    return weight, added, bias, start


def run(tensors: tuple[Tensor, ...], *, deferred: bool) -> list[Tensor]:
    """Return the states of a small recurrence, whose weight each step reads twice."""
    weight, added, bias, state = tensors
    shared, states = LoopWeight(weight), []
    for now in added:
        for more in (now, bias):
            product = shared.multiply(state, more) if deferred else state @ weight.mT + more
            state = product.tanh()
        states.append(state)
    return states


def test_values_and_gradients_are_those_of_plain_products(tensors: tuple[Tensor, ...]) -> None:
    ours, plain = (run(tensors, deferred=deferred) for deferred in (True, False))
    torch.testing.assert_close(ours, plain)
    towards = [torch.randn_like(state) for state in plain]
    own, wanted = (torch.autograd.grad(states, tensors, towards) for states in (ours, plain))
    torch.testing.assert_close(own, wanted)


def test_each_backward_pass_has_its_own_rows(tensors: tuple[Tensor, ...]) -> None:
    """One that reaches no weight leaves none behind, and one over fewer steps reads no others."""
    weight, _, bias, start = tensors
    ours, plain = (run(tensors, deferred=deferred) for deferred in (True, False))
    for number, wanted in ((T, [bias, start]), (2, [weight]), (T, [weight, start]), (1, [weight])):
        own, theirs = (
            torch.autograd.grad(torch.stack(states[:number]).sum(), wanted, retain_graph=True)
            for states in (ours, plain)
        )
        torch.testing.assert_close(own, theirs)


def test_without_gradients_it_is_the_weight_alone(tensors: tuple[Tensor, ...]) -> None:
    weight, added, *_, start = tensors
    with torch.inference_mode():
        product = LoopWeight(weight).multiply(start, added[0])
    assert torch.equal(product, torch.addmm(added[0], start, weight.mT))
    frozen = LoopWeight(weight.detach()).multiply(start, added[0])
    torch.testing.assert_close(torch.autograd.grad(frozen.sum(), start)[0], weight.sum(0).expand(N, H))
