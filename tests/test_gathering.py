"""A gathered loop against the plain one: values and gradients, every attention and cell, in float64."""

import weakref
from typing import Any

import pytest
import torch
from conftest import ATTENTION_NAMES, tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hourglass import decoder as decoder_file
from hourglass import gathering as gathering_file
from hourglass.gathering import gathering
from hourglass.model import Seq2Seq
from hourglass.tokenizer import BOS, EOS, PAD

SOURCE = torch.tensor([[5, 6, 7, 8, EOS], [9, 5, EOS, PAD, PAD], [7, 7, 8, EOS, PAD]])
LENGTHS = torch.tensor([5, 3, 4])
TARGET = torch.tensor([[BOS, 6, 5, 7, EOS], [BOS, 7, EOS, PAD, PAD], [BOS, 9, 9, 9, EOS]])


def gradients(model: Seq2Seq, sampling: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(3)  # Of dropout and draws.
    loss = model.loss(SOURCE, LENGTHS, TARGET, 0.1, sampling=sampling).smoothed
    loss.backward()
    return loss.detach(), {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize(
    "changes",
    [
        {"decoder.input_feeding": True},
        {"decoder.input_feeding": True, "decoder.cell": "gru", "decoder.readout": "maxout"},
        {"decoder.input_feeding": True, "decoder.cell": "lstm_normed", "decoder.layers": 2},
        {"decoder.query": "previous", "decoder.layers": 2, "decoder.input_feeding": True, "decoder.dropout": 0.3},
        {"decoder.query": "previous", "decoder.cell": "gru_cho", "decoder.input_feeding": True},
    ],
)
def test_gathered_gradients_are_those_of_the_plain_loop(
    attention: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(attention, changes).train()
    loss, ours = gradients(model)
    with monkeypatch.context() as patch:
        patch.setattr(decoder_file, "gathering", torch.enable_grad)  # A context that changes nothing.
        plain, theirs = gradients(model)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(ours, theirs)  # By name.


def test_scheduled_sampling_gathers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("luong_general", {"decoder.input_feeding": True}).train()
    loss, ours = gradients(model, sampling=0.5)
    monkeypatch.setattr("hourglass.model.gathering", torch.enable_grad)
    plain, theirs = gradients(model, sampling=0.5)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(ours, theirs)


def test_a_weight_that_is_used_outside_too_gets_both_shares() -> None:
    layer = nn.Linear(3, 3).double()
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)

    def run(gathered: bool) -> list[Tensor]:
        state = layer(x)
        if gathered:
            with gathering():
                for _ in range(3):
                    state = layer(state).tanh()
        else:
            for _ in range(3):
                state = layer(state).tanh()
        return list(torch.autograd.grad(layer(state).sum(), [x, layer.weight, layer.bias]))

    torch.testing.assert_close(run(True), run(False))


def test_one_product_a_weight_however_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is for: the gradient of a weight is made once, not once a step."""
    made = 0
    plain = torch.Tensor.t

    def counting(tensor: Tensor) -> Tensor:
        nonlocal made
        made += 1
        return plain(tensor)

    monkeypatch.setattr(torch.Tensor, "t", counting)
    layer, x = nn.Linear(3, 3), torch.randn(4, 3)
    with gathering():
        for _ in range(7):
            x = layer(x)
    x.sum().backward()
    assert made == 1


def test_a_graph_may_be_asked_twice() -> None:
    layer, x = nn.Linear(3, 3).double(), torch.randn(4, 3, dtype=torch.double)
    with gathering():
        for _ in range(3):
            x = layer(x).tanh()
    first = torch.autograd.grad(x.sum(), layer.weight, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), layer.weight), first)


def test_a_pass_that_does_not_come_to_the_weights_leaves_nothing_behind() -> None:
    layer, x = nn.Linear(3, 3).double(), torch.randn(4, 3, dtype=torch.double, requires_grad=True)

    def run(gathered: bool) -> list[Tensor]:
        layer.zero_grad()
        with gathering() if gathered else torch.enable_grad():
            y = layer(layer(x).tanh())
        torch.autograd.grad(y.sum(), x, retain_graph=True)
        y.sum().backward(inputs=list(layer.parameters()))
        return [weight.grad.clone() for weight in layer.parameters() if weight.grad is not None]

    torch.testing.assert_close(run(True), run(False))


def test_what_is_changed_in_place_is_noticed() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(4, 3)
    with gathering():
        y = layer(layer(x).tanh())
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(4, 3, requires_grad=True)
    with gathering():
        y = layer(x).pow(2)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_nothing_stays_when_the_graph_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loop has noted goes with its graph, whether or not a backward pass was made."""
    made: list[weakref.ref[Any]] = []

    class Watched(gathering_file._Uses):
        def __init__(self) -> None:
            super().__init__()
            made.append(weakref.ref(self))

    monkeypatch.setattr(gathering_file, "_Uses", Watched)
    layer = nn.Linear(3, 3)
    for backward in (True, False):
        with gathering():
            y = layer(layer(torch.randn(4, 3)))
        if backward:
            y.sum().backward()
        del y
    assert len(made) == 2
    assert [uses() for uses in made] == [None, None]


@pytest.mark.parametrize("biases", [True, False])
def test_an_lstm_cell_is_one_product_a_step(biases: bool) -> None:
    """With biases; without, the library's own is left as it is."""
    cell = nn.LSTMCell(3, 4, bias=biases)
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    state = torch.zeros(2, 4), torch.zeros(2, 4)
    with gathering(), Watch():
        state = cell(torch.randn(2, 3), state)
    products = [name for name in seen if "mm" in name]
    assert len(products) == (1 if biases else 2)


def test_a_vector_is_left_to_the_library() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(3)
    with gathering():
        y = layer(x)
    torch.testing.assert_close(y, layer(x))
    y.sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.expand(2, 3))


def test_frozen_weights_and_no_gradients() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(4, 3, requires_grad=True)
    layer.requires_grad_(False)
    with gathering():
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, layer.weight.sum(0).expand(4, 3))
    with torch.inference_mode(), gathering():
        assert layer(x).shape == (4, 3)
