"""Loop weights: values and gradients are those of autograd, step by step."""

import gc
import weakref

import pytest
import torch
from helpers import tiny_model
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.models.cells import CELLS
from hourglass.models.loop_weights import LoopWeight, _Rows

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


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_backward_pass_may_run_within_another(tensors: tuple[Tensor, ...], reentrant: bool) -> None:
    weight, added, _, start = tensors

    def loss(*, deferred: bool) -> Tensor:
        shared = LoopWeight(weight)
        step = (lambda x, y: shared.multiply(x, y).tanh()) if deferred else (lambda x, y: (x @ weight.mT + y).tanh())
        state = step(start, added[0])
        state = checkpoint(step, state, added[1], use_reentrant=reentrant)
        return step(state, added[2]).sum()

    gradients = []
    for deferred in (True, False):
        for tensor in (weight, added, start):
            tensor.grad = None
        loss(deferred=deferred).backward()
        gradients.append([tensor.grad for tensor in (weight, added, start)])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("ending", ["none", "of others", "error"])
def test_nothing_is_kept_after_a_backward_pass(tensors: tuple[Tensor, ...], ending: str) -> None:
    """Whether it reaches the weight, other tensors alone, or fails: without the collection of cycles."""
    alive: list[weakref.ref[_Rows]] = []

    def fail(_: Tensor) -> None:
        raise ZeroDivisionError

    def once() -> None:
        weight, added, _, start = tensors
        shared = LoopWeight(weight)
        assert shared._rows is not None
        alive.append(weakref.ref(shared._rows))
        first = shared.multiply(start, added[0])
        second = shared.multiply(first.tanh(), added[1])
        if ending == "of others":
            torch.autograd.grad(second.sum(), start)
            return
        if ending == "error":
            first.register_hook(fail)
            with pytest.raises(ZeroDivisionError):
                second.sum().backward()
            return
        second.sum().backward()

    gc.disable()
    try:
        once()
        assert [each() for each in alive] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("attention", ["luong_general", "bahdanau"])
@pytest.mark.parametrize("cell", CELLS)
def test_autocast_chooses_the_types_of_products(cell: str, attention: str, feeding: bool) -> None:
    """As on a GPU in bf16-mixed: each gradient has the type of its weight, and losses are those of the plain path."""
    changes = {"decoder.cell": cell, "encoder.cell": cell, "decoder.input_feeding": feeding}
    model = tiny_model(attention, changes, spread=0.1).float()
    source, target = (torch.randint(FIXED_PIECES, 20, (3, 6)) for _ in range(2))
    target[:, 0], target[:, -1] = BOS, EOS
    losses = []
    for step_loop in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = model.loss(source, torch.full((3,), 6), target, 0.1, step_loop=step_loop).smoothed
        loss.backward()
        losses.append(loss.detach())
        for weight in model.parameters():
            assert weight.grad is None or (weight.grad.dtype == torch.float32 and weight.grad.isfinite().all())
    torch.testing.assert_close(*losses, rtol=2**-7, atol=0)
