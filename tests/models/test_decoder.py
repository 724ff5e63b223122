"""The decoder: one pass against the step loop, and each step against its equations.

Shapes: B batch, S source length, T target length, E embedding, H state, R readout, C context.
"""

import itertools
from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES, tiny_model
from torch import Tensor, nn

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.models.cells import CELLS as KINDS
from hourglass.models.decoder import DecoderState
from hourglass.models.recurrent import RecurrentLayer
from hourglass.models.seq2seq import Seq2Seq

QUERIES = ("previous", "current")
CELLS = ("lstm", "gru")
PARALLEL = ("min_gru", "min_lstm", "linear_attention", "mlstm", "delta_net", "selective_ssm")
UNREAD = ("none", "fixed", "mean")  # attentions whose context does not depend on the query
V = 20
SOURCE_LENGTHS = torch.tensor([6, 3, 5])
TARGET_LENGTHS = [4, 7, 5]
B, S, T = 3, 6, 7


def batch() -> tuple[Tensor, Tensor]:
    """Source [B, S] and target [B, T], from beginning-of-sentence, padded on the right."""
    source, target = torch.full((B, S), PAD), torch.full((B, T), PAD)
    for b, (s, t) in enumerate(zip(SOURCE_LENGTHS.tolist(), TARGET_LENGTHS, strict=True)):
        source[b, :s] = torch.tensor([*torch.randint(FIXED_PIECES, V, (s - 1,)).tolist(), EOS])
        target[b, :t] = torch.tensor([BOS, *torch.randint(FIXED_PIECES, V, (t - 1,)).tolist()])
    return source, target


