"""Every attention variant of conf/attention against its published equation, written out in plain Python.

To add a variant, write its equation here under its name: without one `test_weights_are_the_equation` fails.
Shapes: B batch, T queries, S source length, H query width, M memory width, D summary width.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES as NAMES
from helpers import CONF
from omegaconf import OmegaConf
from torch import Tensor

from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.models import attention as attention_module
from hourglass.models.attention import ATTENTIONS, Attention, Sizes
from hourglass.models.encoder import Memory, mask_of

Vector = list[float]
WEIGHTED = [name for name in NAMES if name not in ("none", "fixed")]
SMALL = {"size": 3, "window": 2, "longest_source": 20, "heads": 3}
B, T, S, D = 3, 8, 7, 4
LENGTHS = torch.tensor([7, 4, 1])
STEPS = torch.arange(T)  # beyond the end of every sentence
# Variants to test as (name, further options): every config as it is, and the other content score of the local ones.
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NAMES]
CASES += [(name, {"score": "dot"}) for name in ("luong_local_m", "luong_local_p")]


def make(name: str, memory_size: int | None = None, **changes: Any) -> Attention:
    """Build a variant from its config with small sizes and no weight at a special value, in float64."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / "attention" / f"{name}.yaml"))
    options = {key: SMALL.get(key, value) for key, value in options.items()} | changes
    assert options.pop("name") == name
    del options["query"]  # the decoder's
    dots = name == "luong_dot" or options.get("score") == "dot"
    sizes = Sizes(query=5, memory=memory_size or (5 if dots else 6), summary=D)
    made = build(ATTENTIONS[name], options, "attention", sizes=sizes).double()
    for weight in made.parameters():
        torch.nn.init.normal_(weight)
    return made


def memory_for(attention: Attention, longest: int = S, filler: float = 50.0) -> Memory:
    """Random states, the same for the same seed, with `filler` at padding."""
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(B, S, attention.sizes.memory, dtype=torch.double, generator=generator)
    summary = torch.randn(B, D, dtype=torch.double, generator=generator)
    states = torch.cat([states, states.new_zeros(B, longest - S, attention.sizes.memory)], 1)
    mask = mask_of(LENGTHS, longest)
    return Memory(states.masked_fill(~mask.unsqueeze(-1), filler), mask, LENGTHS, summary)


def queries(attention: Attention, t: int = T) -> Tensor:
    return torch.randn(B, t, attention.sizes.query, dtype=torch.double)


# --- The equations: weights of one query over one sentence's states, as published. ---


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def times(matrix: list[Vector], vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix]


def softmax(scores: Vector) -> Vector:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def bahdanau(a: Any, q: Vector, k: Vector) -> float:
    """v . tanh(W q + U k)."""
    from_q, from_k = times(a.query_layer.weight.tolist(), q), times(a.key_layer.weight.tolist(), k)
    return dot(a.energy.tolist(), [math.tanh(x + y) for x, y in zip(from_q, from_k, strict=True)])


def bahdanau_normed(a: Any, q: Vector, k: Vector) -> float:
    """g v/|v| . tanh(W q + U k + b)."""
    from_q, from_k = times(a.query_layer.weight.tolist(), q), times(a.key_layer.weight.tolist(), k)
    inner = [math.tanh(x + y + b) for x, y, b in zip(from_q, from_k, a.bias.tolist(), strict=True)]
    v = a.energy.tolist()
    return a.scale.item() * dot(v, inner) / math.sqrt(dot(v, v))


def concat(a: Any, q: Vector, k: Vector) -> float:
    """v . tanh(W [q; k]), with one W."""
    w = [x + y for x, y in zip(a.query_layer.weight.tolist(), a.key_layer.weight.tolist(), strict=True)]
    return dot(a.energy.tolist(), [math.tanh(x) for x in times(w, q + k)])


def general(a: Any, q: Vector, k: Vector) -> float:
    """q . W k."""
    return dot(q, times(a.key_layer.weight.tolist(), k))


def content(score: Callable[[Any, Vector, Vector], float]) -> Callable[..., Vector]:
    """Return the weights of a score that looks at the query and one state: softmax over the sentence."""
    return lambda a, q, states, t: softmax([score(a, q, k) for k in states])


