"""Likelihoods of references: against torch's own cross-entropy step by step, brute force, and counts by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import teacher_forced_logits, teacher_forced_nats, tiny_model

from hourglass.corpora.shapes import Shapes
from hourglass.corpora.synthetic import Numbers
from hourglass.data.encoded import pad
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.errors import UserError
from hourglass.metrics.likelihood import (
    BITS_A_NAT,
    Pairs,
    end_bits,
    fit_temperature,
    mean_quantity,
    reference_nats,
    sentence_bits,
)
from hourglass.metrics.significance import draw_resamples
from hourglass.models.seq2seq import Seq2Seq

V = 20
RANDOM = np.random.default_rng(5)


def random_ids(count: int, shortest: int = 1, longest: int = 9) -> list[list[int]]:
    return [
        RANDOM.integers(FIXED_PIECES, V, size=RANDOM.integers(shortest, longest + 1)).tolist() for _ in range(count)
    ]


PAIRS = Pairs(random_ids(12), random_ids(12))


def softmax_nats(
    model: Seq2Seq, pairs: Pairs, temperature: float = 1.0, among: list[int] | None = None
) -> list[list[float]]:
    """Negative log-likelihoods sentence by sentence and step by step, by the definition of a softmax."""
    all_rows = []
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        logits = teacher_forced_logits(model, source, target, step_loop=True) / temperature
        row = []
        for step, wanted in zip(logits, [*target, EOS], strict=True):
            choices = range(V) if among is None or wanted == EOS else among
            row.append(-math.log(float(step[wanted].exp() / sum(step[index].exp() for index in choices))))
        all_rows.append(row)
    return all_rows


@pytest.mark.parametrize("attention", ["none", "fixed", "bahdanau", "luong_general"])
@pytest.mark.parametrize(("temperature", "among"), [(1.0, None), (1.7, None), (1.0, list(range(4, V)))])
def test_nats_are_those_of_a_softmax_step_by_step(attention: str, temperature: float, among: list[int] | None) -> None:
    model = tiny_model(attention, {"decoder.dropout": 0.5, "encoder.dropout": 0.5})
    model.train()
    nats = reference_nats(
        model, PAIRS, temperature=temperature, among=None if among is None else torch.tensor(among), batch_tokens=40
    )
    assert model.training
    model.eval()
    for values, expected in zip(nats, softmax_nats(model, PAIRS, temperature, among), strict=True):
        assert values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("attention", ["none", "luong_general"])
def test_nats_after_a_prefix_are_those_of_a_softmax_step_by_step(attention: str) -> None:
    """The decoder reads prefix and target as one; what counts is the target, in likelihoods and in the loss."""
    model = tiny_model(attention)
    given = random_ids(12, 0, 4)
    whole = [[*prefix, *target] for prefix, target in zip(given, PAIRS.targets, strict=True)]
    expected = softmax_nats(model, Pairs(PAIRS.sources, whole))
    expected = [row[len(prefix) :] for row, prefix in zip(expected, given, strict=True)]
    pairs = Pairs(PAIRS.sources, PAIRS.targets, given)
    for values, row in zip(reference_nats(model, pairs, batch_tokens=40), expected, strict=True):
        assert values == pytest.approx(row, abs=1e-5)
    continues = reference_nats(model, pairs, continues_at=[[0]] * 12)
    for values, row, target, source, prefix in zip(
        continues, expected, PAIRS.targets, PAIRS.sources, given, strict=True
    ):
        logits = teacher_forced_logits(model, source, [*prefix, *target])[len(prefix)]
        row[0] += math.log(1 - float(logits.softmax(-1)[EOS]))
        assert values == pytest.approx(row, abs=1e-5)
        row[0] -= math.log(1 - float(logits.softmax(-1)[EOS]))
    sources, targets = pad(PAIRS.sources, last=[EOS]), pad(whole, first=[BOS], last=[EOS])
    lengths = torch.tensor([len(ids) + 1 for ids in PAIRS.sources])
    loss = model.loss(sources, lengths, targets, 0.1, prefix_lengths=torch.tensor(list(map(len, given))))
    assert loss.nll.item() == pytest.approx(sum(map(sum, expected)), rel=1e-5)
    uniform = 0.0
    for ids, prefix, tokens in zip(PAIRS.sources, given, whole, strict=True):
        logits = teacher_forced_logits(model, ids, tokens)[len(prefix) :]
        uniform -= float(logits.log_softmax(-1).mean(-1).sum())
    assert loss.smoothed.item() == pytest.approx(0.9 * loss.nll.item() + 0.1 * uniform, rel=1e-5)


def test_nats_add_up_to_the_loss_that_training_reports() -> None:
    model = tiny_model()
    total = sum(values.sum() for values in reference_nats(model, PAIRS))
    losses = [
        model.loss(
            torch.tensor([[*source, EOS]]), torch.tensor([len(source) + 1]), torch.tensor([[BOS, *target, EOS]])
        ).nll.item()
        for source, target in zip(PAIRS.sources, PAIRS.targets, strict=True)
    ]
    assert total == pytest.approx(sum(losses), rel=1e-5)
    assert sentence_bits(reference_nats(model, PAIRS)).sum() == pytest.approx(sum(losses) / math.log(2), rel=1e-5)


def test_a_blind_model_assigns_the_same_likelihood_whatever_the_source() -> None:
    model = tiny_model("none", encoder="blind")
    first = reference_nats(model, PAIRS)
    second = reference_nats(model, Pairs(PAIRS.sources[::-1], PAIRS.targets))
    assert np.concatenate(first) == pytest.approx(np.concatenate(second), abs=1e-6)


def half_expected(model: Seq2Seq, count: int) -> Pairs:
    """Pairs whose target tokens are the model's likeliest or random ones, so that there is a best temperature."""
    sources, targets = random_ids(count), []
    for source in sources:
        target: list[int] = []
        for _ in range(6):
            likeliest = int(teacher_forced_logits(model, source, target)[-1, FIXED_PIECES:].argmax()) + FIXED_PIECES
            target.append(likeliest if RANDOM.random() < 0.6 else int(RANDOM.integers(FIXED_PIECES, V)))
        targets.append(target)
    return Pairs(sources, targets)


