"""Greedy and beam search against plain searches that read whole prefixes again at every step, sentence by sentence.

The references (src/hourglass/bench/plain_search.py) have no decoder states, row reordering or batches: each computes
the distribution after every prefix by teacher forcing.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from helpers import plain_search, tiny_model
from torch import Tensor

from hourglass.bench.plain_search import next_log_probabilities, penalised_score, plain_beam_search
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD, UNK
from hourglass.decoding.search import (
    BLOCK,
    UNCOVERED,
    Hypothesis,
    SearchSettings,
    _best_continuations,
    _close_up,
    coverage_penalty,
    length_penalty,
    n_best,
    search,
)
from hourglass.errors import UserError
from hourglass.models.attention import PreparedMemory
from hourglass.models.decoder import Decoder
from hourglass.models.seq2seq import Seq2Seq

# Marks of the siblings of a test that .ci/run leaves out.
MORE = [pytest.mark.slow, pytest.mark.more]

V = 9  # four fixed pieces and five more
LENGTHS = torch.tensor([5, 2, 7, 4, 1, 6])
B, S = 6, 7
# Attention, and how the decoder asks and feeds.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("none", {}),
    ("fixed", {"decoder.cell": "gru"}),
    ("mean", {"decoder.query": "previous", "decoder.input_feeding": True}),
    ("bahdanau", {}),
    ("bahdanau_normed", {"decoder.cell": "gru", "decoder.input_feeding": True}),
    ("luong_general", {"decoder.input_feeding": True, "decoder.layers": 2}),
    ("luong_concat", {}),
    ("luong_location", {}),
    ("luong_local_m", {}),
    ("luong_local_p", {"decoder.query": "previous"}),
    ("bahdanau", {"decoder.copy": True, "attention.coverage": True}),
    ("luong_general", {"decoder.copy": True, "decoder.input_feeding": True}),
    ("luong_local_p", {"decoder.copy": True}),
]


def settings(beam: int, alpha: float = 1.0, **changes: Any) -> SearchSettings:
    return plain_search(beam, length_penalty=alpha, **changes)


def model_for(attention: str = "luong_general", changes: dict[str, Any] | None = None, ends: float = -1.0) -> Seq2Seq:
    """A model with opinions; `ends` moves the score of end-of-sentence, and so the lengths."""
    model = tiny_model(attention, changes, vocabulary=V, spread=0.7)
    with torch.no_grad():
        model.output.bias[EOS] += ends
    return model


def sources() -> Tensor:
    source = torch.full((B, S), PAD)
    for b, n in enumerate(LENGTHS.tolist()):
        source[b, :n] = torch.tensor([*torch.randint(FIXED_PIECES, V, (n - 1,)).tolist(), EOS])
    return source


def assert_same(result: Hypothesis, expected: Hypothesis) -> None:
    assert (result.tokens, result.finished) == (expected.tokens, expected.finished)
    assert result.log_probability == pytest.approx(expected.log_probability, abs=1e-9)
    assert result.score == pytest.approx(expected.score, abs=1e-9)


def plain_greedy(model: Seq2Seq, source_S: Tensor, limit: int) -> tuple[list[int], bool]:
    tokens: list[int] = []
    for _ in range(limit):
        row = next_log_probabilities(model, source_S, [tokens])[0]
        token = max((v for v in range(V) if v not in (PAD, BOS)), key=row.__getitem__)
        if token == EOS:
            return tokens, True
        tokens.append(token)
    return tokens, False


@pytest.mark.parametrize(("attention", "changes"), VARIANTS)
def test_greedy_is_a_plain_loop(attention: str, changes: dict[str, Any]) -> None:
    model, source, options = model_for(attention, changes), sources(), settings(1)
    for b, result in enumerate(search(model, source, LENGTHS, options)):
        tokens, finished = plain_greedy(model, source[b], options.limit(int(LENGTHS[b])))
        assert (result.tokens, result.finished) == (tokens, finished)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize(("attention", "changes"), VARIANTS)
def test_beam_is_a_plain_beam(attention: str, changes: dict[str, Any], beam: int, alpha: float) -> None:
    model, source, options = model_for(attention, changes), sources(), settings(beam, alpha)
    for b, result in enumerate(search(model, source, LENGTHS, options)):
        assert_same(result, plain_beam_search(model, source[b], options.limit(int(LENGTHS[b])), beam, alpha))


def test_the_comparisons_above_see_all_kinds_of_outcome() -> None:
    """Otherwise they could pass on a search that always ends at once, for example."""
    outcomes: list[Hypothesis] = []
    for attention, changes in VARIANTS:
        torch.manual_seed(0)
        outcomes += search(model_for(attention, changes), sources(), LENGTHS, settings(4))
    assert {True, False} == {hypothesis.finished for hypothesis in outcomes}
    assert len({len(hypothesis.tokens) for hypothesis in outcomes}) > 8
    assert len({tuple(hypothesis.tokens) for hypothesis in outcomes}) > 20


def all_finished(model: Seq2Seq, source_S: Tensor, usable: list[int], limit: int, alpha: float) -> list[Hypothesis]:
    """Every sequence of usable tokens that ends within the limit."""
    every = []
    for length in range(limit):
        prefixes = [list(tokens) for tokens in itertools.product(usable, repeat=length)]
        totals = [0.0] * len(prefixes)
        for t in range(length + 1):
            rows = next_log_probabilities(model, source_S, [tokens[:t] for tokens in prefixes])
            for i, (row, tokens) in enumerate(zip(rows, prefixes, strict=True)):
                totals[i] += row[[*tokens, EOS][t]]
        for tokens, total in zip(prefixes, totals, strict=True):
            every.append(Hypothesis(tokens, total, penalised_score(total, length + 1, alpha), True))
    return every


PREFIXES = [[UNK, FIXED_PIECES], [], [FIXED_PIECES + 1], [FIXED_PIECES] * 2, [UNK], []]


def all_continuations(
    model: Seq2Seq, source_S: Tensor, prefix: list[int], limit: int, alpha: float
) -> list[Hypothesis]:
    """Every sequence of three tokens after the prefix that ends within the limit; only what follows it is scored."""
    every = []
    for length in range(limit - len(prefix)):
        for tokens in itertools.product([UNK, FIXED_PIECES, FIXED_PIECES + 1], repeat=length):
            read, total = list(prefix), 0.0
            for token in (*tokens, EOS):
                total += next_log_probabilities(model, source_S, [read])[0][token]
                read.append(token)
            every.append(Hypothesis(read[:-1], total, penalised_score(total, length + 1, alpha), True))
    return every


@pytest.mark.parametrize("attention", ["luong_general", "luong_local_m"])
def test_an_exhaustive_beam_finds_the_best_of_all_continuations_of_a_prefix(attention: str) -> None:
    limit, alpha = 4, 0.6
    options = settings(4 * 3 ** (limit - 1), alpha, output_most=limit)
    model = model_for(attention, {"decoder.input_feeding": True})
    with torch.no_grad():
        model.output.bias[FIXED_PIECES + 2 :] = -1e9
    source = sources()
    for b, result in enumerate(search(model, source, LENGTHS, options, prefixes=PREFIXES)):
        every = all_continuations(model, source[b], PREFIXES[b], limit, alpha)
        assert_same(result, max(every, key=lambda hypothesis: hypothesis.score))


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_of_one_sentence_leaves_the_others_as_they_are(beam: int) -> None:
    model, source, options = model_for("bahdanau"), sources(), settings(beam)
    alone = search(model, source, LENGTHS, options)
    assert search(model, source, LENGTHS, options, prefixes=[[]] * B) == alone
    mixed = search(model, source, LENGTHS, options, prefixes=[[], [], [FIXED_PIECES] * 3, [], [], []])
    for b, (result, expected) in enumerate(zip(mixed, alone, strict=True)):
        if b == 2:
            assert result.tokens[:3] == [FIXED_PIECES] * 3
        else:
            assert_same(result, expected)
    # A greedy search that is given its own first pieces goes on as it did.
    (greedy,) = search(model, source[2:3], LENGTHS[2:3], settings(1))
    (again,) = search(model, source[2:3], LENGTHS[2:3], settings(1), prefixes=[greedy.tokens[:2]])
    assert (again.tokens, again.finished) == (greedy.tokens, greedy.finished)
    assert again.log_probability > greedy.log_probability


def test_a_prefix_without_room_for_a_piece_is_refused() -> None:
    options = settings(2, output_most=3)
    with pytest.raises(
        UserError, match=r"the prefix has 3 pieces and the translation may have 3, .*search.output_most"
    ):
        search(model_for(), sources(), LENGTHS, options, prefixes=[[], [FIXED_PIECES] * 3, [], [], [], []])


@pytest.mark.parametrize("alpha", [0.6, *(pytest.param(alpha, marks=MORE) for alpha in (0.0, 2.0))])
def test_an_exhaustive_beam_finds_the_best_of_all_sequences(alpha: float) -> None:
    """Brute force over a vocabulary of three tokens and end-of-sentence, with a beam that holds every prefix."""
    usable, limit = [UNK, FIXED_PIECES, FIXED_PIECES + 1], 4
    options = settings(4 * 3 ** (limit - 1), alpha, output_most=limit)
    lengths_found = set()
    for attention, changes in VARIANTS:
        if changes.get("decoder.copy"):  # It can copy what it never generates.
            continue
        model = model_for(attention, changes)
        with torch.no_grad():
            model.output.bias[FIXED_PIECES + 2 :] = -1e9
        source = sources()
        for b, result in enumerate(search(model, source, LENGTHS, options)):
            every = all_finished(model, source[b], usable, limit, alpha)
            assert_same(result, max(every, key=lambda hypothesis: hypothesis.score))
            lengths_found.add(len(result.tokens))
    assert len(lengths_found) > 1


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(("attention", "changes"), VARIANTS)
def test_a_batch_is_its_sentences_one_by_one(attention: str, changes: dict[str, Any], beam: int) -> None:
    model, source, options = model_for(attention, changes), sources(), settings(beam)
    for b, result in enumerate(search(model, source, LENGTHS, options)):
        n = int(LENGTHS[b])
        (alone,) = search(model, source[b : b + 1, :n], LENGTHS[b : b + 1], options)
        assert_same(result, alone)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(("attention", "changes"), VARIANTS)
def test_a_score_is_the_models_likelihood(attention: str, changes: dict[str, Any], beam: int) -> None:
    """The loss that training reports, of the very tokens."""
    model, source = model_for(attention, changes, ends=2.0), sources()
    result = search(model, source, LENGTHS, settings(beam))
    assert any(hypothesis.finished for hypothesis in result)
    for b, (tokens, log_probability, score, finished, _) in enumerate(result):
        target = torch.tensor([[BOS, *tokens, *([EOS] if finished else [])]])
        with torch.no_grad():
            nll = model.loss(source[b : b + 1], LENGTHS[b : b + 1], target).nll
        assert log_probability == pytest.approx(-float(nll), abs=1e-9)
        assert score == pytest.approx(penalised_score(log_probability, target.shape[1] - 1, 1.0))


@pytest.mark.parametrize("beam", [1, 3])
def test_the_limit_grows_with_the_source(beam: int) -> None:
    model, source = model_for(ends=-1e9), sources()
    options = settings(beam, output_ratio=1.5, output_extra=2, output_most=10)
    result = search(model, source, LENGTHS, options)
    assert [len(hypothesis.tokens) for hypothesis in result] == [10, 5, 10, 8, 4, 10]  # min(ceil(1.5 n) + 2, 10)
    assert not any(hypothesis.finished for hypothesis in result)


@pytest.mark.parametrize("beam", [1, 3])
def test_finished_sentences_leave_the_batch(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch costs, in decoder rows, is what its sentences cost alone."""
    rows: list[int] = []
    library = Decoder.step

    def counting(self: Decoder, *args: Any, **more: Any) -> Any:
        rows.append(len(more["rows"]))
        return library(self, *args, **more)

    monkeypatch.setattr(Decoder, "step", counting)
    model, source, options = model_for(ends=1.0), sources(), settings(beam)
    together = search(model, source, LENGTHS, options)
    in_batch = rows.copy()
    assert in_batch[0] == B  # All beams are one there.
    assert in_batch[1:] == sorted(in_batch[1:], reverse=True)
    assert len(set(in_batch)) > 2
    rows.clear()
    for b in range(B):
        search(model, source[b : b + 1], LENGTHS[b : b + 1], options)
    assert sum(in_batch) == sum(rows)
    if beam == 1:  # A greedy sentence takes a step a token and one for its end.
        assert sum(in_batch) == sum(len(hypothesis.tokens) + hypothesis.finished for hypothesis in together)