def location(a: Any, q: Vector, states: list[Vector], t: int) -> Vector:
    """W q, a row of W for each position."""
    return softmax(times(a.position_layer.weight.tolist(), q)[: len(states)])


def in_window(a: Any, q: Vector, states: list[Vector], centre: float) -> Vector:
    score = dot if type(a.content).__name__ == "DotAttention" else lambda q, k: general(a.content, q, k)
    inside = [s for s in range(len(states)) if centre - SMALL["window"] <= s <= centre + SMALL["window"]]
    weights = dict(zip(inside, softmax([score(q, states[s]) for s in inside]), strict=True))
    return [weights.get(s, 0.0) for s in range(len(states))]


def local_m(a: Any, q: Vector, states: list[Vector], t: int) -> Vector:
    """A window round t."""
    return in_window(a, q, states, min(t, len(states) - 1))


def local_p(a: Any, q: Vector, states: list[Vector], t: int) -> Vector:
    """A window round S sigmoid(v . tanh(W q)); the Gaussian of deviation D/2 after the softmax."""
    hidden, v = a.predictor[0].weight.tolist(), a.predictor[2].weight.tolist()[0]
    centre = len(states) / (1 + math.exp(-dot(v, [math.tanh(x) for x in times(hidden, q)])))
    deviation = SMALL["window"] / 2
    weights = in_window(a, q, states, centre)
    return [w * math.exp(-((s - centre) ** 2) / (2 * deviation**2)) for s, w in enumerate(weights)]


def of_heads(a: Any, q: Vector, states: list[Vector]) -> list[Vector]:
    """softmax((W_n q) . (U_n k) / sqrt(A)), for each head n; a head has A rows of W and U."""
    size = len(q_rows := a.query_layer.weight.tolist()) // a.heads
    k_rows = a.key_layer.weight.tolist()
    weights = []
    for first in range(0, len(q_rows), size):
        head = slice(first, first + size)
        query = times(q_rows[head], q)
        weights.append(softmax([dot(query, times(k_rows[head], k)) / math.sqrt(size) for k in states]))
    return weights


def multi_head(a: Any, q: Vector, states: list[Vector], t: int) -> Vector:
    """The mean over the heads."""
    return [sum(column) / a.heads for column in zip(*of_heads(a, q, states), strict=True)]


def multi_head_context(a: Any, q: Vector, states: list[Vector]) -> Vector:
    """O [head_1; ...; head_N], head_n = weights_n (V_n k)."""
    size, v_rows, heads = len(states[0]) // a.heads, a.value_layer.weight.tolist(), []
    for n, weights in enumerate(of_heads(a, q, states)):
        values = [times(v_rows[n * size : (n + 1) * size], k) for k in states]
        heads += [dot(weights, list(column)) for column in zip(*values, strict=True)]
    return times(a.output_layer.weight.tolist(), heads)


EQUATIONS: dict[str, Callable[..., Vector]] = {
    "mean": lambda a, q, states, t: [1 / len(states)] * len(states),
    "bahdanau": content(bahdanau),
    "bahdanau_normed": content(bahdanau_normed),
    "luong_dot": content(lambda a, q, k: dot(q, k)),
    "luong_scaled": content(lambda a, q, k: a.scale.item() * general(a, q, k)),
    "luong_general": content(general),
    "luong_concat": content(concat),
    "luong_location": location,
    "multi_head": multi_head,
    "luong_local_m": local_m,
    "luong_local_p": local_p,
}


def test_configs_and_classes_are_the_same_variants() -> None:
    assert sorted(ATTENTIONS) == NAMES


