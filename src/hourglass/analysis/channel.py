"""A calibrated channel: on copy, reverse, recall and phone_book, the bits that came through are bounded from below.

A sequence of L symbols, drawn evenly from P, holds L * log2(P) bits, and earlier symbols tell nothing about later ones.
So

    bits = L * log2(P) - (negative log2-likelihood of the L symbols)

is at most the information about them that reached the decoder, whatever the model, in the mean over sentences (Barber
and Agakov 2003). The likelihood is computed under teacher forcing, without dropout, over the P symbols alone at their L
positions. End-of-sentence tells only how long the sentence is, and is reported separately.

On recall and phone_book, the source is L entries of a key and a value. The values are drawn evenly from V ones,
independently of each other and of the keys, and the query, drawn evenly, is known only after the neck. So

    bits = L * (log2(V) - negative log2-likelihood of the value that is asked for)

is at most the information about all values, given the keys, that reached the decoder, in the mean over sources and
queries: docs/readings.md has the derivation. What the state holds of the keys is left out.

Shapes: N sentences, L symbols or entries of a sentence, P different symbols.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hourglass.analysis.neck import neck_of
from hourglass.config.options import Config
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.lookup import AssociativeRecipe
from hourglass.corpora.synthetic import ChannelRecipe
from hourglass.data.pieces import UNK
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, Pairs, end_bits, reference_nats
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.commands import printed_command
from hourglass.training.finished import FinishedRun

# Share of the symbols that have to be right for a length to count as copied.
COPIED = 0.99


@dataclass(frozen=True)
class ChannelReading:
    """Bits that came through, sentence by sentence.

    Attributes:
        lengths: [N] L.
        bits: [N] a lower bound in the mean; negative where a model is confident and wrong.
        by_position: [N, longest L] bits of each target symbol, or of the value of each entry; NaN past the end, and for
            entries that are not asked for.
        end: [N] bits that end-of-sentence needs.
    """

    lengths: np.ndarray
    bits: np.ndarray
    by_position: np.ndarray
    end: np.ndarray

    @property
    def mean(self) -> float:
        """Bits per sentence."""
        return float(self.bits.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return error_within(self.lengths, self.bits)

    @property
    def longest_quarter(self) -> "ChannelReading":
        """The reading of the longest quarter of the sentences.

        Short sentences may hold less than the neck can carry, and would lower the mean over all lengths.
        """
        rows = self.lengths >= np.quantile(self.lengths, 0.75)
        return ChannelReading(self.lengths[rows], self.bits[rows], self.by_position[rows], self.end[rows])


@dataclass(frozen=True)
class LengthReading:
    """Bits that came through in sequences of one length.

    Attributes:
        symbols: L, symbols or entries.
        bits: mean over sequences.
        error: standard error of the mean.
        source_bits: information in a sequence.
    """

    symbols: float
    bits: float
    error: float
    source_bits: float


@dataclass(frozen=True)
class ChannelSummary:
    """Bits that came through the channel of one run, in bits per sequence.

    Attributes:
        ceiling: bits of a rounded neck, a summary or a state, which no reading can exceed; None without rounding, and
            with attention, which bypasses the neck.
        bits: mean over the longest quarter of the test sequences.
        error: standard error of `bits`.
        source_bits: information in a sequence of the longest quarter.
        wrong_source_bits: the reading over all sequences when the encoder has read another sequence of equal length;
            above 0 only by chance.
        wrong_source_error: standard error of `wrong_source_bits`.
        end_bits: that end-of-sentence needs, over all sequences.
        by_length: over all sequences.
        by_position: bits of each symbol or value, in the longest quarter, up to the length of the shortest sequence
            there; NaN for a value that is never asked for.
        shortest: length of the shortest test sequence.
        longest_quarter: shortest and longest length in the longest quarter.
    """

    ceiling: int | None
    bits: float
    error: float
    source_bits: float
    wrong_source_bits: float
    wrong_source_error: float
    end_bits: float
    by_length: list[LengthReading]
    by_position: list[float]
    shortest: int
    longest_quarter: tuple[int, int]


def error_within(lengths: np.ndarray, values: np.ndarray) -> float:
    """Return the standard error of a mean over sequences whose lengths are fixed by design, not drawn.

    Args:
        lengths: [N], each at least twice.
        values: [N].
    """
    within = 0.0
    for length in np.unique(lengths):
        group = values[lengths == length]
        within += len(group) * float(group.var(ddof=1))
    return math.sqrt(within) / len(values)


def check_channel(path: str, config: Config) -> ChannelRecipe:
    """Check that a run's bits are a bound, and return the recipe of its corpus.

    Raises:
        UserError: the run has another corpus, or was trained without the checks that a bound needs.
    """
    name, recipe = check_recipe(config["data"])
    if not isinstance(recipe, ChannelRecipe):
        raise UserError(
            f"{path}: a run of data={name}; a channel is calibrated on data=copy, reverse, recall or phone_book "
            f"({printed_command('src/train.py', 'experiment=capacity')})"
        )
    if not recipe.calibrated:
        raise UserError(
            f"{path}: trained with data.calibrated=false, so that its bits are no bound: train it with "
            "data.calibrated=true (experiment=capacity has it)"
        )
    return recipe


def symbol_ids(vocabularies: Vocabularies, symbols: Sequence[str]) -> torch.Tensor:
    """Return the ids [P] of the target symbols.

    Raises:
        UserError: a symbol is not a piece of its own.
    """
    ids = vocabularies.target.encode(list(symbols))
    if any(len(pieces) != 1 or pieces[0] == UNK for pieces in ids) or len({pieces[0] for pieces in ids}) < len(symbols):
        raise UserError("data.symbols: not every symbol is a piece of its own: set a larger data.train_pairs")
    return torch.tensor([pieces[0] for pieces in ids])


def read_channel(model: Seq2Seq, pairs: Pairs, symbols: torch.Tensor) -> ChannelReading:
    """Measure the bits that came through.

    Args:
        model: is put in evaluation mode for the call.
        pairs: sentences of symbols.
        symbols: [P] ids of `symbol_ids`.
    """
    device = next(model.parameters()).device
    nats = reference_nats(model, pairs, among=symbols.to(device))
    lengths = np.array([len(values) - 1 for values in nats])
    by_position = np.full((len(nats), lengths.max()), np.nan)
    for row, values in zip(by_position, nats, strict=True):
        row[: len(values) - 1] = math.log2(len(symbols)) - values[:-1] * BITS_A_NAT
    return ChannelReading(lengths, np.nansum(by_position, 1), by_position, end_bits(nats))


def read_recall(
    model: Seq2Seq, pairs: Pairs, places: Sequence[tuple[int, int]], alphabet: torch.Tensor
) -> ChannelReading:
    """Measure the bits about the values of entries that came through.

    Args:
        model: is put in evaluation mode for the call.
        pairs: sources of entries, the value that is asked for, and as the prefix the query.
        places: N numbers of entries, and which of them, from 0, is asked for.
        alphabet: [P] ids of the words of which each word of a value is drawn evenly.
    """
    device = next(model.parameters()).device
    nats = reference_nats(model, pairs, among=alphabet.to(device))
    # The words of a value are known to be as many as they are: its end is read apart.
    value_bits = np.array([len(values) - 1 for values in nats]) * math.log2(len(alphabet))
    gained = value_bits - np.array([values[:-1].sum() for values in nats]) * BITS_A_NAT
    lengths, asked = (np.array(column) for column in zip(*places, strict=True))
    by_position = np.full((len(nats), lengths.max()), np.nan)
    by_position[np.arange(len(nats)), asked] = gained
    return ChannelReading(lengths, lengths * gained, by_position, end_bits(nats))


def swap_sources(sources: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return the sources in another order: each is replaced by its neighbour of equal length.

    Raises:
        UserError: a length has only one sentence.
    """
    of_length: dict[int, list[int]] = {}
    for number, ids in enumerate(sources):
        of_length.setdefault(len(ids), []).append(number)
    swapped: list[Sequence[int]] = list(sources)
    for numbers in of_length.values():
        if len(numbers) < 2:
            raise UserError("data.test_pairs: a length has only one sequence, and so no other to swap: raise it")
        for number, neighbour in zip(numbers, numbers[1:] + numbers[:1], strict=True):
            swapped[number] = sources[neighbour]
    return swapped


