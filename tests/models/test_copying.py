"""The copy switch and coverage, against plain loops over the equations of See, Liu and Manning 2017."""

from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES, compose_config, plain_search, teacher_forced_nats, tiny_config, tiny_model
from torch import Tensor

import hourglass.models.attention as attention_module
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.decoding.precision import SearchPrecision, convert
from hourglass.decoding.search import n_best, search
from hourglass.errors import UserError
from hourglass.metrics.contrastive import read_contrast
from hourglass.metrics.likelihood import Pairs, fit_temperature, reference_nats
from hourglass.models import seq2seq
from hourglass.models.attention import BahdanauAttention
from hourglass.models.build import build_model
from hourglass.models.copying import Copyable, CopyReadouts, copy_readouts, coverage_losses, mix_copies
from hourglass.models.seq2seq import Seq2Seq
from hourglass.training.graphs import pad_to_shape
from hourglass.training.settings import check_settings

V = 14
# With pieces that a sentence has several times, and padding.
SOURCE = torch.tensor([[5, 6, 5, 9, 5, EOS], [7, 7, EOS, PAD, PAD, PAD], [8, 4, 10, 4, EOS, PAD]])
LENGTHS = torch.tensor([6, 3, 5])
TARGET = torch.tensor([[BOS, 5, 9, 11, 6, EOS], [BOS, 7, 12, EOS, PAD, PAD], [BOS, 4, 8, 4, EOS, PAD]])
POINTING = [name for name in ATTENTION_NAMES if name not in ("none", "fixed", "mean")]
COVERING = ["bahdanau", "bahdanau_normed", "luong_concat"]
COPY = {"decoder.copy": True}
COVERAGE = {"attention.coverage": True, "attention.coverage_loss": 0.7}


def model_for(attention: str, changes: dict[str, Any], **options: Any) -> Seq2Seq:
    return tiny_model(attention, changes, vocabulary=V, **options)


# ---- The distribution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["tanh", "deep"])
@pytest.mark.parametrize("attention", POINTING)
def test_the_final_distribution_is_equation_9(attention: str, readout: str) -> None:
    """Piece by piece, of the switch by equation 8; and it sums to one."""
    model = model_for(attention, COPY | {"decoder.readout": readout})
    decoder, read = model.decoder, []
    assert decoder.readout is not None
    assert decoder.switch is not None
    decoder.readout.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        scores = model(SOURCE, LENGTHS, TARGET[:, :-1], step_loop=True)
        memory, embedded = model.encode(SOURCE, LENGTHS), model.embedding(TARGET[:, :-1])
        readouts, weights = decoder(embedded, memory, step_loop=True)
        if attention == "luong_local_p":  # Its weights are not normalised again after the Gaussian.
            assert weights.sum(-1).max() < 0.999
            weights = weights / weights.sum(-1, keepdim=True)
        of_context = read[-1][..., : decoder.hidden_size + decoder.attention.context_size]  # [B, T, H + C]
        generated = model.output(readouts[..., :-1]).softmax(-1)
        for b, length in enumerate(LENGTHS.tolist()):
            for t in range(TARGET.shape[1] - 1):
                reads = torch.cat([of_context[b, t], embedded[b, t]])
                generates = torch.sigmoid(reads @ decoder.switch.weight[0] + decoder.switch.bias[0])
                for v in range(V):
                    points = sum(float(weights[b, t, s]) for s in range(length) if SOURCE[b, s] == v)
                    wanted = float(generates * generated[b, t, v]) + float(1 - generates) * points
                    assert float(scores[b, t, v].exp()) == pytest.approx(wanted, rel=1e-9)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones_like(scores[..., 0]))