@pytest.mark.parametrize(("name", "changes"), [case for case in CASES if case[0] in WEIGHTED])
def test_weights_are_the_equation(name: str, changes: dict[str, Any]) -> None:
    """Weights and context of every query, padded source, steps past the end of the sentence."""
    assert name in EQUATIONS, f"conf/attention/{name}.yaml: write its equation into EQUATIONS"
    attention = make(name, **changes)
    memory, query_BTH = memory_for(attention), queries(attention)
    context_BTM, weights_BTS = attention(query_BTH, attention.prepare(memory), STEPS)
    assert weights_BTS is not None
    assert context_BTM.shape == (B, T, attention.context_size)
    for b, length in enumerate(LENGTHS.tolist()):
        states = memory.states[b, :length].tolist()
        for t in range(T):
            expected = EQUATIONS[name](attention, query_BTH[b, t].tolist(), states, t)
            mixed = [dot(expected, list(column)) for column in zip(*states, strict=True)]
            if name == "multi_head":  # Each head mixes values of its own.
                mixed = multi_head_context(attention, query_BTH[b, t].tolist(), states)
            torch.testing.assert_close(weights_BTS[b, t].tolist(), expected + [0.0] * (S - length))
            torch.testing.assert_close(context_BTM[b, t].tolist(), mixed)


def test_multi_head_is_the_librarys() -> None:
    """torch's own attention with the same weights, where queries and states have one width, as it wants."""
    attention: Any = build(ATTENTIONS["multi_head"], {"heads": 3}, "attention", sizes=Sizes(6, 6, D)).double()
    library = torch.nn.MultiheadAttention(6, 3, bias=False, batch_first=True).double()
    inputs = [layer.weight for layer in (attention.query_layer, attention.key_layer, attention.value_layer)]
    library.load_state_dict({"in_proj_weight": torch.cat(inputs), "out_proj.weight": attention.output_layer.weight})
    memory, query_BTH = memory_for(attention), queries(attention)
    expected = library(query_BTH, memory.states, memory.states, key_padding_mask=~memory.mask)
    torch.testing.assert_close(attention(query_BTH, attention.prepare(memory), STEPS), expected)


def test_multi_head_refuses_heads_that_do_not_divide_the_states() -> None:
    refused = r"^attention\.heads=4 does not divide encoder\.hidden_size=6: set attention\.heads=3, or .* multiple of 4"
    with pytest.raises(UserError, match=refused):
        make("multi_head", heads=4)


def test_none_gives_nothing() -> None:
    attention = make("none")
    context, weights = attention(queries(attention), attention.prepare(memory_for(attention)), STEPS)
    assert attention.context_size == 0
    assert context.shape == (B, T, 0)
    assert weights is None


def test_fixed_gives_the_summary_at_every_step() -> None:
    attention = make("fixed")
    memory = memory_for(attention)
    context, weights = attention(queries(attention), attention.prepare(memory), STEPS)
    assert attention.context_size == D
    for t in range(T):
        torch.testing.assert_close(context[:, t], memory.summary)
    assert weights is None


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_padding_is_invisible(name: str, changes: dict[str, Any]) -> None:
    attention = make(name, **changes)
    query_BTH = queries(attention)
    plain, weights = attention(query_BTH, attention.prepare(memory_for(attention)), STEPS)
    # Other states at padding, and more padding.
    other = memory_for(attention, longest=S + 4, filler=-9.0)
    same, wider = attention(query_BTH, attention.prepare(other), STEPS)
    torch.testing.assert_close(plain, same)
    if weights is None:
        return
    assert wider is not None
    torch.testing.assert_close(wider[..., :S], weights)
    assert not wider[~other.mask.unsqueeze(1).expand_as(wider)].any()
    total = weights.sum(-1)
    if name == "luong_local_p":  # The Gaussian comes after the softmax, and nothing is normalised again.
        assert total.lt(1).all()
        assert total.gt(0).all()
    else:
        torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", NAMES)
def test_reads_query_is_whether_the_query_matters(name: str) -> None:
    # A wrong flag would let the decoder read a target in one pass where it may not.
    attention = make(name)
    prepared = attention.prepare(memory_for(attention))
    first, other = (attention(queries(attention), prepared, STEPS)[0] for _ in range(2))
    assert attention.reads_query == (not torch.equal(first, other))