def gradients(model: Seq2Seq, output: Tensor) -> dict[str, Tensor | None]:
    """Gradients of a fixed random projection of `output` by every weight."""
    towards = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(3))
    names, weights = zip(*model.named_parameters(), strict=True)
    result = torch.autograd.grad((output * towards).sum(), weights, allow_unused=True)
    return dict(zip(names, result, strict=True))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_one_pass_is_the_step_loop(attention: str, query: str, cell: str, layers: int) -> None:
    """Values, weights and gradients, wherever one pass is allowed; and it is allowed exactly where it is right."""
    changes = {"decoder.query": query, "decoder.cell": cell, "decoder.layers": layers}
    model = tiny_model(attention, changes)
    assert model.decoder.one_pass == (query == "current" or attention in UNREAD)
    if not model.decoder.one_pass:
        return
    source, target = batch()
    memory = model.encode(source, SOURCE_LENGTHS)
    embeddings_BTE = model.embedding(target)
    once, weights_once = model.decoder(embeddings_BTE, memory)
    loop, weights_loop = model.decoder(embeddings_BTE, memory, step_loop=True)
    torch.testing.assert_close(once, loop)
    torch.testing.assert_close(weights_once, weights_loop)

    first, other = (model(source, SOURCE_LENGTHS, target, step_loop) for step_loop in (False, True))
    torch.testing.assert_close(gradients(model, first), gradients(model, other))


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_unwanted_weights_are_made_a_few_at_a_time(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readouts are the same, from a part of the targets at a time, and no weights are returned."""
    model = tiny_model(attention, {"decoder.query": "current"})
    source, target = batch()
    memory, embeddings_BTE = model.encode(source, SOURCE_LENGTHS), model.embedding(target)
    whole, _ = model.decoder(embeddings_BTE, memory)
    limit = 2 * source.numel() * model.decoder.attention.heads  # Every head has weights.
    monkeypatch.setattr("hourglass.models.decoder.WEIGHTS_LIMIT", limit)
    queries: list[int] = []
    forward = type(model.decoder.attention).forward

    def counting(self: Any, query: Tensor, *rest: Any) -> Any:
        queries.append(query.shape[1])
        return forward(self, query, *rest)

    monkeypatch.setattr(type(model.decoder.attention), "forward", counting)
    blocks, weights = model.decoder(embeddings_BTE, memory, with_weights=False)
    torch.testing.assert_close(blocks, whole)
    assert weights is None
    assert max(queries) == 2
    assert sum(queries) == target.shape[1]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_input_feeding_forbids_one_pass(attention: str, query: str) -> None:
    model = tiny_model(attention, {"decoder.query": query, "decoder.input_feeding": True})
    assert not model.decoder.one_pass


def test_one_pass_takes_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise the test above would compare the step loop with itself.
    model = tiny_model()
    source, target = batch()
    steps: list[int] = []
    library = RecurrentLayer.step

    def counting(self: RecurrentLayer, *args: Any) -> Any:
        steps.append(1)
        return library(self, *args)

    monkeypatch.setattr(RecurrentLayer, "step", counting)
    model(source, SOURCE_LENGTHS, target)
    assert len(steps) == 0
    model(source, SOURCE_LENGTHS, target, step_loop=True)
    assert len(steps) == T * len(model.decoder.layers)


def affine(layer: Any, inputs: Tensor) -> Tensor:
    return inputs @ layer.weight.T + layer.bias


READOUTS = {
    "tanh": lambda layer, h, c, e: torch.tanh(affine(layer, torch.cat([h, c], -1))),  # Luong et al. 2015, equation 5
    "deep": lambda layer, h, c, e: torch.tanh(affine(layer, torch.cat([h, c, e], -1))),
    # t_j = max(u_2j-1, u_2j) (Bahdanau et al. 2014, appendix A.2.2)
    "maxout": lambda layer, h, c, e: torch.maximum(
        affine(layer, torch.cat([h, c, e], -1))[:, 0::2], affine(layer, torch.cat([h, c, e], -1))[:, 1::2]
    ),
    "state": lambda layer, h, c, e: h,
}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("attention", ["bahdanau", "fixed", "none", "luong_local_m"])
def test_steps_are_the_published_equations(attention: str, query: str, feeding: bool, cell: str, layers: int) -> None:
    """The order of the step, with torch's own cells: which context and which readout enter where."""
    changes = {"decoder.query": query, "decoder.input_feeding": feeding, "decoder.cell": cell, "decoder.layers": layers}
    model = tiny_model(attention, changes)
    decoder = model.decoder
    library: list[Any] = []
    for layer in decoder.layers:
        kind = nn.LSTMCell if cell == "lstm" else nn.GRUCell
        weights = {name.removesuffix("_l0"): weight for name, weight in layer.cell.weights.state_dict().items()}  # type: ignore[union-attr]
        twin = kind(weights["weight_ih"].shape[1], decoder.hidden_size).double()
        twin.load_state_dict(weights)
        library.append(twin)
    source, target = batch()
    memory = model.encode(source, SOURCE_LENGTHS)
    embeddings_BTE = model.embedding(target)
    outputs_BTR, _ = decoder(embeddings_BTE, memory)

    prepared = decoder.attention.prepare(memory)
    states: list[Any] = [state if cell == "lstm" else state[0] for state in decoder.start(memory).layers]

    def hidden(depth: int) -> Tensor:
        return states[depth][0] if cell == "lstm" else states[depth]

    def ask(t: int) -> Tensor:
        return decoder.attention(hidden(-1).unsqueeze(1), prepared, torch.tensor([t]))[0].squeeze(1)

    readout_BR = torch.zeros(B, decoder.readout_size, dtype=torch.double)
    for t in range(T):
        inputs = [embeddings_BTE[:, t]]
        if feeding:
            inputs.append(readout_BR)
        if query == "previous":
            context_BC = ask(t)
            inputs.append(context_BC)
        below = torch.cat(inputs, -1)
        for depth in range(layers):
            states[depth] = library[depth](below, states[depth])
            below = hidden(depth)
        if query == "current":
            context_BC = ask(t)
        readout_BR = READOUTS["tanh"](decoder.readout, below, context_BC, embeddings_BTE[:, t])
        torch.testing.assert_close(outputs_BTR[:, t], readout_BR)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("residual_from", [0, 2])
@pytest.mark.parametrize("context_to_all", [False, True])
@pytest.mark.parametrize("query_layer", ["top", "bottom"])
@pytest.mark.parametrize("query", QUERIES)
def test_orders_of_deep_stacks(
    query: str, query_layer: str, context_to_all: bool, residual_from: int, readout: str
) -> None:
    """Three layers of torch's own cell: which state is the query, and which layers read the context.

    Wu et al. 2016 (figure 1) and TensorFlow NMT's gnmt are previous, bottom, all; its gnmt_v2 is current, bottom, all.
    """
    changes = {
        "decoder.query": query,
        "decoder.query_layer": query_layer,
        "decoder.context_to_all": context_to_all,
        "decoder.residual_from": residual_from,
        "decoder.readout": readout,
        "decoder.layers": 3,
        "decoder.input_feeding": True,
    }
    if readout == "state":
        if query == "current" and not context_to_all:
            return  # Refused: nothing would read the context.
        changes |= {"decoder.readout_size": 16, "decoder.embedding_size": 16, "encoder.embedding_size": 16}
    model = tiny_model("luong_general", changes)
    decoder = model.decoder
    source, target = batch()
    memory = model.encode(source, SOURCE_LENGTHS)
    embeddings_BTE = model.embedding(target)
    outputs_BTR, _ = decoder(embeddings_BTE, memory)

    prepared = decoder.attention.prepare(memory)
    states = list(decoder.start(memory).layers)
    asks = {"top": 2, "bottom": 0}[query_layer]

    def ask(query_BH: Tensor, t: int) -> Tensor:
        return decoder.attention(query_BH.unsqueeze(1), prepared, torch.tensor([t]))[0].squeeze(1)

    readout_BR = torch.zeros(B, decoder.readout_size, dtype=torch.double)
    newest_BC = torch.zeros(B, decoder.attention.context_size, dtype=torch.double)
    for t in range(T):
        below = torch.cat([embeddings_BTE[:, t], readout_BR], -1)
        if query == "previous":
            newest_BC = ask(states[asks][0], t)
        for depth, layer in enumerate(decoder.layers):
            reads = context_to_all or (depth == 0 and query == "previous")
            weights = [weight for name, weight in layer.cell.weights.named_parameters()]  # type: ignore[union-attr]
            states[depth] = torch.lstm_cell(
                torch.cat([below, newest_BC], -1) if reads else below, states[depth], *weights
            )
            below = states[depth][0] + below if residual_from and depth >= residual_from - 1 else states[depth][0]
            if query == "current" and depth == asks:
                newest_BC = ask(below, t)
        readout_BR = READOUTS[readout](decoder.readout, below, newest_BC, embeddings_BTE[:, t])
        torch.testing.assert_close(outputs_BTR[:, t], readout_BR)


DEEP = {"decoder.layers": 3, "decoder.residual_from": 2}


@pytest.mark.parametrize(
    ("attention", "changes"),
    [
        ("luong_general", {"decoder.query": "current", "decoder.query_layer": "bottom"}),
        ("luong_general", {"decoder.query": "current", "decoder.readout": "maxout"}),
        ("mean", {"decoder.query": "previous", "decoder.context_to_all": True, "decoder.readout": "deep"}),
        ("fixed", {"decoder.query": "previous", "decoder.context_to_all": True, "decoder.readout": "maxout"}),
        ("none", {"decoder.query": "current", "decoder.context_to_all": True}),
        ("bahdanau", {"decoder.query": "current", "decoder.cell": "gru_cho"}),
        ("luong_local_p", {"decoder.query": "current", "decoder.cell": "lstm_normed"}),
        *(("luong_general", {"decoder.query": "current", "decoder.cell": cell}) for cell in PARALLEL),
    ],
)
def test_one_pass_of_deep_stacks_is_the_step_loop(attention: str, changes: dict[str, Any]) -> None:
    model = tiny_model(attention, DEEP | changes)
    assert model.decoder.one_pass
    source, target = batch()
    first, other = (model(source, SOURCE_LENGTHS, target, step_loop) for step_loop in (False, True))
    torch.testing.assert_close(first, other)
    torch.testing.assert_close(gradients(model, first), gradients(model, other))


def test_a_carried_context_forbids_one_pass() -> None:
    model = tiny_model(changes={"decoder.query": "current", "decoder.context_to_all": True})
    assert not model.decoder.one_pass


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_pass_starts_in_the_encoders_last_states(cell: str) -> None:
    """Layer by layer, both directions side by side, by torch's own stack."""
    parts = 2 if cell == "lstm" else 1
    layers = {"encoder.layers": 2, "decoder.layers": 2, "encoder.cell": cell, "decoder.cell": cell}
    model = tiny_model(changes={**layers, "decoder.start": "pass", "encoder.summary_size": 2 * parts * 16})
    encoder: Any = model.encoder
    source, _ = batch()
    started = model.decoder.start(model.encode(source, SOURCE_LENGTHS)).layers
    for b, length in enumerate(SOURCE_LENGTHS.tolist()):
        below = encoder.embedding(source[b : b + 1, :length])
        for depth, layer in enumerate(encoder.layers):
            library = nn.LSTM if cell == "lstm" else nn.GRU
            twin = library(below.shape[-1], 8, bidirectional=True, batch_first=True).double()
            stored = {name.removeprefix("weights."): weight for name, weight in layer.state_dict().items()}
            twin.load_state_dict(stored)
            below, final = twin(below)
            ends = final if cell == "lstm" else (final,)  # each [2, 1, 8]
            for ours, end in zip(started[depth], ends, strict=True):
                torch.testing.assert_close(ours[b], end.flatten())


@pytest.mark.parametrize(
    ("cell", "bidirectional"),
    [*((cell, False) for cell in PARALLEL), *((cell, True) for cell in ("min_gru", "min_lstm", "selective_ssm"))],
)
def test_pass_hands_every_part_of_a_state_over(cell: str, bidirectional: bool) -> None:
    """A sentence alone, by the steps of each direction; two directions lie side by side in the last dimension."""
    changes = {"encoder.cell": cell, "decoder.cell": cell, "encoder.bidirectional": bidirectional}
    size = KINDS[cell].state_size(16)
    model = tiny_model(changes={**changes, "decoder.start": "pass", "encoder.summary_size": size})
    encoder: Any = model.encoder
    source, _ = batch()
    (started,) = model.decoder.start(model.encode(source, SOURCE_LENGTHS)).layers
    for b, length in enumerate(SOURCE_LENGTHS.tolist()):
        ends = []
        for backward, single in enumerate(encoder.layers[0].directions):
            embedded = encoder.embedding(source[b : b + 1, :length])
            state = single.zero_state(1, embedded)
            for t in reversed(range(length)) if backward else range(length):
                _, state = single.step(embedded[:, t], state)
            ends.append(state)
        for ours, parts in zip(started, zip(*ends, strict=True), strict=True):
            torch.testing.assert_close(ours[b], torch.cat(parts, -1)[0])


def test_input_feeding_feeds() -> None:
    model = tiny_model(changes={"decoder.input_feeding": True})
    source, target = batch()
    memory = model.encode(source, SOURCE_LENGTHS)
    prepared = model.decoder.attention.prepare(memory)
    start = model.decoder.start(memory)
    assert not start.feed.any()
    embedding_BE = model.embedding(target[:, 0])
    output, after, _ = model.decoder.step(embedding_BE, start, prepared, 0)
    assert torch.equal(after.feed, output)
    fed, _, _ = model.decoder.step(embedding_BE, after, prepared, 1)
    unfed, _, _ = model.decoder.step(embedding_BE, after._replace(feed=torch.zeros_like(output)), prepared, 1)
    assert not torch.allclose(fed, unfed)


@pytest.mark.parametrize("cell", CELLS)
def test_dense_start_is_a_map_of_the_summary(cell: str) -> None:
    """tanh(W summary + b) for h; an LSTM's c without the tanh."""
    model = tiny_model(changes={"decoder.cell": cell, "decoder.layers": 2})
    decoder = model.decoder
    memory = model.encode(batch()[0], SOURCE_LENGTHS)
    assert decoder.bridge is not None
    mapped = memory.summary @ decoder.bridge.weight.T + decoder.bridge.bias  # [B, layers * parts * H]
    blocks = iter(mapped.split(decoder.hidden_size, -1))
    for layer in decoder.start(memory).layers:
        torch.testing.assert_close(layer[0], next(blocks).tanh())
        for cell_part in layer[1:]:
            torch.testing.assert_close(cell_part, next(blocks))
    assert next(blocks, None) is None


@pytest.mark.parametrize("attention", [name for name in ATTENTION_NAMES if name not in ("none", "fixed")])
def test_zero_start_shuts_the_summary_out(attention: str) -> None:
    """With attention and a zero start nothing of the source comes but by the states."""
    model = tiny_model(attention, {"decoder.start": "zero"})
    memory = model.encode(batch()[0], SOURCE_LENGTHS)
    assert memory.summary.shape == (B, 0)
    assert not any(part.any() for layer in model.decoder.start(memory).layers for part in layer)


def test_zero_start_leaves_the_fixed_context() -> None:
    model = tiny_model("fixed", {"decoder.start": "zero"})
    source, target = batch()
    memory = model.encode(source, SOURCE_LENGTHS)
    assert not any(part.any() for layer in model.decoder.start(memory).layers for part in layer)
    other = memory._replace(summary=memory.summary + 1)
    first, second = (model.scores(model.readouts(target, each)) for each in (memory, other))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("cell", CELLS)
def test_select_reorders_everything_carried(cell: str) -> None:
    parts = 2 if cell == "lstm" else 1
    layers = tuple(tuple(torch.randn(5, 3) for _ in range(parts)) for _ in range(2))
    state = DecoderState(layers, torch.randn(5, 4), torch.randn(5, 2))
    order = [3, 3, 0]
    selected = state.select(torch.tensor(order))
    for row, origin in enumerate(order):
        assert torch.equal(selected.feed[row], state.feed[origin])
        assert torch.equal(selected.context[row], state.context[origin])
        for layer, old in zip(selected.layers, state.layers, strict=True):
            assert all(torch.equal(part[row], before[origin]) for part, before in zip(layer, old, strict=True))


VARIANTS = list(itertools.product(ATTENTION_NAMES, QUERIES, [False, True]))


@pytest.mark.parametrize("cell", ["lstm", "gru_cho"])
@pytest.mark.parametrize(("attention", "query", "feeding"), VARIANTS)
def test_the_loop_is_the_plain_steps(attention: str, query: str, feeding: bool, cell: str) -> None:
    """What is computed ahead, afterwards or at once for all steps changes neither values nor gradients."""
    changes = {"decoder.query": query, "decoder.input_feeding": feeding, "decoder.cell": cell}
    model = tiny_model(
        attention, {**changes, "decoder.readout": "maxout", "decoder.context_to_all": query == "current"}
    )
    source, target = batch()
    embeddings_BTE, memory = model.embedding(target), model.encode(source, SOURCE_LENGTHS)
    prepared, state = model.decoder.attention.prepare(memory), model.decoder.start(memory)
    outputs, weights = [], []
    for t in range(T):
        output, state, weight = model.decoder.step(embeddings_BTE[:, t], state, prepared, t)
        outputs.append(output)
        weights.append(weight)
    steps = torch.stack(outputs, 1)
    expected = gradients(model, steps @ model.output.weight.T)
    for step_loop in (False, True):
        read, weights_read = model.decoder(model.embedding(target), model.encode(source, SOURCE_LENGTHS), step_loop)
        torch.testing.assert_close(read, steps)
        if weights_read is not None:
            torch.testing.assert_close(weights_read, torch.stack(weights, 1))  # type: ignore[arg-type]
        torch.testing.assert_close(gradients(model, read @ model.output.weight.T), expected)


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_cho", "lstm_normed", *PARALLEL])
@pytest.mark.parametrize("feeding", [False, True])
def test_a_token_may_stand_for_many_rows(feeding: bool, cell: str) -> None:
    changes = {"decoder.input_feeding": feeding, "decoder.cell": cell, "decoder.readout": "deep"}
    model = tiny_model("bahdanau", changes)
    memory = model.encode(batch()[0], SOURCE_LENGTHS)
    prepared, state = model.decoder.attention.prepare(memory), model.decoder.start(memory)
    last = torch.tensor([7, 9, 7])
    pieces, rows = last.unique(return_inverse=True)
    assert len(pieces) == 2
    plain = model.decoder.step(model.embedding(last), state, prepared, 2)
    torch.testing.assert_close(model.decoder.step(model.embedding(pieces), state, prepared, 2, rows=rows), plain)


@pytest.mark.parametrize(("attention", "query", "feeding"), VARIANTS)
def test_beams_are_rows_of_their_own(attention: str, query: str, feeding: bool) -> None:
    """K rows of a sentence, stepped together, are K steps of that sentence alone."""
    model = tiny_model(attention, {"decoder.query": query, "decoder.input_feeding": feeding})
    beams, t = 2, 3
    source = batch()[0]
    memory = model.encode(source, SOURCE_LENGTHS)
    prepared = model.decoder.attention.prepare(memory)
    rows = torch.arange(B).repeat_interleave(beams)
    embedding_NE = torch.randn(B * beams, model.embedding.embedding_dim, dtype=torch.double)
    state = model.decoder.start(memory).select(rows)
    state = DecoderState(
        tuple(tuple(torch.randn_like(part) for part in layer) for layer in state.layers),
        torch.randn_like(state.feed),
        torch.randn_like(state.context),
    )
    output, after, weights = model.decoder.step(embedding_NE, state, prepared, t)
    for n, b in enumerate(rows.tolist()):
        row = torch.tensor([n])
        item = model.decoder.attention.prepare(model.encode(source, SOURCE_LENGTHS)).keep_sentences(torch.tensor([b]))
        alone = model.decoder.step(embedding_NE[row], state.select(row), item, t)
        expected_weights = None if weights is None else weights[row]
        torch.testing.assert_close(alone[0], output[row])
        torch.testing.assert_close(alone[1], after.select(row))
        torch.testing.assert_close(alone[2], expected_weights)


@pytest.mark.parametrize(("attention", "query", "feeding"), VARIANTS)
def test_the_whole_model_minds_neither_padding_nor_neighbours(attention: str, query: str, feeding: bool) -> None:
    model = tiny_model(attention, {"decoder.query": query, "decoder.input_feeding": feeding, "encoder.layers": 2})
    source, target = batch()
    order = torch.tensor([2, 0, 1])
    logits_BTV = model(source, SOURCE_LENGTHS, target)
    wider = torch.cat([source, torch.full((B, 2), 9)], 1)  # more padding, of another id
    reordered = model(wider[order], SOURCE_LENGTHS[order], target[order])
    torch.testing.assert_close(reordered, logits_BTV[order])
    for b, (s, t) in enumerate(zip(SOURCE_LENGTHS.tolist(), TARGET_LENGTHS, strict=True)):
        alone = model(source[b : b + 1, :s], SOURCE_LENGTHS[b : b + 1], target[b : b + 1, :t])
        torch.testing.assert_close(logits_BTV[b, :t], alone[0])


@pytest.mark.parametrize(("attention", "query", "feeding"), VARIANTS)
def test_a_step_sees_no_later_target(attention: str, query: str, feeding: bool) -> None:
    model = tiny_model(attention, {"decoder.query": query, "decoder.input_feeding": feeding})
    source, target = batch()
    changed = target.clone()
    changed[:, 3] = (changed[:, 3] + 1) % V
    first, other = model(source, SOURCE_LENGTHS, target), model(source, SOURCE_LENGTHS, changed)
    torch.testing.assert_close(first[:, :3], other[:, :3], rtol=0, atol=0)
    assert not torch.isclose(first[:, 3], other[:, 3]).all(-1).any()