@pytest.mark.parametrize("changes", [COPY, COPY | {"decoder.input_feeding": True}, COPY | {"decoder.layers": 2}])
@pytest.mark.parametrize("attention", ["luong_general", "multi_head", "bahdanau"])
def test_one_pass_and_steps_are_alike(attention: str, changes: dict[str, Any]) -> None:
    """Values and gradients, of whole sentences, step by step, and of a training that draws no word of its own."""
    model = model_for(attention, changes | {"decoder.query": "current"})
    assert model.decoder.one_pass == ("decoder.input_feeding" not in changes)
    losses = [model.loss(SOURCE, LENGTHS, TARGET, 0.1, step_loop=step_loop) for step_loop in (False, True)]
    gradients = [torch.autograd.grad(loss.smoothed, list(model.parameters())) for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    memory, inputs = model.encode(SOURCE, LENGTHS), TARGET[:, :-1]
    read, sampled = model.readouts(inputs, memory), model.sampled_readouts(inputs, memory, 0.0)
    torch.testing.assert_close(model.scores(sampled), model.scores(read))


@pytest.mark.parametrize("rows", [8192, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_the_final_distribution(
    smoothing: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label smoothing spreads over the final distribution, too; in one part, and in parts computed again."""
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", rows)
    model = model_for("luong_general", COPY)
    scores, labels = model(SOURCE, LENGTHS, TARGET[:, :-1]).flatten(0, 1), TARGET[:, 1:].flatten()
    wanted = torch.nn.functional.cross_entropy(
        scores, labels, ignore_index=PAD, reduction="sum", label_smoothing=smoothing
    )
    loss = model.loss(SOURCE, LENGTHS, TARGET, smoothing)
    torch.testing.assert_close(loss.smoothed, wanted)
    parameters = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss.smoothed, parameters), torch.autograd.grad(wanted, parameters))


def test_gradients_are_those_of_differences() -> None:
    source = SOURCE[:2]
    scores = torch.randn(2, 3, V, dtype=torch.float64, requires_grad=True)
    switch = torch.randn(2, 3, 1, dtype=torch.float64, requires_grad=True)
    mask = (source != PAD).unsqueeze(1)
    logits = torch.randn(2, 3, source.shape[1], dtype=torch.float64, requires_grad=True)

    def final(scores: Tensor, switch: Tensor, logits: Tensor) -> Tensor:
        weights = logits.masked_fill(~mask, float("-inf")).softmax(-1)
        return mix_copies(scores, copy_readouts(torch.cat([scores, switch], -1), weights, Copyable.of(source)))

    assert torch.autograd.gradcheck(final, (scores, switch, logits))


def test_certain_switches_and_no_mass_stay_finite() -> None:
    """In float32: a switch at its ends, a piece of the source without any weight, and one that is never generated."""
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0, 3.0, -200.0, 1.0]] * 2, requires_grad=True)
    switch = torch.tensor([[60.0], [-60.0]], requires_grad=True)
    weights = torch.tensor([[[0.0, 0.75, 0.25]]] * 2, requires_grad=True)
    source = torch.tensor([[4, 5, 5]] * 2)
    read = torch.cat([scores, switch], -1).unsqueeze(1)
    final = mix_copies(scores.unsqueeze(1), copy_readouts(read, weights, Copyable.of(source)))
    assert final.isfinite().all()
    others = [v for v in range(7) if v != 5]
    torch.testing.assert_close(final[0, 0, others], scores[0].log_softmax(-1)[others], atol=1e-4, rtol=1e-4)
    assert float(final[0, 0, 5].detach()) == pytest.approx(-60.0, abs=1e-3)  # Copied, ever so rarely.
    assert float(final[1, 0, 5].detach().exp()) == pytest.approx(1.0, abs=1e-5)
    final.sum().backward()
    for each in (scores, switch, weights):
        assert each.grad is not None
        assert each.grad.isfinite().all()


@pytest.mark.parametrize("attention", POINTING)
def test_every_weight_is_trained(attention: str) -> None:
    coverage = COVERAGE if attention in COVERING else {}
    model = build_model(tiny_config(attention, COPY | coverage), V, V, joint=True)
    model.loss(SOURCE, LENGTHS, TARGET, 0.1).smoothed.backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_without_copies_and_coverage_a_seed_gives_the_same_weights() -> None:
    models = []
    for changes in ({}, COPY | COVERAGE):
        torch.manual_seed(3)
        models.append(build_model(tiny_config("bahdanau", changes), V, V, joint=True).state_dict())
    plain, copying = models
    assert copying.keys() - plain.keys() == {
        *("decoder.attention.coverage_column", "decoder.switch.weight", "decoder.switch.bias")
    }
    drawn_before = [name for name in plain if name.startswith(("encoder.", "embedding.", "decoder.attention."))]
    assert len(drawn_before) > 10
    assert all(torch.equal(plain[name], copying[name]) for name in drawn_before if name in plain)


# ---- Likelihoods and searches ----------------------------------------------------------------------------------------


def pairs(count: int, prefixes: bool = False) -> Pairs:
    """Pairs of sources of many lengths, whose targets are half copied."""
    draws = torch.Generator().manual_seed(4)
    sources = [
        torch.randint(FIXED_PIECES, V, (int(torch.randint(1, 9, (), generator=draws)),), generator=draws).tolist()
        for _ in range(count)
    ]
    targets = [[*ids[::2], 6] for ids in sources]
    return Pairs(sources, targets, [[5, ids[0]] for ids in sources] if prefixes else None)


def test_likelihoods_are_those_of_each_pair_alone() -> None:
    model, given = model_for("luong_general", COPY), pairs(9)
    nats = reference_nats(model, given, batch_tokens=30)
    for source, target, values in zip(given.sources, given.targets, nats, strict=True):
        torch.testing.assert_close(torch.from_numpy(values), teacher_forced_nats(model, source, target))


def test_a_temperature_is_fitted_over_batches_of_different_lengths() -> None:
    """The temperature divides the logarithm of the final distribution; one batch or several, it is the same."""
    model, given = model_for("luong_general", COPY, spread=0.2), pairs(20)
    apart, at_once = fit_temperature(model, given, batch_tokens=20), fit_temperature(model, given, batch_tokens=4000)
    assert apart == pytest.approx(at_once, rel=1e-6)
    losses = [sum(part.sum() for part in reference_nats(model, given, temperature=t)) for t in (apart, 1.0)]
    assert losses[0] < losses[1]


def test_a_contrast_scores_every_source_with_its_own_pieces() -> None:
    model, given = model_for("bahdanau", COPY), pairs(6)
    reading = read_contrast(model, given, sources=6, sentences=0)
    for row, bits in zip(reading.rows.tolist(), reading.bits.tolist(), strict=True):
        logs = torch.stack([-teacher_forced_nats(model, source, given.targets[row]).sum() for source in given.sources])
        wanted = float(logs[row] - logs.exp().mean().log()) / torch.tensor(2.0).log()
        assert bits == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("changes", [COPY, COPY | COVERAGE])
def test_a_search_counts_what_training_counts(changes: dict[str, Any]) -> None:
    """With prefixes and beams, sentences that leave at different times: the log-probability of what was found."""
    model, given = model_for("bahdanau", changes), pairs(8, prefixes=True)
    assert given.prefixes is not None
    longest = max(map(len, given.sources)) + 1
    source = torch.tensor([[*ids, EOS, *[PAD] * (longest - len(ids) - 1)] for ids in given.sources])
    lengths = torch.tensor([len(ids) + 1 for ids in given.sources])
    options = plain_search(3, output_extra=6)
    for row, best in enumerate(n_best([model], source, lengths, options, 3, prefixes=given.prefixes)):
        prefix = list(given.prefixes[row])
        for found in best:
            assert found.tokens[: len(prefix)] == prefix
            nats = teacher_forced_nats(model, given.sources[row], found.tokens)[len(prefix) :]
            total = float(-(nats if found.finished else nats[:-1]).sum())
            assert found.log_probability == pytest.approx(total, abs=1e-8)


def test_models_with_and_without_copies_search_together() -> None:
    plain, copying = model_for("luong_general", {}), model_for("bahdanau", COPY)
    both = n_best([plain, copying], SOURCE, LENGTHS, plain_search(2), 1)
    swapped = n_best([copying, plain], SOURCE, LENGTHS, plain_search(2), 1)
    assert [best.tokens for (best,) in both] == [best.tokens for (best,) in swapped]
    for row, (best,) in enumerate(both):
        ids = SOURCE[row, : LENGTHS[row] - 1].tolist()
        nats = [teacher_forced_nats(model, ids, best.tokens) for model in (plain, copying)]
        mean = torch.stack(nats).neg().exp().mean(0).log()
        total = float((mean if best.finished else mean[:-1]).sum())
        assert best.log_probability == pytest.approx(total, abs=1e-8)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_search_in_less_precision_has_about_the_same_distribution(precision: SearchPrecision) -> None:
    model = model_for("bahdanau", COPY | COVERAGE, spread=0.2).float()
    reduced = convert(model, precision)
    with torch.inference_mode():
        scores, rounded = (each(SOURCE, LENGTHS, TARGET[:, :-1]).float() for each in (model, reduced))
    real = TARGET[:, 1:] != PAD
    assert (scores.softmax(-1) - rounded.softmax(-1)).abs()[real].max() < 0.02
    options = plain_search(3, precision=precision)
    assert len(search(reduced, SOURCE, LENGTHS, options)) == len(SOURCE)


# ---- Coverage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["previous", "current"])
def test_coverage_is_the_sum_of_earlier_weights_in_the_score(query: str) -> None:
    """Equations 10 and 11, by a loop over steps and positions of one sentence."""
    model = model_for("bahdanau", {"attention.coverage": True, "decoder.query": query})
    attention, asked = model.decoder.attention, []
    assert isinstance(attention, BahdanauAttention)
    assert attention.coverage_column is not None
    assert not model.decoder.one_pass
    attention.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    with torch.no_grad():
        memory = model.encode(SOURCE, LENGTHS)
        _, weights = model.decoder(model.embedding(TARGET[:, :-1]), memory)
        for b, length in enumerate(LENGTHS.tolist()):
            covered = [0.0] * length
            for t, queries in enumerate(asked):
                scores = []
                for s in range(length):
                    inner = attention.query_layer(queries[b, 0]) + attention.key_layer(memory.states[b, s])
                    scores.append(attention.energy @ torch.tanh(inner + attention.coverage_column * covered[s]))
                wanted = torch.stack(scores).softmax(0)
                torch.testing.assert_close(weights[b, t, :length], wanted)
                covered = [before + float(weight) for before, weight in zip(covered, wanted, strict=True)]
            assert sum(covered) == pytest.approx(len(asked))


@pytest.mark.parametrize("attention", COVERING)
def test_steps_with_coverage_are_those_of_a_whole_sentence(attention: str) -> None:
    """Step by step with beams in another order: a row carries its own coverage."""
    model = model_for(attention, {"attention.coverage": True, "decoder.query": "current"})
    with torch.no_grad():
        memory = model.encode(SOURCE, LENGTHS)
        _, whole = model.decoder(model.embedding(TARGET[:, :-1]), memory)
        prepared, state = model.decoder.attention.prepare(memory), model.decoder.start(memory)
        rows = torch.tensor([0, 0, 1, 1, 2, 2])  # Two beams each.
        state = state.select(rows)
        for t in range(3):
            _, state, weights = model.decoder.step(model.embedding(TARGET[rows, t]), state, prepared, t)
            torch.testing.assert_close(weights, whole[rows, t])
        swapped = state.select(torch.tensor([1, 0, 3, 2, 5, 4]))
        _, _, weights = model.decoder.step(model.embedding(TARGET[rows, 3]), swapped, prepared, 3)
        torch.testing.assert_close(weights, whole[rows, 3])


def test_cutting_scores_with_coverage_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many beams of one sentence, whose scores are computed a part at a time."""
    model = model_for("bahdanau", {"attention.coverage": True})
    memory, attention = model.encode(SOURCE, LENGTHS), model.decoder.attention
    query = torch.randn(3, 4, model.decoder.hidden_size, dtype=torch.float64)
    coverage, steps = torch.rand(3, 4, SOURCE.shape[1], dtype=torch.float64), torch.full((4,), 2)
    whole = attention(query, attention.prepare(memory), steps, coverage)
    monkeypatch.setattr(attention_module, "ADDITIVE_LIMIT", 1)
    torch.testing.assert_close(attention(query, attention.prepare(memory), steps, coverage), whole)


def test_the_coverage_loss_is_equations_12_and_13() -> None:
    """Neither padding nor a prefix counts, nor does it enter the likelihood."""
    changes = {"attention.coverage": True, "attention.coverage_loss": 0.7, "decoder.query": "current"}
    model = model_for("bahdanau", changes)
    prefixes = torch.tensor([1, 0, 2])
    with torch.no_grad():
        loss = model.loss(SOURCE, LENGTHS, TARGET, 0.1, prefix_lengths=prefixes)
        model.decoder.attention.coverage_loss = 0.0
        without = model.loss(SOURCE, LENGTHS, TARGET, 0.1, prefix_lengths=prefixes)
        memory = model.encode(SOURCE, LENGTHS)
        _, weights = model.decoder(model.embedding(TARGET[:, :-1]), memory)
    total = 0.0
    for b, length in enumerate(LENGTHS.tolist()):
        covered = [0.0] * length
        for t in range(TARGET.shape[1] - 1):
            repeated = sum(min(float(weights[b, t, s]), covered[s]) for s in range(length))
            if TARGET[b, t + 1] != PAD and t >= prefixes[b]:
                total += repeated
            covered = [before + float(weights[b, t, s]) for s, before in enumerate(covered)]
    assert total > 0.1
    assert float(loss.smoothed - without.smoothed) == pytest.approx(0.7 * total)
    assert float(loss.nll) == pytest.approx(float(without.nll))
    sampled = model.loss(SOURCE, LENGTHS, TARGET, 0.1, sampling=1e-12, prefix_lengths=prefixes)
    assert float(sampled.smoothed.detach()) == pytest.approx(float(without.smoothed))


def test_the_gradient_of_the_coverage_loss_is_that_of_differences() -> None:
    logits = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scores: coverage_losses(scores.softmax(-1)), (logits,))


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["attention=none", "decoder.copy=true"], "attention=none has no weights: set attention="),
        (
            ["attention=fixed", "decoder.copy=true"],
            "attention=fixed has no weights: set attention=",
        ),
        (
            ["attention=mean", "decoder.copy=true"],
            "attention=mean has weights that choose nothing",
        ),
        (
            ["decoder.copy=true", "tokenizer.joint=false", "decoder.tie=output"],
            "decoder.copy=true .* set tokenizer.joint=true, or decoder.copy=false",
        ),
        (["decoder.copy=0.5"], "decoder.copy=0.5: input should be a valid boolean"),
        (["+attention.coverage=true"], "attention.coverage: no such option; attention takes no options"),
        (
            ["attention=bahdanau", "attention.coverage_loss=1.0"],
            "attention.coverage_loss=1 .* set attention.coverage=true, or attention.coverage_loss=0.0",
        ),
        (
            ["attention=bahdanau", "attention.coverage=true", "attention.coverage_loss=-1"],
            "attention.coverage_loss=-1: input should be greater than or equal to 0",
        ),
    ],
)
def test_a_contradiction_is_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(compose_config(*words))


