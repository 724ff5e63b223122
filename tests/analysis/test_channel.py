"""The calibrated channel against channels of known capacity: perfect, blind, with the wrong source, of k bits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY, compose_config, tiny_config
from torch import Tensor, nn

from hourglass.analysis.channel import (
    ChannelReading,
    check_channel,
    longest_copied,
    read_channel,
    read_recall,
    swap_sources,
)
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.errors import UserError
from hourglass.metrics.likelihood import Pairs
from hourglass.models.build import build_model
from hourglass.models.cells import StateRange
from hourglass.models.encoder import Encoder, Memory, mask_of
from hourglass.models.recurrent import CELLS
from hourglass.models.seq2seq import Seq2Seq
from hourglass.models.summary import StateRounding, round_to_bits
from hourglass.training.settings import check_settings

P = 16  # symbols, 4 bits each
BITS_A_SYMBOL = 4
V = FIXED_PIECES + P
SYMBOLS = torch.arange(FIXED_PIECES, V)


def draw(count: int, shortest: int, longest: int, seed: int) -> Pairs:
    random = np.random.default_rng(seed)
    rows = [
        random.integers(FIXED_PIECES, V, size=shortest + index % (longest - shortest + 1)).tolist()
        for index in range(count)
    ]
    return Pairs(rows, rows)


class Analytic(nn.Module):
    """Decodes by Bayes' rule from the first k bits of the source; later symbols are equally likely.

    It has the methods of a model that `read_channel` calls. The readout is the logarithm of the probabilities.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k
        self.scores = nn.Identity()
        self.where = nn.Parameter(torch.zeros(1))

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        return source

    def readouts(self, target: Tensor, memory: Tensor) -> Tensor:
        batch, steps = target.shape
        probabilities = torch.full((batch, steps, V), 1e-9)
        for b in range(batch):
            length = int((memory[b] == EOS).nonzero()[0])
            for t in range(steps):
                if t >= length:
                    probabilities[b, t, EOS] = 1.0
                    continue
                known = min(max(self.k - BITS_A_SYMBOL * t, 0), BITS_A_SYMBOL)
                symbol = int(memory[b, t]) - FIXED_PIECES
                group = symbol >> (BITS_A_SYMBOL - known)
                first, size = group << (BITS_A_SYMBOL - known), 1 << (BITS_A_SYMBOL - known)
                probabilities[b, t, FIXED_PIECES + first : FIXED_PIECES + first + size] = 1.0 / size
        return probabilities.log()


class BitEncoder(Encoder):
    """Passes on the first k bits of the source, as -1 and 1, and nothing else."""

    name = "bits"
    memory_size = 0

    def __init__(self, k: int, summary_size: int):
        super().__init__()
        self.k, self.summary_size = k, summary_size

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        symbols = (source[:, : math.ceil(self.k / BITS_A_SYMBOL)] - FIXED_PIECES).clamp(0, P - 1)
        shifts = torch.arange(BITS_A_SYMBOL - 1, -1, -1)
        bits = ((symbols.unsqueeze(-1) >> shifts) & 1).flatten(1)[:, : self.k]
        summary = torch.zeros(len(source), self.summary_size)
        summary[:, : self.k] = bits * 2.0 - 1
        return Memory(torch.zeros(*source.shape, 0), mask_of(lengths, source.shape[1]), lengths, summary)


def make(attention: str = "none", changes: Mapping[str, Any] | None = None, encoder: str = "rnn") -> Seq2Seq:
    options = {"decoder.hidden_size": 64, "encoder.hidden_size": 64, "encoder.dropout": 0.0, "decoder.dropout": 0.0}
    options |= {"decoder.embedding_size": 32, "encoder.embedding_size": 32, "decoder.readout_size": 32}
    if encoder == "blind":
        options = {name: value for name, value in options.items() if name.startswith("decoder") or "embedding" in name}
    return build_model(tiny_config(attention, options | dict(changes or {}), encoder), V, V, joint=True)


