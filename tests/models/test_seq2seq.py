"""The model's loss against torch's own cross-entropy, whole, in pieces and over parts of a batch."""

import math
from typing import Any

import pytest
import torch
from helpers import tiny_config, tiny_model
from torch import Tensor
from torch.nn import functional as F

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.errors import UserError
from hourglass.models import seq2seq
from hourglass.models.build import build_model
from hourglass.models.seq2seq import Seq2Seq, TokenLoss, draw_evenly

V = 20
LENGTHS = torch.tensor([5, 3, 4, 2])
TARGET_LENGTHS = [6, 2, 8, 3]  # without beginning-of-sentence
B, S, T = 4, 5, 8


def batch() -> tuple[Tensor, Tensor]:
    """Source [B, S] and target [B, T+1], padded on the right."""
    source, target = torch.full((B, S), PAD), torch.full((B, T + 1), PAD)
    for b, (s, t) in enumerate(zip(LENGTHS.tolist(), TARGET_LENGTHS, strict=True)):
        source[b, :s] = torch.tensor([*torch.randint(FIXED_PIECES, V, (s - 1,)).tolist(), EOS])
        target[b, : t + 1] = torch.tensor([BOS, *torch.randint(FIXED_PIECES, V, (t - 1,)).tolist(), EOS])
    return source, target