@pytest.mark.parametrize("name", NAMES)
def test_selected_sentences_keep_their_context(name: str) -> None:
    attention = make(name)
    query_BTH, prepared = queries(attention), attention.prepare(memory_for(attention))
    index = torch.tensor([2, 0])
    whole, _ = attention(query_BTH, prepared, STEPS)
    selected, _ = attention(query_BTH[index], prepared.keep_sentences(index), STEPS)
    torch.testing.assert_close(selected, whole[index])


@pytest.mark.parametrize("limit", [1, 3 * 7 * 3 * 3])  # one step at a time; three (B * S * A elements a step)
@pytest.mark.parametrize("name", ["bahdanau", "bahdanau_normed", "luong_concat"])
def test_cutting_additive_scores_changes_nothing(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and the gradients of queries, states and weights."""
    attention = make(name)
    states = memory_for(attention).states.requires_grad_()
    memory = memory_for(attention)._replace(states=states)
    query_BTH = queries(attention).requires_grad_()
    towards: Tensor | None = None
    pieces = 0
    library = attention_module.checkpoint

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal pieces
        pieces += 1
        return library(*args, **kwargs)

    monkeypatch.setattr(attention_module, "checkpoint", counting)
    results = []
    for elements in (attention_module.ADDITIVE_LIMIT, limit):
        monkeypatch.setattr(attention_module, "ADDITIVE_LIMIT", elements)
        context, _ = attention(query_BTH, attention.prepare(memory), STEPS)
        towards = torch.randn_like(context) if towards is None else towards
        inputs = (query_BTH, states, *attention.parameters())
        results.append((context, torch.autograd.grad((context * towards).sum(), inputs)))
    assert pieces == math.ceil(T / max(1, limit // (B * S * SMALL["size"])))
    torch.testing.assert_close(results[0], results[1])


def test_local_windows_are_exact_in_16_bits() -> None:
    """Past position 256 bfloat16 no longer holds every whole number: positions must not be computed in it."""
    length, window = 700, SMALL["window"]
    for name in ("luong_local_m", "luong_local_p"):
        attention: Any = make(name, score="dot").to(torch.bfloat16)
        lengths = torch.tensor([length])
        states = torch.randn(1, length, attention.sizes.memory, dtype=torch.bfloat16)
        memory = Memory(states, mask_of(lengths, length), lengths, states.new_zeros(1, D))
        query = torch.randn(1, 40, attention.sizes.query, dtype=torch.bfloat16)
        steps = torch.arange(600, 640)
        _, weights = attention(query, attention.prepare(memory), steps)
        if name == "luong_local_m":
            centres = steps.tolist()
        else:
            centres = [length / (1 + math.exp(-share)) for share in attention.predictor(query).flatten().tolist()]
        for t, centre in enumerate(centres):
            expected = [s for s in range(length) if abs(s - centre) <= window]
            assert weights[0, t].nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("name", ["luong_dot"])
def test_dot_refuses_unequal_widths(name: str) -> None:
    with pytest.raises(UserError, match=rf"attention={name}.*hidden_size=5.*hidden_size=6.*attention=luong_general"):
        make(name, memory_size=6)


@pytest.mark.parametrize("name", ["luong_local_m", "luong_local_p"])
def test_local_with_dot_refuses_unequal_widths(name: str) -> None:
    with pytest.raises(UserError, match=rf"attention={name}.*hidden_size=5.*hidden_size=6.*attention\.score=general"):
        make(name, memory_size=6, score="dot")


def test_location_refuses_longer_input_and_takes_the_longest() -> None:
    attention = make("luong_location", longest_source=S - 1)
    with pytest.raises(UserError, match=r"6 source positions.*7 tokens: set attention\.longest_source=7"):
        attention.prepare(memory_for(attention))
    attention = make("luong_location", longest_source=S)
    context, _ = attention(queries(attention), attention.prepare(memory_for(attention)), STEPS)
    assert context.shape == (B, T, attention.context_size)


@pytest.mark.parametrize("name", WEIGHTED)
def test_scores_need_states_to_score(name: str) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "attention" / f"{name}.yaml"))
    del config["name"], config["query"]
    with pytest.raises(UserError, match=rf"attention={name}.*encoder=blind has none: set attention=none"):
        build(ATTENTIONS[name], config, "attention", sizes=Sizes(query=5, memory=0, summary=D))