def train(model: Seq2Seq, shortest: int, longest: int, steps: int, batch: int = 128) -> Seq2Seq:
    """Train on fresh sequences at every step; each step is of one length."""
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    random = np.random.default_rng(99)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, step / 50) * (1 - step / steps)
        length = shortest + step % (longest - shortest + 1)
        rows = torch.from_numpy(random.integers(FIXED_PIECES, V, size=(batch, length)))
        end = torch.full((batch, 1), EOS)
        source, target = torch.cat([rows, end], 1), torch.cat([torch.full((batch, 1), BOS), rows, end], 1)
        loss = model.loss(source, torch.full((batch,), length + 1), target).smoothed / (batch * (length + 1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def test_a_perfect_copier_receives_all_bits_and_needs_none_for_the_end() -> None:
    pairs = draw(60, 3, 12, seed=1)
    reading = read_channel(Analytic(k=1000), pairs, SYMBOLS)  # type: ignore[arg-type]
    assert reading.bits == pytest.approx(reading.lengths * BITS_A_SYMBOL, rel=0.01)
    assert reading.lengths.tolist() == [len(row) for row in pairs.targets]
    assert reading.end == pytest.approx(np.zeros(60), abs=1e-3)


@pytest.mark.parametrize("k", [1, 10, 22])
def test_a_channel_of_k_bits_with_an_optimal_decoder_passes_k(k: int) -> None:
    reading = read_channel(Analytic(k), draw(400, 6, 12, seed=2), SYMBOLS)  # type: ignore[arg-type]
    assert reading.mean == pytest.approx(k, rel=0.05)
    assert reading.mean <= k + 3 * reading.error + 1e-3
    positions = np.nanmean(reading.by_position, 0)[:6]
    known = [min(max(k - BITS_A_SYMBOL * t, 0), BITS_A_SYMBOL) for t in range(6)]
    assert positions == pytest.approx(known, abs=0.01)


def test_a_decoder_with_the_wrong_source_has_negative_bits() -> None:
    pairs = draw(200, 4, 8, seed=3)
    reading = read_channel(Analytic(k=8), Pairs(swap_sources(pairs.sources), pairs.targets), SYMBOLS)  # type: ignore[arg-type]
    assert reading.mean < 0


def test_a_channel_of_0_bits_passes_none() -> None:
    reading = read_channel(Analytic(k=0), draw(100, 4, 8, seed=4), SYMBOLS)  # type: ignore[arg-type]
    assert reading.bits == pytest.approx(np.zeros(100), abs=1e-3)


def at_most(reading: ChannelReading, bits: float) -> bool:
    return reading.mean <= bits + 3 * reading.error


@pytest.mark.slow
def test_a_trained_decoder_receives_k_bits_of_a_channel_of_k() -> None:
    k = 10
    model = make("none", {"encoder.summary_size": 12})
    model.encoder = BitEncoder(k, summary_size=12)
    reading = read_channel(train(model, 4, 6, steps=700), draw(1500, 4, 6, seed=5), SYMBOLS)
    assert reading.mean == pytest.approx(k, rel=0.05)
    assert at_most(reading, k)


@pytest.mark.more
@pytest.mark.slow
def test_a_trained_blind_decoder_receives_no_bits() -> None:
    reading = read_channel(train(make(encoder="blind"), 4, 6, steps=200), draw(1500, 4, 6, seed=6), SYMBOLS)
    assert at_most(reading, 0)
    assert reading.mean > -0.5


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("attention", ["none", "fixed", "luong_general"])
def test_a_trained_model_of_another_sentence_reads_at_most_nothing(attention: str) -> None:
    model = train(make(attention), 4, 6, steps=400)
    pairs = draw(1500, 4, 6, seed=7)
    assert read_channel(model, pairs, SYMBOLS).mean > 1
    assert at_most(read_channel(model, Pairs(swap_sources(pairs.sources), pairs.targets), SYMBOLS), 0)


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize(("width", "bits"), [(2, 1), (4, 1)])
def test_a_rounded_summary_holds_no_more_than_its_ceiling(width: int, bits: int) -> None:
    """Without rounding, the same model exceeds it after as many steps."""
    readings = {}
    for rounding in (bits, 0):
        model = train(make("none", {"encoder.summary_size": width, "encoder.summary_bits": rounding}), 4, 6, steps=400)
        readings[rounding] = read_channel(model, draw(1500, 4, 6, seed=8), SYMBOLS)
    assert at_most(readings[bits], width * bits)
    assert readings[bits].mean > 0.5
    assert not at_most(readings[0], width * bits)


def test_rounding_has_2_to_the_b_levels_and_passes_the_gradient_through() -> None:
    values = torch.cat([torch.linspace(-1, 1, 101), torch.rand(100_000) * 2 - 1]).requires_grad_()
    for bits in (1, 2, 5):
        rounded = round_to_bits(values, bits)
        assert rounded.unique().numel() == 2**bits
        assert (rounded.min(), rounded.max()) == (-1, 1)
        assert (rounded - values).abs().max() <= 1 / (2**bits - 1) + 1e-6
        (gradient,) = torch.autograd.grad(rounded.sum(), values)
        assert torch.equal(gradient, torch.ones(len(values)))


def test_a_rounded_summary_takes_at_most_2_to_the_db_values() -> None:
    model = make("none", {"encoder.summary_size": 2, "encoder.summary_bits": 2})
    source = torch.cat([torch.randint(FIXED_PIECES, V, (400, 6)), torch.full((400, 1), EOS)], 1)
    summary = model.encode(source, torch.full((400,), 7)).summary
    assert len(summary.unique(dim=0)) <= 2 ** (2 * 2)
    assert summary.unique().numel() <= 4


LEVELS = {"unit": (-0.75, -0.25, 0.25, 0.75), "positive": (1 / 7, 0.6, 5 / 3, 7.0), "real": (-3.0, -1 / 3, 1 / 3, 3.0)}


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_a_number_of_a_state_is_rounded_to_levels_in_its_own_range(kind: StateRange) -> None:
    """To the nearest in the companded range, as the levels there are the middles of equal intervals."""
    low, high = {"unit": (-1.0, 1.0), "positive": (0.0, 50.0), "real": (-50.0, 50.0)}[kind]
    state = torch.linspace(low, high, 10_001, dtype=torch.float64).unsqueeze(1).requires_grad_()
    rounded = StateRounding([kind], 2)(state)
    assert rounded.detach().round(decimals=9).unique().tolist() == pytest.approx(LEVELS[kind])
    (gradient,) = torch.autograd.grad(rounded.sum(), state)
    assert torch.equal(gradient, torch.ones_like(state))

    def companded(x: Tensor) -> Tensor:
        return {"unit": x, "positive": 1 - 2 / (1 + x), "real": x.sign() * (1 - 1 / (1 + x.abs()))}[kind]

    for bits in (1, 5, 16):
        error = companded(StateRounding([kind], bits)(state).detach()) - companded(state.detach())
        assert error.abs().max() <= 2.0**-bits + 1e-9


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_a_state_that_is_handed_on_is_rounded_part_by_part(cell: str) -> None:
    shapes = CELLS[cell].state_shapes(8)
    changes: dict[str, Any] = {"decoder.start": "pass", "encoder.bidirectional": False, "encoder.summary_bits": 2}
    changes |= {f"{side}.{key}": value for side in ("encoder", "decoder") for key, value in (("cell", cell),)}
    changes |= {"encoder.hidden_size": 8, "decoder.hidden_size": 8, "encoder.summary_size": CELLS[cell].state_size(8)}
    model = make("none", changes).double().eval()
    for weight in model.encoder.parameters():
        nn.init.normal_(weight, std=1.5)
    source = torch.cat([torch.randint(FIXED_PIECES, V, (200, 6)), torch.full((200, 1), EOS)], 1)
    summary = model.encode(source, torch.full((200,), 7)).summary.detach()
    parts = summary.split([math.prod(shape) for shape in shapes], 1)
    for part, name in zip(parts, CELLS[cell].state_parts, strict=True):
        own = LEVELS[CELLS[cell].state_ranges.get(name, "real")]
        assert (part.unsqueeze(-1) - torch.tensor(own, dtype=part.dtype)).abs().amin(-1).max() < 1e-9


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize(("cell", "width", "bits"), [("gru", 4, 3), ("delta_net", 8, 1)])
def test_a_rounded_state_holds_something_and_no_more_than_its_ceiling(cell: str, width: int, bits: int) -> None:
    """The source has 20 bits in the mean, and the state 12 or 16."""
    size, read = CELLS[cell].state_size(width), CELLS[cell].read_size(width)
    changes: dict[str, Any] = {"decoder.start": "pass", "encoder.bidirectional": False, "encoder.summary_size": size}
    changes |= {"encoder.cell": cell, "decoder.cell": cell, "encoder.summary_bits": bits}
    changes |= {"encoder.hidden_size": width, "decoder.hidden_size": width}
    reading = read_channel(train(make("none", changes), 4, 6, steps=700), draw(1500, 4, 6, seed=8), SYMBOLS)
    assert at_most(reading, bits * read)
    assert reading.mean > 0.5


def test_a_fixed_context_of_constant_width_leaves_the_decoder_as_it_is() -> None:
    models = [make("fixed", {"encoder.summary_size": size, "attention.width": 24}) for size in (2, 64)]
    shapes = [
        {
            name: weight.shape
            for name, weight in model.decoder.named_parameters()
            if "widen" not in name and "bridge" not in name
        }
        for model in models
    ]
    assert shapes[0] == shapes[1]
    assert [model.decoder.attention.context_size for model in models] == [24, 24]
    wide = make("fixed", {"encoder.summary_size": 5})
    assert wide.decoder.attention.context_size == 5


def test_longest_copied_by_hand() -> None:
    references = [["a"], ["b", "a"], ["a", "b", "c"], ["a", "b", "c", "d"]]
    assert longest_copied(references, references) == 4
    assert longest_copied([["a"], ["b", "a"], ["a", "b"], ["a", "b", "c", "d"]], references) == 2
    assert longest_copied([[], ["b", "a"], ["a", "b", "c"], ["a", "b", "c", "d"]], references) == 0
    assert longest_copied([["a", "a"], ["b", "a"]], references[:2]) == 2  # Words beyond the reference do not count.


def test_swapped_sources_have_equal_length_and_none_stays() -> None:
    rows: list[Sequence[int]] = [[4, 5], [6, 7], [8], [9], [4, 4]]
    swapped = swap_sources(rows)
    assert [len(row) for row in swapped] == [2, 2, 1, 1, 2]
    assert all(row is not other for row, other in zip(rows, swapped, strict=True))
    assert sorted(map(list, swapped)) == sorted(map(list, rows))
    with pytest.raises(UserError, match="and so no other to swap"):
        swap_sources([[4], [5, 6]])


# ---- Refused settings -----------------------------------------------------------------------------------------------

CALIBRATED = (
    "data.calibrated=true",
    "data.shortest=5",
    "data.longest=10",
    "optimizer.label_smoothing=0",
    "trainer.target_tokens=300000",
    "attention=none",
)


@pytest.mark.parametrize("corpus", ["copy", "reverse"])
def test_a_calibrated_channel_is_accepted(corpus: str) -> None:
    config = compose_config(f"data={corpus}", *CALIBRATED, *TINY)
    check_settings(config)
    assert check_channel("runs/one", config).all_symbols == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.shortest=4", "data.calibrated=true: there are 16,777,216 sequences of data.shortest=4 symbols"),
        ("tokenizer=char", "tokenizer.model=char with data.calibrated=true"),
        ("data.vocabulary_size=60", "data.vocabulary_size=60 with data.calibrated=true: the pieces are the 64 symbols"),
        ("optimizer.label_smoothing=0.1", "optimizer.label_smoothing=0.1 with data.calibrated=true"),
        ("trainer.target_tokens=2000000", "data.train_pairs=50000 with data.calibrated=true would be read more than"),
    ],
)
def test_what_would_make_the_bits_no_bound_is_refused_by_name(change: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_settings(compose_config("data=copy", *CALIBRATED, *TINY, change))
    assert str(refused.value).startswith(message)


def test_a_run_that_is_no_channel_is_refused_by_its_path() -> None:
    with pytest.raises(UserError, match=r"runs/one: a run of data=numbers; a channel is calibrated on"):
        check_channel("runs/one", compose_config("data=numbers"))
    with pytest.raises(UserError, match=r"runs/one: trained with data\.calibrated=false"):
        check_channel("runs/one", compose_config("data=copy"))


# ---- Recall ---------------------------------------------------------------------------------------------------------

KEYS, VALUES, ENTRIES = 6, 4, 3
FIRST_VALUE = FIXED_PIECES + KEYS
WORDS = torch.arange(FIRST_VALUE, FIRST_VALUE + VALUES)
STATES = torch.cartesian_prod(*[torch.arange(VALUES)] * ENTRIES)  # [V^N, N]


def every_recall() -> tuple[Pairs, list[tuple[int, int]]]:
    """All values of three entries, and each asked for: the expectation over values and queries is the mean."""
    keys = [FIXED_PIECES + 4, FIXED_PIECES, FIXED_PIECES + 2]
    rows = [(values, asked) for values in STATES.tolist() for asked in range(ENTRIES)]
    sources = [
        [word for key, value in zip(keys, values, strict=True) for word in (key, FIRST_VALUE + value)]
        for values, _ in rows
    ]
    targets, prefixes = [[FIRST_VALUE + values[asked]] for values, asked in rows], [[keys[asked]] for _, asked in rows]
    return Pairs(sources, targets, prefixes), [(ENTRIES, asked) for _, asked in rows]


class StateReader(nn.Module):
    """Answers by Bayes' rule from a state that is a function of the values: p(value | state, key), by counting."""

    def __init__(self, state: Callable[[Tensor], Tensor]):
        super().__init__()
        self.state, self.scores, self.where = state, nn.Identity(), nn.Parameter(torch.zeros(1))

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        return source

    def readouts(self, target: Tensor, memory: Tensor) -> Tensor:
        states = self.state(STATES)  # [V^N, D]
        probabilities = torch.full((*target.shape, FIRST_VALUE + VALUES), 1e-9)
        probabilities[:, -1, EOS] = 1.0
        for b, row in enumerate(memory):
            values = row[1 : 2 * ENTRIES : 2] - FIRST_VALUE
            asked = int((row[: 2 * ENTRIES : 2] == target[b, 1]).nonzero()[0])
            alike = (states == self.state(values.unsqueeze(0))).all(1)
            counts = torch.bincount(STATES[alike, asked], minlength=VALUES)
            probabilities[b, 1, FIRST_VALUE:] += counts / counts.sum()
        return probabilities.log()


def entropy_of(state: Callable[[Tensor], Tensor]) -> float:
    """The information about the values that a function of them holds, in bits."""
    shares = state(STATES).unique(dim=0, return_counts=True)[1] / len(STATES)
    return float(-(shares * shares.log2()).sum())


@pytest.mark.parametrize("known", [0, 1, 2, 3])
def test_a_state_with_m_of_the_values_reads_as_m_values(known: int) -> None:
    pairs, places = every_recall()
    reading = read_recall(StateReader(lambda values: values[:, :known]), pairs, places, WORDS)  # type: ignore[arg-type]
    assert reading.mean == pytest.approx(known * math.log2(VALUES), abs=1e-4)
    by_position = np.nanmean(reading.by_position, 0)
    assert by_position == pytest.approx([2.0 * (entry < known) for entry in range(ENTRIES)], abs=1e-4)
    assert reading.lengths.tolist() == [ENTRIES] * len(places)
    assert reading.end == pytest.approx(np.zeros(len(places)), abs=1e-3)


def test_a_recall_reading_is_under_what_a_rounded_state_holds_and_under_its_ceiling() -> None:
    pairs, places = every_recall()
    random = torch.Generator().manual_seed(3)
    readings = []
    for width, bits in ((1, 1), (1, 2), (2, 1), (2, 2)):
        weight = torch.randn(ENTRIES, width, generator=random) / VALUES

        def state(values: Tensor, weight: Tensor = weight, bits: int = bits) -> Tensor:
            return round_to_bits(((values.float() - 1.5) @ weight).tanh(), bits)

        reading = read_recall(StateReader(state), pairs, places, WORDS)  # type: ignore[arg-type]
        assert 0 < reading.mean <= entropy_of(state) + 1e-4 <= width * bits + 2e-4
        readings.append(reading.mean)
    assert max(readings) > 0.5
    # A bound, no more: the sum of the values modulo V is two bits about them, and none about any of them alone.
    together = read_recall(StateReader(lambda values: values.sum(1, keepdim=True) % VALUES), pairs, places, WORDS)  # type: ignore[arg-type]
    assert together.mean == pytest.approx(0, abs=1e-4)


def test_a_blind_encoder_recalls_nothing() -> None:
    pairs, places = every_recall()
    model = build_model(tiny_config("none", {}, "blind"), *[FIRST_VALUE + VALUES] * 2, joint=True).double()
    assert read_recall(model, pairs, places, WORDS).mean < 0
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    assert read_recall(model, pairs, places, WORDS).mean == pytest.approx(0, abs=1e-6)


def test_the_wrong_source_recalls_nothing() -> None:
    pairs, places = every_recall()
    swapped = replace(pairs, sources=swap_sources(pairs.sources))
    assert read_recall(StateReader(lambda values: values), swapped, places, WORDS).mean < 0  # type: ignore[arg-type]


class FirstWordKnown(nn.Module):
    """Knows the first of the two words of every value, and nothing of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.where = nn.Identity(), nn.Parameter(torch.zeros(1))

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        return source

    def readouts(self, target: Tensor, memory: Tensor) -> Tensor:
        probabilities = torch.full((*target.shape, FIRST_VALUE + VALUES), 1e-9)
        for b, row in enumerate(memory.tolist()):
            entry = row.index(int(target[b, 1]))
            probabilities[b, 1, row[entry + 1]] = 1.0
            probabilities[b, 2, FIRST_VALUE:] = 1 / VALUES
        probabilities[:, 3, EOS] = 1.0
        return probabilities.log()


def test_a_value_of_several_words_counts_all_of_them() -> None:
    random = np.random.default_rng(4)
    values = random.integers(FIRST_VALUE, FIRST_VALUE + VALUES, size=(40, 2, 2)).tolist()
    keys = [FIXED_PIECES, FIXED_PIECES + 1]
    places = [(2, index % 2) for index in range(40)]
    pairs = Pairs(
        [[word for key, value in zip(keys, row, strict=True) for word in (key, *value)] for row in values],
        [row[asked] for row, (_, asked) in zip(values, places, strict=True)],
        [[keys[asked]] for _, asked in places],
    )
    reading = read_recall(FirstWordKnown(), pairs, places, WORDS)  # type: ignore[arg-type]
    assert reading.bits == pytest.approx(2 * math.log2(VALUES), abs=1e-4)
