"""A gathered loop against the plain one: values and gradients, every attention and cell, in float64."""

import weakref
from typing import Any

import pytest
import torch
from conftest import ATTENTION_NAMES, tiny_model
from torch import Tensor, nn

from hourglass import decoder as decoder_file
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


def test_nothing_stays_when_the_graph_is_gone() -> None:
    """What a loop has noted goes with its graph, whether or not a backward pass was made."""
    layer = nn.Linear(3, 3)
    for backward in (True, False):
        x = torch.randn(4, 3)
        noted = weakref.ref(x)
        with gathering():
            y = layer(layer(x))
        if backward:
            y.sum().backward()
        del x, y
        assert noted() is None


def test_frozen_weights_and_no_gradients() -> None:
    layer, x = nn.Linear(3, 3), torch.randn(4, 3, requires_grad=True)
    layer.requires_grad_(False)
    with gathering():
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, layer.weight.sum(0).expand(4, 3))
    with torch.inference_mode(), gathering():
        assert layer(x).shape == (4, 3)
