"""A calibrated channel: on copy and reverse of symbols drawn evenly, how many bits came through is bounded for certain.

L symbols out of P hold L * log2(P) bits, and those before say nothing of the next. So

    bits = L * log2(P) - (negative log2-likelihood of the L symbols)

is at most the information about them that reached the decoder, whatever the model (Barber and Agakov 2003), in the
mean over sentences. The likelihood is teacher-forced, without dropout, over the P symbols alone at their L positions.
End-of-sentence says only how long the sentence was: it is shown apart.

Shapes: N sentences, L symbols of a sentence, P different symbols.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hourglass.config.compose import Config
from hourglass.data.pieces import UNK
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, Pairs, reference_nats
from hourglass.models.checkpoint import load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder, open_run
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_to_read

# Share of the symbols that have to be right for a length to count as copied.
COPIED = 0.99


@dataclass(frozen=True)
class ChannelReading:
    """What came through, sentence by sentence.

    Attributes:
        lengths: [N] L.
        bits: [N] a lower bound, in the mean; below 0 where a model is surer of the wrong than of nothing.
        by_position: [N, longest L] bits of each target symbol; NaN past the end.
        end: [N] bits that end-of-sentence cost.
    """

    lengths: np.ndarray
    bits: np.ndarray
    by_position: np.ndarray
    end: np.ndarray

    @property
    def mean(self) -> float:
        """Bits a sentence."""
        return float(self.bits.mean())

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return error_within(self.lengths, self.bits)

    @property
    def longest_quarter(self) -> "ChannelReading":
        """The reading of the longest quarter of the sequences, which a neck of less than they hold cannot tell whole.

        A mean over all lengths would fall short of what a neck carries by the short ones, which hold less than that.
        """
        rows = self.lengths >= np.quantile(self.lengths, 0.75)
        return ChannelReading(self.lengths[rows], self.bits[rows], self.by_position[rows], self.end[rows])


def error_within(lengths: np.ndarray, values: np.ndarray) -> float:
    """Return the standard error of a mean over sequences whose lengths are as they are: the design's, not chance's.

    Args:
        lengths: [N], each at least twice.
        values: [N].
    """
    within = 0.0
    for length in np.unique(lengths):
        some = values[lengths == length]
        within += len(some) * float(some.var(ddof=1))
    return math.sqrt(within) / len(values)


def check_channel(path: str, config: Config) -> int:
    """Return P of a run whose bits are a bound.

    Raises:
        UserError: the run is of another corpus, or was not held to what a bound takes.
    """
    data = config["data"]
    if data["name"] not in ("copy", "reverse"):
        raise UserError(
            f"{path}: a run of data={data['name']}; a channel is calibrated on data=copy or data=reverse "
            "(python src/train.py experiment=capacity)"
        )
    if not data.get("calibrated"):
        raise UserError(
            f"{path}: trained with data.calibrated=false, so that its bits are no bound: train it with "
            "data.calibrated=true (experiment=capacity has it)"
        )
    return int(data["symbols"])


def symbol_ids(vocabularies: Vocabularies, symbols: int) -> torch.Tensor:
    """Return the ids [P] of the target's symbols.

    Raises:
        UserError: a symbol is no piece of its own.
    """
    ids = vocabularies.target.encode([f"s{number}" for number in range(symbols)])
    if any(len(one) != 1 or one[0] == UNK for one in ids) or len({one[0] for one in ids}) < symbols:
        raise UserError("data.symbols: not every symbol is a piece of its own: set a larger data.train_pairs")
    return torch.tensor([one[0] for one in ids])


def read_channel(model: Seq2Seq, pairs: Pairs, symbols: torch.Tensor) -> ChannelReading:
    """Read the bits that came through.

    Args:
        model: dropout is off while it is asked.
        pairs: sentences of symbols.
        symbols: [P] ids of `symbol_ids`.
    """
    device = next(model.parameters()).device
    nats = reference_nats(model, pairs, among=symbols.to(device))
    lengths = np.array([len(one) - 1 for one in nats])
    by_position = np.full((len(nats), lengths.max()), np.nan)
    for row, one in zip(by_position, nats, strict=True):
        row[: len(one) - 1] = math.log2(len(symbols)) - one[:-1] * BITS_A_NAT
    return ChannelReading(
        lengths, np.nansum(by_position, 1), by_position, np.array([one[-1] for one in nats]) * BITS_A_NAT
    )


def others(sources: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return each sentence's neighbour of the same length in its place: a memory of the wrong sentence.

    Raises:
        UserError: a length has one sentence only.
    """
    of_length: dict[int, list[int]] = {}
    for number, ids in enumerate(sources):
        of_length.setdefault(len(ids), []).append(number)
    found: list[Sequence[int]] = list(sources)
    for numbers in of_length.values():
        if len(numbers) < 2:
            raise UserError("data.test_pairs: a length has one sequence only, and so no other: raise it")
        for number, neighbour in zip(numbers, numbers[1:] + numbers[:1], strict=True):
            found[number] = sources[neighbour]
    return found