def test_who_leaves_moves_little() -> None:
    """The memory of the remaining sentences is that of a plain selection; a row is copied for each that left."""
    generator = torch.Generator().manual_seed(3)
    for count, share in itertools.product((1, 2, 7, 30), (0.0, 0.2, 0.8, 1.0)):
        leave = torch.rand(count, generator=generator) < share
        stay = _close_up(leave)
        assert sorted(stay.tolist()) == (~leave).nonzero().flatten().tolist()
        assert int((stay != torch.arange(len(stay))).sum()) <= int(leave.sum())
        parts = [torch.rand(count, 3, 2, generator=generator) for _ in range(2)]
        for states, keys in ((parts[0], parts[1]), (parts[0], parts[0])):
            given = PreparedMemory(states.clone(), keys.clone(), states[..., 0] > 0.5, torch.arange(count), keys[:, 0])
            if keys is states:
                given = given._replace(keys=given.values)
            expected = [part[stay] for part in given]
            assert all(map(torch.equal, given.keep_sentences(stay), expected))


@pytest.mark.parametrize("vocabulary", [3, BLOCK - 1, BLOCK, 3 * BLOCK, 3 * BLOCK + 1])
@pytest.mark.parametrize("rows", [1, 4])
def test_the_best_continuations_are_those_of_all_pieces(vocabulary: int, rows: int) -> None:
    live, predictions = torch.randn(5, rows), torch.randn(5, rows, vocabulary)
    live[:, 1:2] = -math.inf
    count = min(8, rows * vocabulary)
    score, row, piece = _best_continuations(live, predictions, count)
    expected = (live.unsqueeze(-1) + predictions).flatten(1).topk(count)
    assert torch.equal(score, expected.values)
    real = score.isfinite()  # Of equal scores, either may come first.
    assert real.any()
    assert torch.equal((row * vocabulary + piece)[real], expected.indices[real])
    assert piece.max() < vocabulary


