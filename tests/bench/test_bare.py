"""The plain loop computes what the model computes, and the bare calls make the same products."""

import pytest
import torch
from helpers import tiny_model

from hourglass.bench.bare import BareCalls, PlainLoop
from hourglass.bench.clock import count_operations
from hourglass.data.pieces import FIXED_PIECES
from hourglass.errors import UserError


@pytest.mark.parametrize(
    ("attention", "feeding"), [("luong_general", True), ("luong_general", False), ("bahdanau", False)]
)
def test_the_plain_loop_computes_what_the_model_computes(attention: str, feeding: bool) -> None:
    """With the model's weights, and a start state that does not depend on the source."""
    model = tiny_model(attention, {"decoder.input_feeding": feeding, "decoder.start": "zero"})
    loop = PlainLoop(model).double()
    weights = model.state_dict()
    places = {"source": "encoder.embedding", "target": "encoder.embedding", "keys": "decoder.attention.key_layer"}
    places |= {"encoder": "encoder.layers.0.weights", "decoder": "decoder.layers.0.weights"}
    places |= {"query": "decoder.attention.query_layer", "readout": "decoder.readout", "output": "output"}
    with torch.no_grad():
        for name, parameter in loop.named_parameters():
            place, dot, leaf = name.partition(".")
            key = f"{places[place]}.{leaf}" if dot else "decoder.attention.energy"
            if key in weights:
                parameter.copy_(weights[key])
            else:
                assert (key, attention) == ("decoder.attention.energy", "luong_general")
    target = torch.randint(FIXED_PIECES, 20, (3, 6))
    source, lengths = target[:, :4], torch.full((3,), 4)
    torch.testing.assert_close(loop(source, target), model(source, lengths, target))
    loss = model.loss(source, lengths, target)
    torch.testing.assert_close(loop.loss(source, lengths, target).nll, loss.nll)


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau", "none", "fixed"])
def test_the_bare_calls_make_the_products_of_the_model(attention: str) -> None:
    """All but a few: those of the summary and of the start state, one a sentence, and those of one padded input."""
    model = tiny_model(attention, {"encoder.hidden_size": 64, "decoder.hidden_size": 64, "decoder.start": "dense"})
    model, bare = model.float(), BareCalls(model.float())
    ids = torch.randint(FIXED_PIECES, 20, (3, 40))
    lengths = torch.full((3,), 40)
    whole = count_operations(lambda: model(ids, lengths, ids))
    assert 0.9 * whole < count_operations(lambda: bare(ids, ids)) <= whole


def test_a_model_without_bare_calls_is_refused() -> None:
    for attention in ("luong_dot", "luong_concat"):
        with pytest.raises(UserError, match=f"attention={attention}: bare calls are not implemented for this model"):
            BareCalls(tiny_model(attention))
