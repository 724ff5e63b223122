"""The contrastive bound: against plain Python, on channels of known information, and on decoders without source."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers import ATTENTION_NAMES, run_script, teacher_forced_logits, tiny_model
from torch import Tensor, nn

from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.pieces import EOS, FIXED_PIECES
from hourglass.errors import UserError
from hourglass.metrics.contrastive import ContrastiveReading, contrast, divide_by_length, read_contrast
from hourglass.metrics.likelihood import Pairs
from hourglass.models.encoder import Memory, mask_of
from hourglass.models.seq2seq import Seq2Seq

V = 20
RANDOM = np.random.default_rng(3)


def random_ids(count: int, shortest: int = 1, longest: int = 6) -> list[list[int]]:
    return [
        RANDOM.integers(FIXED_PIECES, V, size=RANDOM.integers(shortest, longest + 1)).tolist() for _ in range(count)
    ]


PAIRS = Pairs(random_ids(14), random_ids(14))


def plain_bits(model: Seq2Seq, pairs: Pairs, row: int, others: Sequence[int], temperature: float = 1.0) -> float:
    """Return the bits of one sentence: likelihoods one by one, and their mean as the equation has it."""
    chances = []
    for source in (row, *others):
        logits = teacher_forced_logits(model, pairs.sources[source], pairs.targets[row]) / temperature
        steps = zip(logits.softmax(-1), [*pairs.targets[row], EOS], strict=True)
        chances.append(math.prod(float(step[wanted]) for step, wanted in steps))
    return math.log2(chances[0] / (sum(chances) / len(chances)))


# ---- Against plain Python ----


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize("batch_tokens", [12, 4000])
def test_with_all_sources_each_sentence_is_that_of_the_equation(attention: str, batch_tokens: int) -> None:
    model = tiny_model(attention, {"decoder.dropout": 0.5, "encoder.dropout": 0.5})
    model.train()
    reading = read_contrast(model, PAIRS, sentences=5, batch_tokens=batch_tokens)
    assert model.training
    model.eval()
    assert reading.rows.tolist() == evenly_spaced(14, 5)
    expected = [plain_bits(model, PAIRS, row, [i for i in range(14) if i != row]) for row in reading.rows]
    assert reading.bits.tolist() == pytest.approx(expected, abs=1e-9)
    assert np.ptp(reading.bits) > 0.1
    assert (reading.sources, reading.cap) == (14, math.log2(14))
    assert reading.mean == pytest.approx(sum(expected) / 5)
    spread = sum((value - reading.mean) ** 2 for value in expected) / 4
    assert reading.error == pytest.approx((spread / 5) ** 0.5)


def test_the_others_are_a_panel_of_the_class_of_the_own_source() -> None:
    """Three sources explain the bits of all sentences of a class, and only one choice of three does."""
    model = tiny_model("luong_general")
    pairs = Pairs([[FIXED_PIECES + i] * (2 if i < 4 else 5) for i in range(9)], random_ids(9))
    reading = read_contrast(model, pairs, sources=3, sentences=0)
    classes = [(part.shortest, part.longest, part.rows.tolist()) for part in reading.classes]
    assert classes == [(2, 2, [0, 1, 2, 3]), (5, 5, [4, 5, 6, 7, 8])]

    def explains(panel: tuple[int, ...], row: int) -> bool:
        choices = combinations([i for i in panel if i != row], 2)
        return any(math.isclose(reading.bits[row], plain_bits(model, pairs, row, two)) for two in choices)

    for _, _, rows in classes:
        panels = [panel for panel in combinations(rows, 3) if all(explains(panel, row) for row in rows)]
        assert len(panels) == 1
    again, other = (read_contrast(model, pairs, sources=3, sentences=0, seed=seed) for seed in (0, 1))
    assert again.bits.tolist() == reading.bits.tolist() != other.bits.tolist()


def test_temperature_divides_the_logits() -> None:
    model = tiny_model("bahdanau")
    reading = read_contrast(model, PAIRS, sentences=3, temperature=2.5)
    expected = [plain_bits(model, PAIRS, row, [i for i in range(14) if i != row], 2.5) for row in reading.rows]
    assert reading.bits.tolist() == pytest.approx(expected, abs=1e-9)


def test_likelihoods_too_small_for_a_float_are_contrasted() -> None:
    nats = np.array([[-2000.0, -2001.0, -4000.0, -2000.0], [-3000.0, -2000.0, -2000.0, -9000.0]])
    first = -math.log2((2 + math.exp(-1)) / 4)
    assert contrast(nats).tolist() == pytest.approx([first, -1000 / math.log(2) + 1])


# ---- Classes ----


def test_classes_are_as_narrow_as_their_size_allows() -> None:
    lengths = RANDOM.integers(1, 30, size=500).tolist()
    classes = divide_by_length(lengths, 60)
    assert sorted(row for part in classes for row in part.rows) == list(range(500))
    assert len(classes) > 4
    for part in classes:
        inside = [lengths[row] for row in part.rows]
        assert (part.shortest, part.longest) == (min(inside), max(inside))
        assert len(inside) >= 60
    for part in classes[:-1]:  # One length fewer would be too few.
        assert sum(lengths[row] < part.longest for row in part.rows) < 60
    assert all(part.longest < after.shortest for part, after in pairwise(classes))


@pytest.mark.parametrize(("lengths", "smallest"), [([3] * 7, 2), ([1, 2, 3], 3), ([1, 2, 3], 2), ([1, 1, 1, 2], 2)])
def test_a_remainder_belongs_to_the_last_class(lengths: list[int], smallest: int) -> None:
    (only,) = divide_by_length(lengths, smallest)
    assert (only.shortest, only.longest, len(only.rows)) == (min(lengths), max(lengths), len(lengths))


# ---- Known information ----


class SymbolChannel(nn.Module):
    """A channel in place of a model: y is x with probability `kept`, else one of the other symbols; q is exact."""

    def __init__(self, symbols: int, kept: float):
        super().__init__()
        self.encoder, self.embedding = nn.Identity(), nn.Embedding(FIXED_PIECES + symbols, 1)
        self.encoder.memory_size = 0  # type: ignore[assignment]
        self.scores = nn.Identity()
        chances = torch.full((symbols, symbols), (1 - kept) / (symbols - 1)).fill_diagonal_(kept)
        self.log_chances = chances.double().log()
        self.information = math.log2(symbols) + float((chances[0] * chances[0].log2()).nan_to_num().sum())

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        states = torch.zeros(*source.shape, 0)
        summary = self.log_chances[source[:, 0] - FIXED_PIECES]
        return Memory(states, mask_of(lengths, source.shape[1]), lengths, summary)

    def readouts(self, target: Tensor, memory: Memory) -> Tensor:
        """Return log-probabilities [B, 2, V]: of the symbol, then of its end."""
        logs = torch.full((len(target), 2, FIXED_PIECES + len(self.log_chances)), float("-inf")).double()
        logs[:, 0, FIXED_PIECES:] = memory.summary
        logs[:, 1, EOS] = 0
        return logs

    def draw(self, count: int) -> Pairs:
        symbols = len(self.log_chances)
        source = RANDOM.integers(symbols, size=count)
        chances = self.log_chances.exp().numpy()
        target = [RANDOM.choice(symbols, p=chances[symbol] / chances[symbol].sum()) for symbol in source]
        return Pairs(*([[FIXED_PIECES + int(symbol)] for symbol in side] for side in (source, target)))


def read_channel(symbols: int, kept: float, sources: int) -> tuple[float, ContrastiveReading]:
    channel = SymbolChannel(symbols, kept)
    return channel.information, read_contrast(
        cast(Seq2Seq, channel), channel.draw(1000), sources=sources, sentences=600
    )


@pytest.mark.parametrize(("symbols", "kept"), [(64, 0.95), (64, 0.8), (16, 0.8), (4, 1.0)])
def test_a_known_channel_is_read_within_5_percent_and_not_exceeded(symbols: int, kept: float) -> None:
    """Most sources are drawn several times: without the equal ones, the reading would exceed the truth."""
    truth, reading = read_channel(symbols, kept, 1000)
    assert reading.mean < truth + 3 * reading.error
    assert reading.mean > 0.95 * truth - 3 * reading.error
    assert reading.error < 0.05 * truth


def test_no_sentence_exceeds_the_cap() -> None:
    truth, reading = read_channel(256, 1.0, 8)
    assert (truth, reading.cap) == (8, 3)
    assert reading.bits.max() <= 3
    assert 2.9 < reading.mean <= 3


def test_equal_sources_halve_the_cap_of_their_sentence() -> None:
    """Each text twice, all sources taken: one of N/2, whatever the decoder knows."""
    channel = SymbolChannel(64, 1.0)
    ids = [[FIXED_PIECES + i] for i in range(64)] * 2
    reading = read_contrast(cast(Seq2Seq, channel), Pairs(ids, ids), sentences=0)
    assert (reading.sources, reading.cap) == (128, 7)
    assert reading.bits.tolist() == pytest.approx([6] * 128, abs=1e-12)


def test_a_confident_wrong_decoder_is_below_the_truth() -> None:
    """A bound whatever the decoder: here it always names the next symbol with a probability near 1."""
    channel = SymbolChannel(16, 0.9)
    pairs = channel.draw(400)
    channel.log_chances = channel.log_chances.roll(1, 1) * 4
    assert read_contrast(cast(Seq2Seq, channel), pairs, sentences=0).mean < 0


# ---- Blind, and errors ----


@pytest.mark.parametrize(
    ("attention", "changes"),
    [("none", {}), ("fixed", {}), ("none", {"decoder.start": "zero", "encoder.summary_size": 0})],
)
def test_a_blind_decoder_has_exactly_nothing(attention: str, changes: dict[str, Any]) -> None:
    model = tiny_model(attention, changes, encoder="blind").float()
    pairs = Pairs(random_ids(300, 1, 20), random_ids(300, 1, 20))
    reading = read_contrast(model, pairs, sources=64, sentences=40, batch_tokens=300)
    assert len(reading.classes) > 2
    assert reading.bits.tolist() == [0.0] * 40
    assert (reading.mean, reading.error) == (0, 0)


@pytest.mark.parametrize(("count", "sources"), [(1, 1024), (14, 1), (14, 0)])
def test_a_contrast_needs_two_sources(count: int, sources: int) -> None:
    with pytest.raises(UserError, match=f"contrastive={sources}.* {count} sentences"):
        read_contrast(tiny_model(), Pairs(PAIRS.sources[:count], PAIRS.targets[:count]), sources=sources)


@pytest.mark.slow
@pytest.mark.more
def test_the_table_of_the_calibration(tmp_path: Path) -> None:
    """Hardly trained, so that readings are low: none exceeds what it should be by more than chance."""
    done = run_script("tests/metrics/contrastive_calibration.py", f"out={tmp_path}", "tokens=5000", "sentences=20")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 2 * 6
    for corpus, variant, _, truth, reading, error, cap, *_ in rows:
        assert corpus.strip() in ("copy", "numbers")
        assert float(reading) <= min(float(truth), float(cap)) + 3 * float(error) + 0.005
        if variant.strip() == "blind":
            assert (float(truth), float(reading), float(error)) == (0, 0, 0)
    unknown = run_script("tests/metrics/contrastive_calibration.py", "rows")
    assert unknown.stderr == "error: rows: no such option; choose from out=FOLDER, tokens=N, sentences=N, narrow\n"