@pytest.mark.parametrize("beam", [1, 3])
def test_padding_and_beginning_are_never_said(beam: int) -> None:
    model = model_for()
    with torch.no_grad():
        model.output.bias[[PAD, BOS]] += 1000.0
    result = search(model, sources(), LENGTHS, settings(beam))
    tokens = {token for hypothesis in result for token in hypothesis.tokens}
    assert len(tokens) > 1
    assert not tokens & {PAD, BOS, EOS}


@pytest.mark.parametrize("beam", [1, 3, 50])
def test_an_end_at_once_is_an_empty_translation(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in one step, as no longer hypothesis can still beat it, however few have finished."""
    steps: list[int] = []
    library = Decoder.step

    def counting(self: Decoder, *args: Any, **more: Any) -> Any:
        steps.append(1)
        return library(self, *args, **more)

    monkeypatch.setattr(Decoder, "step", counting)
    result = search(model_for(ends=1000.0), sources(), LENGTHS, settings(beam))
    assert [hypothesis.tokens for hypothesis in result] == [[]] * B
    assert all(hypothesis.finished for hypothesis in result)
    assert len(steps) == 1


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_early_ends_do_not_crowd_out_the_translation(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is sure of eight words and then of the end, which is unlikely before but second at every step."""
    model, sure = model_for(), [5, 6, 7, 8, 5, 6, 7, 8, EOS]

    def step(self: Decoder, embedding: Tensor, state: Any, prepared: Any, t: int, *, rows: Tensor) -> Any:
        return torch.full((len(rows), 1), t), state, None

    def distribution(steps: Tensor) -> Tensor:
        probabilities = torch.full((len(steps), V), 0.05 / (V - 2))
        probabilities[:, EOS] = 0.05
        probabilities[:, sure[min(int(steps[0, 0]), 8)]] = 0.9
        return probabilities.log()

    monkeypatch.setattr(Decoder, "step", step)
    monkeypatch.setattr(model.output, "forward", distribution)
    source = torch.tensor([[4, 5, 6, EOS]])
    (result,) = search(model, source, torch.tensor([4]), settings(beam, output_ratio=3.0))
    assert result.tokens == sure[:-1]
    assert result.finished


@pytest.mark.parametrize("beam", [1, 20])  # more beams than there are continuations
def test_one_piece_to_say(beam: int) -> None:
    model = model_for()
    with torch.no_grad():
        model.output.bias[FIXED_PIECES:] = -1e9  # UNK and end-of-sentence are left
    for result in search(model, sources(), LENGTHS, settings(beam)):
        assert set(result.tokens) <= {UNK}


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_length_penalty_is_the_equation(alpha: float) -> None:
    for length in (1, 2, 10, 99):
        assert length_penalty(length, alpha) == pytest.approx((5 + length) ** alpha / (5 + 1) ** alpha)


# ---- Lists, several models, coverage, draws ----


def three_words(attention: str, changes: dict[str, Any]) -> Seq2Seq:
    """A model of three tokens and end-of-sentence, whose every sequence can be counted."""
    model = model_for(attention, changes)
    with torch.no_grad():
        model.output.bias[FIXED_PIECES + 2 :] = -1e9
    return model


USABLE, LIMIT = [UNK, FIXED_PIECES, FIXED_PIECES + 1], 4


@torch.no_grad()
def weights_of(model: Seq2Seq, source_S: Tensor, tokens: list[int]) -> Tensor:
    """The weights [T, S] of a translation and its end, by teacher forcing."""
    source = source_S[source_S != PAD].unsqueeze(0)
    memory = model.encode(source, torch.tensor([source.shape[1]]))
    _, weights = model.decoder(model.embedding(torch.tensor([[BOS, *tokens]])), memory)
    assert weights is not None
    return weights[0]


def covered(weights_TS: Tensor, beta: float) -> float:
    """Wu et al. 2016, equation 14: beta * sum over i of log(min(sum over j of p_ij, 1))."""
    sums = [sum(row[i] for row in weights_TS.tolist()) for i in range(weights_TS.shape[1])]
    return beta * sum(math.log(min(max(total, UNCOVERED), 1.0)) for total in sums)


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("attention", ["bahdanau", "luong_general", "luong_local_m", "mean"])
def test_an_exhaustive_beam_lists_the_best_of_all_sequences(attention: str, count: int, beta: float) -> None:
    """Of all there are, by length and coverage penalty."""
    options = settings(4 * 3 ** (LIMIT - 1), 0.6, output_most=LIMIT, coverage_penalty=beta)
    model, source = three_words(attention, {}), sources()
    lists = n_best([model], source, LENGTHS, options, count)
    for b, result in enumerate(lists):
        every = []
        for item in all_finished(model, source[b], USABLE, LIMIT, 0.6):
            extra = covered(weights_of(model, source[b], item.tokens), beta) if beta else 0.0
            every.append(item._replace(score=item.score + extra))
        every.sort(key=lambda hypothesis: -hypothesis.score)
        assert len(result) == count
        for ours, expected in zip(result, every, strict=False):
            assert_same(ours, expected)


def test_coverage_penalty_by_hand() -> None:
    coverage = torch.tensor([[0.5, 1.5, 0.25, 0.0], [1.0, 2.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    expected = [0.2 * (math.log(0.5) + math.log(0.25)), 0.2 * 2 * math.log(1e-6)]
    assert coverage_penalty(coverage, mask, 0.2).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("copies", [False, True])
def test_an_unknown_piece_of_a_model_that_copies_attended_to_an_unknown_one_of_the_source(copies: bool) -> None:
    """To that with most weight, though a known one may have more; without one, and without copies, to the largest."""
    model = tiny_model("bahdanau", {"decoder.copy": copies}, vocabulary=V)
    source = sources()
    places = [[0, 3], [1], [], [2], [0], [1, 4, 5]]
    for b, own in enumerate(places):
        source[b, own] = UNK
    prefixes = [[UNK, 5, UNK]] * B
    elsewhere = 0
    for b, item in enumerate(search(model, source, LENGTHS, settings(2), prefixes=prefixes)):
        weights = weights_of(model, source[b], item.tokens)[: len(item.tokens)]
        largest = weights.argmax(-1).tolist()
        wanted = [
            max(places[b], key=lambda place: float(row[place])) if copies and places[b] and piece == UNK else most
            for piece, row, most in zip(item.tokens, weights, largest, strict=True)
        ]
        assert item.tokens[:3] == prefixes[b]
        assert item.attended == wanted
        elsewhere += wanted != largest
    assert bool(elsewhere) == copies


def test_what_was_attended_to() -> None:
    model, source = model_for("luong_general"), sources()
    lists = n_best([model], source, LENGTHS, settings(3), 3)
    for b, result in enumerate(lists):
        for item in result:
            assert item.attended == weights_of(model, source[b], item.tokens)[: len(item.tokens)].argmax(-1).tolist()
    assert all(item.attended is None for item in search(model_for("fixed"), source, LENGTHS, settings(3)))


def test_several_models_vote_with_the_mean_of_their_probabilities() -> None:
    models = [model_for("luong_general"), model_for("none"), model_for("bahdanau", ends=1.0)]
    source, options = sources(), settings(1)
    for b, (result,) in enumerate(n_best(models, source, LENGTHS, options, 1)):
        tokens: list[int] = []
        total = 0.0
        while True:
            rows = [next_log_probabilities(model, source[b], [tokens])[0] for model in models]
            mean = [sum(math.exp(row[v]) for row in rows) / len(rows) for v in range(V)]
            token = max((v for v in range(V) if v not in (PAD, BOS)), key=mean.__getitem__)
            total += math.log(mean[token])
            if token == EOS or len(tokens) + 1 == options.limit(int(LENGTHS[b])):
                tokens += [] if token == EOS else [token]
                break
            tokens.append(token)
        assert result.tokens == tokens
        assert result.log_probability == pytest.approx(total, abs=1e-4)
    first, other = (
        n_best([models[0]] * 2, source, LENGTHS, settings(3), 2),
        n_best(models[:1], source, LENGTHS, settings(3), 2),
    )
    for ours, theirs in zip(first, other, strict=True):
        for a, b_ in zip(ours, theirs, strict=True):
            assert_same(a, b_)


@pytest.mark.parametrize("temperature", [0.5, *(pytest.param(value, marks=MORE) for value in (1.0, 2.0))])
def test_draws_have_the_models_probabilities(temperature: float) -> None:
    model, draws = model_for(ends=0.0), 20_000
    row = sources()[:1]
    options = settings(1, temperature=temperature, output_most=1, batch_tokens=10**6)
    result = search(model, row[:, :5].expand(draws, -1), torch.full((draws,), 5), options)
    counted = [0] * V
    for hypothesis in result:
        counted[hypothesis.tokens[0] if hypothesis.tokens else EOS] += 1
    powers = [
        0.0 if v in (PAD, BOS) else math.exp(p / temperature)
        for v, p in enumerate(next_log_probabilities(model, row[0], [[]])[0])
    ]
    for v in range(V):
        share = powers[v] / sum(powers)
        assert counted[v] / draws == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws) + 1e-9)
    for hypothesis in result[:50]:  # The score stays the model's own.
        expected = next_log_probabilities(model, row[0], [[]])[0][hypothesis.tokens[0] if hypothesis.tokens else EOS]
        assert hypothesis.log_probability == pytest.approx(expected, abs=1e-9)


def test_drawing_and_a_beam_contradict_each_other() -> None:
    with pytest.raises(UserError, match=r"search\.temperature=1\.0 .*set search\.beam=1"):
        settings(2, temperature=1.0)


def test_coverage_to_come_is_not_held_against_a_live_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six source positions, one looked at a step; ending early is likelier at each step than going on."""
    model, longest = model_for("luong_general"), 6

    def step(self: Decoder, embedding: Tensor, state: Any, prepared: Any, t: int, *, rows: Tensor) -> Any:
        look = torch.nn.functional.one_hot(torch.tensor(min(t, longest - 1)), longest).float()
        return torch.full((len(rows), 1), t), state, look.expand(len(rows), -1)

    def distribution(steps: Tensor) -> Tensor:
        ends = [0.55, 0.62, 0.62, 0.62, 0.62, 1 - 1e-6][min(int(steps[0, 0]), 5)]
        probabilities = torch.full((len(steps), V), 1e-9)
        probabilities[:, EOS], probabilities[:, 5] = ends, 1 - ends
        return probabilities.log()

    monkeypatch.setattr(Decoder, "step", step)
    monkeypatch.setattr(model.output, "forward", distribution)
    source = torch.tensor([[5, 6, 7, 8, 5, EOS]])
    for beam in (2, 3, 4, 8):
        options = settings(beam, 0.0, coverage_penalty=0.2, output_extra=10)
        (result,) = search(model, source, torch.tensor([6]), options)
        assert result.tokens == [5] * 5
        assert result.score == pytest.approx(math.log(0.45) + 4 * math.log(0.38), abs=1e-3)  # Wholly covered.


@pytest.mark.parametrize("beam", [1, 4])
def test_a_model_of_no_numbers_says_nothing(beam: int) -> None:
    model = model_for()
    with torch.no_grad():
        model.output.bias.fill_(math.nan)
    for result in search(model, sources(), LENGTHS, settings(beam)):
        assert (result.tokens, result.finished) == ([], False)