# ---- What it is for --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_copying_is_learnt_with_the_switch_and_not_without_in_the_same_steps() -> None:
    """Repeat four symbols of 1,000, each seen 14 times: too few to learn it by heart, not to copy it."""
    symbols, length, count = 1000, 4, 24

    def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        draws = torch.Generator().manual_seed(seed)
        ids = torch.randint(FIXED_PIECES, FIXED_PIECES + symbols, (count, length), generator=draws)
        source = torch.cat([ids, torch.full((count, 1), EOS)], 1)
        return source, torch.full((count,), length + 1), torch.cat([torch.full((count, 1), BOS), source], 1)

    right = {}
    for copy in (False, True):
        torch.manual_seed(1)
        changes = {"decoder.copy": copy, "decoder.tie": "none", "encoder.dropout": 0.0, "decoder.dropout": 0.0}
        changes |= {"encoder.hidden_size": 32, "decoder.hidden_size": 32}
        size = FIXED_PIECES + symbols
        model = build_model(tiny_config("luong_general", changes), size, size, joint=True)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for step in range(150):
            source, lengths, target = batch(step)
            optimizer.zero_grad()
            (model.loss(source, lengths, target).smoothed / target[:, 1:].numel()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        source, lengths, target = batch(10_000)
        found = search(model.eval(), source, lengths, plain_search(1))
        right[copy] = sum(best.tokens == row[1:-1].tolist() for best, row in zip(found, target, strict=True)) / count
    assert right[True] > 0.8
    assert right[False] < 0.2


def test_what_is_read_can_be_cut_and_joined() -> None:
    """Rows, parts and dimensions of readouts, as of a tensor."""
    model = model_for("luong_general", COPY)
    read = model.readouts(TARGET[:, :-1], model.encode(SOURCE, LENGTHS))
    assert isinstance(read, CopyReadouts)
    rows = read.flatten(0, 1)
    assert len(rows) == TARGET[:, :-1].numel()
    whole = model.scores(rows)
    torch.testing.assert_close(torch.cat([model.scores(part) for part in rows.split(4)]), whole)
    real = TARGET[:, 1:] != PAD
    torch.testing.assert_close(model.scores(read[real]), whole[real.flatten()])


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau"])
def test_padding_to_the_shape_of_a_graph_changes_nothing(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where all positions are computed: neither copies nor coverage count what is padding."""
    monkeypatch.setattr(seq2seq, "_leaves_padding_out", lambda _: False)
    model = model_for(attention, COPY | (COVERAGE if attention in COVERING else {}))
    losses = [model.loss(*given, 0.1) for given in ((SOURCE, LENGTHS, TARGET), pad_to_shape(SOURCE, LENGTHS, TARGET))]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss.smoothed, list(model.parameters())) for loss in losses))