def by_weights(model: Seq2Seq, loss: Tensor) -> list[Tensor]:
    return [torch.zeros(0) if g is None else g for g in torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("rows", [8192, 7, 1])  # 19 target tokens: in one piece, in three, in 19
def test_loss_is_cross_entropy(smoothing: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, with the logits held whole and in pieces."""
    model = tiny_model()
    source, target = batch()
    pieces = 0
    library = seq2seq.checkpoint

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal pieces
        pieces += 1
        return library(*args, **kwargs)

    monkeypatch.setattr(seq2seq, "checkpoint", counting)
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", rows)
    loss = model.loss(source, LENGTHS, target, smoothing)
    assert pieces == (0 if rows > sum(TARGET_LENGTHS) else math.ceil(sum(TARGET_LENGTHS) / rows))

    logits_TV, wanted_T = model(source, LENGTHS, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten()
    smoothed = F.cross_entropy(logits_TV, wanted_T, ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
    nll = F.cross_entropy(logits_TV, wanted_T, ignore_index=PAD, reduction="sum")
    torch.testing.assert_close(loss.smoothed, smoothed)
    torch.testing.assert_close(loss.nll, nll)
    torch.testing.assert_close(by_weights(model, loss.smoothed), by_weights(model, smoothed))


def test_parts_of_a_batch_add_up() -> None:
    # Accumulation and several devices rely on it; parts are padded less than the whole.
    model = tiny_model()
    source, target = batch()
    whole = model.loss(source, LENGTHS, target, 0.1)
    parts = []
    for rows in ([0, 2], [1, 3]):
        s, t = int(LENGTHS[rows].max()), max(TARGET_LENGTHS[b] for b in rows) + 1
        parts.append(model.loss(source[rows, :s], LENGTHS[rows], target[rows, :t], 0.1))
    added = TokenLoss(parts[0].smoothed + parts[1].smoothed, parts[0].nll + parts[1].nll)
    torch.testing.assert_close(whole, added)
    torch.testing.assert_close(by_weights(model, whole.smoothed), by_weights(model, added.smoothed))


def test_a_uniform_model_needs_log_v_a_token() -> None:
    model = tiny_model()
    with torch.no_grad():
        for weight in model.output.parameters():
            weight.zero_()
    source, target = batch()
    loss = model.loss(source, LENGTHS, target, 0.3)
    expected = sum(TARGET_LENGTHS) * math.log(V)
    assert float(loss.nll.detach()) == pytest.approx(expected)
    assert float(loss.smoothed.detach()) == pytest.approx(expected)


def test_logits_are_readouts_through_the_output_layer() -> None:
    model = tiny_model()
    source, target = batch()
    readouts_BTR = model.readouts(target, model.encode(source, LENGTHS))
    assert isinstance(readouts_BTR, Tensor)
    expected = readouts_BTR @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(source, LENGTHS, target), expected)


@pytest.mark.parametrize("tie", ["none", "output", "all"])
def test_ties(tie: str) -> None:
    """`output` makes one matrix of output layer and target embedding, `all` of the source embedding too."""
    model = tiny_model(changes={"decoder.tie": tie})
    encoder: Any = model.encoder
    assert (model.output.weight is model.embedding.weight) == (tie in ("output", "all"))
    assert (encoder.embedding is model.embedding) == (tie == "all")
    matrices = {id(w) for w in (model.output.weight, model.embedding.weight, encoder.embedding.weight)}
    assert len(matrices) == {"none": 3, "output": 2, "all": 1}[tie]


def test_embedding_dropout_acts_in_training_only() -> None:
    model = tiny_model(changes={"decoder.dropout": 0.5})
    source, target = batch()
    assert torch.equal(*(model(source, LENGTHS, target) for _ in range(2)))
    model.train()
    assert not torch.equal(*(model(source, LENGTHS, target) for _ in range(2)))


def test_weights_drawn_evenly() -> None:
    changes = {"encoder.cell": "lstm_normed", "decoder.tie": "output"}
    model = build_model(tiny_config("luong_scaled", changes), 500, 500, joint=True)
    draw_evenly(model, 0.1)
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("attention.scale"):
            assert not ((weight > 0) & (weight < 1)).any(), name  # as they were
            continue
        gates = weight.detach().clone()
        if name.startswith("decoder.layers.0") and "bias_ih" in name:
            gates[16:32] -= 1.0  # Forget gates.
        assert gates.abs().max() <= 0.1, name
        assert abs(float(gates.mean())) < 0.05, name
        if gates.numel() > 100:
            assert gates.std() == pytest.approx(0.1 / 3**0.5, rel=0.1), name
    assert not model.embedding.weight[PAD].any()


@pytest.mark.parametrize("sampling", [0.0, 0.3, 1.0])
def test_scheduled_sampling_reads_the_models_own_words(sampling: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the decoder reads: the reference, or words of the model's distribution, in the given share."""
    model = tiny_model("bahdanau", {"decoder.input_feeding": True}, vocabulary=V)
    source, target = torch.full((800, 3), 5), torch.full((800, 4), 7)
    source[:, 2], target[:, 0] = EOS, BOS
    lengths = torch.full((800,), 3)
    read: list[Tensor] = []
    model.embedding.register_forward_hook(lambda _, given, __: read.append(given[0]))
    with torch.no_grad():
        readouts = model.sampled_readouts(target, model.encode(source, lengths), sampling)
    tokens = torch.stack(read[-4:], 1)  # [B, T]
    assert torch.equal(tokens[:, 0], target[:, 0])
    with torch.no_grad():
        model.eval()
        logits = model.output(model.readouts(tokens, model.encode(source, lengths), step_loop=True))
        torch.testing.assert_close(logits, model.output(readouts))  # Teacher forcing of what was read.
        logits[..., [PAD, BOS]] = -math.inf
        expected = logits[0, 0].softmax(-1)  # All rows are alike up to the first draw.
    shares = torch.bincount(tokens[:, 1], minlength=V) / 800
    mixed = sampling * expected + (1 - sampling) * torch.nn.functional.one_hot(torch.tensor(7), V)
    assert (shares - mixed).abs().max() < 4 * 0.5 / 800**0.5


def test_a_prefix_is_never_replaced_by_the_models_own_words() -> None:
    """Readouts hang on the tokens before them: those up to the first token after the prefix stay as they are."""
    model = tiny_model()
    source, target = batch()
    memory, inputs = model.encode(source, LENGTHS), target[:, :-1]
    given = torch.tensor([2, 0, 1, 3])[: len(target)]
    known, sampled = (model.sampled_readouts(inputs, memory, sampling, given) for sampling in (0.0, 1.0))
    for row, length in enumerate(given.tolist()):
        torch.testing.assert_close(sampled[row, : length + 1], known[row, : length + 1])
    assert not torch.allclose(model.scores(sampled[1]), model.scores(known[1]))


def test_without_sampling_the_loss_is_that_of_the_reference() -> None:
    model = tiny_model(vocabulary=V)
    source, target = batch()
    plain = model.loss(source, LENGTHS, target)
    assert not torch.isclose(model.loss(source, LENGTHS, target, sampling=1.0).nll, plain.nll)
    readouts = model.sampled_readouts(target[:, :-1], model.encode(source, LENGTHS), 0.0)
    torch.testing.assert_close(readouts, model.readouts(target[:, :-1], model.encode(source, LENGTHS)))


@pytest.mark.parametrize(("attention", "encoder"), [("luong_location", "rnn"), ("luong_dot", "convolution")])
def test_the_length_of_a_source_is_checked_by_encoder_and_attention(attention: str, encoder: str) -> None:
    group = "attention" if encoder == "rnn" else "encoder"
    model = tiny_model(attention, {f"{group}.longest_source": 5}, encoder)
    assert model.longest_source == 5
    model.check_length(5, "train")
    with pytest.raises(
        UserError, match=rf"has 5 source positions and a sentence of dev has 6 tokens: set {group}\.long"
    ):
        model.check_length(6, "dev")
    without = tiny_model()
    without.check_length(100_000, "train")
    assert without.longest_source is None