def longest_copied(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> int:
    """Return the greatest L such that for each length up to L at least 99 % of the symbols are in place; 0 if none.

    Args:
        outputs: N lists of words, translated without teacher forcing.
        references: N lists of words.
    """
    shares: dict[int, list[float]] = {}
    for output, reference in zip(outputs, references, strict=True):
        hits = sum(word == expected for word, expected in zip(output, reference, strict=False))
        shares.setdefault(len(reference), []).append(hits / len(reference))
    longest = 0
    for length in sorted(shares):
        if np.mean(shares[length]) < COPIED:
            break
        longest = length
    return longest


def summarise_channel(run: FinishedRun) -> ChannelSummary:
    """Measure the channel of a run on its test split.

    Raises:
        UserError: the run is not of a calibrated channel.
    """
    recipe = check_channel(str(run.path), run.config)
    trained, test = run.trained, run.prepared.corpus.splits["test"]
    pairs = Pairs.of_split(trained.vocabularies, test)
    others = replace(pairs, sources=swap_sources(pairs.sources))
    if isinstance(recipe, AssociativeRecipe):
        ids = symbol_ids(trained.vocabularies, recipe.alphabet)
        places = [recipe.place(*texts) for texts in zip(test["source"], test["prefix"], strict=True)]
        reading, wrong = (read_recall(trained.model, each, places, ids) for each in (pairs, others))
        bits_of_each = recipe.value_bits
    else:
        ids = symbol_ids(trained.vocabularies, [f"s{number}" for number in range(recipe.all_symbols)])
        reading, wrong = (read_channel(trained.model, each, ids) for each in (pairs, others))
        bits_of_each = float(np.log2(recipe.all_symbols))
    encoder, attention = run.config["encoder"], trained.model.decoder.attention
    rounded = encoder.get("summary_bits") and not attention.has_weights
    longest = reading.longest_quarter
    shortest_of_longest = int(longest.lengths.min())
    return ChannelSummary(
        ceiling=neck_of(run.config).bits if rounded else None,
        bits=longest.mean,
        error=longest.error,
        source_bits=float(longest.lengths.mean() * bits_of_each),
        wrong_source_bits=wrong.mean,
        wrong_source_error=wrong.error,
        end_bits=float(reading.end.mean()),
        by_length=_by_length(reading, bits_of_each),
        # Up to here every position has the same sequences, or may be asked for in each.
        by_position=_mean_of_known(longest.by_position[:, :shortest_of_longest]),
        shortest=int(reading.lengths.min()),
        longest_quarter=(shortest_of_longest, int(longest.lengths.max())),
    )


def _mean_of_known(values: np.ndarray) -> list[float]:
    """Return the mean of each column over its numbers, NaN where it has none."""
    return [float(known.mean()) if len(known := column[~np.isnan(column)]) else math.nan for column in values.T]


def _by_length(reading: ChannelReading, bits_a_symbol: float) -> list[LengthReading]:
    lengths: Sequence[int] = np.unique(reading.lengths).tolist()
    return [
        LengthReading(
            symbols=float(length),
            bits=float(bits.mean()),
            error=float(bits.std(ddof=1) / np.sqrt(len(bits))),
            source_bits=length * bits_a_symbol,
        )
        for length in lengths
        for bits in [reading.bits[reading.lengths == length]]
    ]