def longest_copied(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> int:
    """Return the greatest L such that of each length up to L at least 99 % of the symbols are in their places; 0: none.

    Args:
        outputs: N lists of words, as the model translates by itself.
        references: N lists of words.
    """
    right: dict[int, list[float]] = {}
    for output, reference in zip(outputs, references, strict=True):
        hits = sum(mine == theirs for mine, theirs in zip(output, reference, strict=False))
        right.setdefault(len(reference), []).append(hits / len(reference))
    longest = 0
    for length in sorted(right):
        if np.mean(right[length]) < COPIED:
            break
        longest = length
    return longest


def read_run(run: RunFolder) -> dict[str, Any]:
    """Read a run's channel: plain values.

    Raises:
        UserError: the run is missing, or no calibrated channel.
    """
    opened, config = open_run(str(run.path), "run")
    symbols = check_channel(str(run.path), config)
    trained = load_trained(opened.best)
    test = prepare(config, check_to_read(config)).corpus.splits["test"]
    pairs = Pairs.encode(trained.vocabularies, test["source"], test["target"])
    ids = symbol_ids(trained.vocabularies, symbols)
    found = read_channel(trained.model, pairs, ids)
    wrong = read_channel(trained.model, Pairs(others(pairs.sources), pairs.targets), ids)
    bits_a_symbol = float(np.log2(symbols))
    encoder, attention = config["encoder"], trained.model.decoder.attention
    longest = found.longest_quarter
    shortest_of_them = int(longest.lengths.min())
    return {
        # Attention goes round the neck, and what is rounded then is no ceiling.
        "ceiling": encoder["summary_size"] * encoder["summary_bits"]
        if encoder.get("summary_bits") and not attention.has_weights
        else None,
        "bits": longest.mean,
        "error": longest.error,
        "of": float(longest.lengths.mean() * bits_a_symbol),
        "of_another": wrong.mean,
        "of_another_error": wrong.error,
        "end_bits": float(found.end.mean()),
        "by_length": _by_length(found, bits_a_symbol),
        # All positions are of the same sequences.
        "by_position": longest.by_position[:, :shortest_of_them].mean(0).tolist(),
        "shortest": int(found.lengths.min()),
        "longest_quarter": [shortest_of_them, int(longest.lengths.max())],
    }


def _by_length(found: ChannelReading, bits_a_symbol: float) -> list[dict[str, float]]:
    """Return, for each L, the bits that came through, their standard error, and those there are."""
    lengths: Sequence[int] = np.unique(found.lengths).tolist()
    return [
        {
            "symbols": float(length),
            "bits": float(bits.mean()),
            "error": float(bits.std(ddof=1) / np.sqrt(len(bits))),
            "of": length * bits_a_symbol,
        }
        for length in lengths
        for bits in [found.bits[found.lengths == length]]
    ]