def test_the_temperature_is_the_best_of_a_grid_and_scales_with_the_logits() -> None:
    model = tiny_model(changes={"decoder.tie": "none"})
    pairs = half_expected(model, 30)
    fitted = fit_temperature(model, pairs)
    grid = np.exp(np.linspace(np.log(0.2), np.log(5), 100))
    losses = [sum(values.sum() for values in reference_nats(model, pairs, temperature=float(t))) for t in grid]
    assert grid[0] < grid[int(np.argmin(losses))] < grid[-1]
    assert sum(values.sum() for values in reference_nats(model, pairs, temperature=fitted)) <= min(losses) * (1 + 1e-6)
    with torch.no_grad():
        model.output.weight.mul_(1.3)
        model.output.bias.mul_(1.3)
    assert fit_temperature(model, pairs) == pytest.approx(1.3 * fitted, rel=0.005)
    with torch.no_grad():
        model.output.weight.mul_(20)
        model.output.bias.mul_(20)
    with pytest.raises(UserError, match=r"at the bound of its search, (4\.9\d|5\.00): train without label smoothing"):
        fit_temperature(model, pairs)


def test_parts_by_hand() -> None:
    nats = [np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])]
    assert sentence_bits(nats) == pytest.approx(np.array([7, 8]) * BITS_A_NAT)
    assert end_bits(nats) == pytest.approx(np.array([4, 5]) * BITS_A_NAT)


def test_a_mean_on_resamples_is_that_of_the_rows_drawn() -> None:
    values = [RANDOM.normal(size=30), RANDOM.normal(size=30)]
    counts = draw_resamples(30, 1000)
    quantity = mean_quantity(values, counts)
    assert quantity.value == pytest.approx([row.mean() for row in values])
    for resample in (0, 7, 999):
        rows = np.repeat(np.arange(30), counts[resample].astype(int))
        assert quantity.drawn[:, resample] == pytest.approx([row[rows].mean() for row in values])


def test_bits_of_numbers_by_counting_all_of_them() -> None:
    """Equally likely digit counts, then equally likely numbers: the probabilities of all numbers add up to 1."""
    probabilities = [2 ** -Numbers.item_bits(len(str(number)), 1, 4) for number in range(1, 10_000)]
    assert sum(probabilities) == pytest.approx(1)
    assert all(a >= b for a, b in pairwise(probabilities))
    assert Numbers.item_bits(2, 1, 4) == pytest.approx(math.log2(4) + math.log2(90))


def test_cross_entropy_of_torch_agrees() -> None:
    model = tiny_model()
    expected = teacher_forced_nats(model, PAIRS.sources[0], PAIRS.targets[0])
    assert reference_nats(model, PAIRS)[0] == pytest.approx(expected.numpy(), abs=1e-5)


def test_bits_of_captions_add_up_over_all_scenes() -> None:
    """Equally likely numbers of shapes, then equally likely scenes: the probabilities of all scenes add up to 1."""
    scenes = {count: math.comb(9, count) * 36**count for count in range(1, 5)}
    probabilities = [number * 2 ** -Shapes.item_bits(count, 1, 4) for count, number in scenes.items()]
    assert sum(probabilities) == pytest.approx(1)
