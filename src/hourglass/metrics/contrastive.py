"""A lower bound on the information between source and reference that needs no blind decoder: a contrast of sources.

The decoder scores the reference y_i of a pair given the pair's own source x_i and given other sources of the test set,
K in all:

    bits_i = log2 q(y_i | x_i) - log2 (1/K sum over k of q(y_i | x_k)),  x_i among the x_k

This is I_NCE (van den Oord et al. 2018, section 2.3; Poole et al. 2019, equation 10) with q as its critic. Its mean is
at most the information I(Z; Y) between the memory Z that the decoder reads and the reference Y, whatever the decoder:

1.  Let J be the place of the own source among x_1..x_K, all places equally likely. r(j) = q(y|x_j) / sum q(y|x_k) is a
    guess at J, so the mean of -log2 r(J) is at least H(J | Y, x_1..x_K), and the mean of bits = log2 K + log2 r(J) is
    at most log2 K - H(J | Y, x_1..x_K) = I(J; Y, x_1..x_K).
2.  Where the x_k are exchangeable, they alone tell nothing about J: I(J; Y, x_1..x_K) = I(J; Y | x_1..x_K)
    = H(Y | x_1..x_K) - H(Y | x_J) <= H(Y) - H(Y | X) = I(X; Y).
3.  q reads x_k only through z_k, so the same holds with z_k in place of x_k: the mean is at most I(Z; Y) <= I(X; Y).

What follows from that:

- The own source has to be in the mean. Only then is r a distribution over J that includes the right answer, and no
  sentence exceeds log2 K. The mean over the K - 1 others alone is an estimate of q(y) whose logarithm is too low
  (Jensen): with the true p in place of q it bounds the information from above (Poole et al. 2019, section 2.5), and a
  confident decoder takes it beyond all bounds.
- log2 K is the cap. A reading close to it says that there is more information than this bound can measure.
- Sources have to come from data that the model has not been trained on. A model that knows its training sources could
  tell the own source by its being new.
- The other sources are of about the same length, so that their lengths do not tell them apart. Sources are divided into
  classes by their lengths, C = c(X), and the others are drawn from the class of the own source. Within a class the
  sources are exchangeable, so the mean bounds I(Z; Y | C): the information that a length class leaves open. As C is a
  function of X, I(X; Y) = I(C; Y) + I(X; Y | C). (The sources nearest in length to the own one would not do: the own
  source lies in their middle, and step 2 fails.) Each class needs K sources, so a test set of fewer than 2 K sources
  is a single class, and the reading includes what the length tells.
- Equal sources stay, as draws of the same distribution. The decoder cannot tell them apart, so a sentence whose source
  is drawn m times has at most log2 (K/m), as a source that is frequent holds less information. Without them the x_k
  would not be exchangeable.
- A q(y|x) that is too sure of itself loosens the bound and never breaks it; so does a temperature.

Shapes: n sentences, K sources of each, the own one first; D distinct sources; B sources of a batch; T target positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.batches import IntArray, in_order
from hourglass.data.encoded import pad_sources
from hourglass.data.pieces import BOS, EOS
from hourglass.data.sources import positions_of
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, Pairs, label_nats
from hourglass.models.encoder import Memory
from hourglass.models.seq2seq import Seq2Seq

# What the reading takes for granted, for reports.
ASSUMPTION = (
    "Contrastive: a lower bound, at most its cap; assumes that the model was not trained on test, and no blind decoder."
)

# K by default: a cap of 10 bits.
SOURCES = 1024

# Test sentences that are read by default.
SENTENCES = 300


@dataclass(frozen=True)
class LengthClass:
    """Test sources of about the same length.

    Attributes:
        shortest: pieces of the shortest source, without end-of-sentence.
        longest: pieces of the longest.
        rows: of the test set.
    """

    shortest: int
    longest: int
    rows: IntArray


@dataclass(frozen=True)
class ContrastiveReading:
    """Lower bounds on information, sentence by sentence; see the module.

    Attributes:
        bits: [n], each at most `cap`; a bound in the mean only, and negative where another source fits better.
        rows: [n] of the test set, in its order.
        sources: K.
        classes: from the shortest sources to the longest, all sources of the test set; a single one: the reading
            includes what the length of the source tells.
    """

    bits: np.ndarray
    rows: IntArray
    sources: int
    classes: list[LengthClass]

    @property
    def mean(self) -> float:
        """Bits per sentence: a lower bound on I(Z; Y | C), but for the error of the mean."""
        return float(self.bits.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN of one sentence.

        The sentences of a class share their other sources. That dependence is of second order, and is left out.
        """
        return float(self.bits.std(ddof=1)) / len(self.bits) ** 0.5 if len(self.bits) > 1 else float("nan")

    @property
    def cap(self) -> float:
        """log2 K, the most that a sentence can have."""
        return float(np.log2(self.sources))


def read_contrast(
    model: Seq2Seq,
    pairs: Pairs,
    *,
    sources: int = SOURCES,
    sentences: int = SENTENCES,
    temperature: float = 1.0,
    seed: int = 0,
    batch_tokens: int = 4000,
) -> ContrastiveReading:
    """Return a lower bound on the information between source and reference that reaches the decoder.

    Each source is encoded once, and one batch of sources is in memory at a time: the decoder scores all references of a
    length class under it.

    Args:
        model: is put in evaluation mode for the call, so that dropout is off.
        pairs: the whole test set: data on which the model was not trained.
        sources: K, the own source included; the cap is log2 K. A smaller test set takes all its sources.
        sentences: test sentences that are read, evenly spaced; 0: all.
        temperature: divides the logits.
        seed: of the draw of the other sources.
        batch_tokens: padded tokens of a batch.

    Raises:
        UserError: K is below 2, the test set has a single source, or targets continue prefixes.
    """
    total = len(pairs.sources)
    if pairs.prefixes is not None:
        raise UserError(
            f"contrastive={sources}, of targets that continue prefixes: a prefix may tell which source is its own, so "
            "that no bound follows: set contrastive=0"
        )
    if min(sources, total) < 2:
        raise UserError(
            f"contrastive={sources}, of a test set of {total} sentences: the own source and another one are the least"
        )
    count = min(sources, total)
    classes = divide_by_length([len(source) for source in pairs.sources], count)
    rows = np.array(evenly_spaced(total, sentences))
    draws = np.random.default_rng(seed)
    bits = np.empty(len(rows))
    was_training = model.training
    model.eval()
    try:
        for part in classes:
            panel = draws.permutation(part.rows)[:count]
            inside = np.isin(rows, part.rows)
            if inside.any():
                chosen = np.stack([_own_and_others(row, panel) for row in rows[inside]])  # [n of the class, K]
                log_likelihoods = _score_chosen(model, pairs, chosen, temperature, batch_tokens)
                bits[inside] = contrast(log_likelihoods)
    finally:
        model.train(was_training)
    return ContrastiveReading(bits, rows, count, classes)


def contrast(log_likelihoods: np.ndarray) -> np.ndarray:
    """Return the bits [n] of references whose log-likelihoods [n, K] in nats are known, the own source first."""
    most = log_likelihoods.max(1, keepdims=True)
    mean = np.exp(log_likelihoods - most).mean(1)  # Exactly 1 where all are equal.
    bits = (log_likelihoods[:, 0] - most[:, 0] - np.log(mean)) * BITS_A_NAT
    return np.minimum(bits, np.log2(log_likelihoods.shape[1]))  # Rounding may exceed it in the last digit.


def divide_by_length(lengths: Sequence[int], smallest: int) -> list[LengthClass]:
    """Divide sources into classes of neighbouring lengths, as narrow as `smallest` sources in each allow.

    Sources of equal length are in one class.

    Args:
        lengths: pieces of each source.
        smallest: sources that a class has at least; at most `len(lengths)`.
    """
    values, counts = np.unique(lengths, return_counts=True)
    starts, size, left = [0], 0, len(lengths)
    for place, count in enumerate(counts.tolist()):
        if size >= smallest and left >= smallest:
            starts.append(place)
            size = 0
        size += count
        left -= count
    bounds = [(int(values[first]), int(values[end - 1])) for first, end in pairwise([*starts, len(values)])]
    array = np.asarray(lengths)
    return [LengthClass(low, high, np.flatnonzero((low <= array) & (array <= high))) for low, high in bounds]


def _own_and_others(row: int, panel: IntArray) -> IntArray:
    """Return the own source and K - 1 others of the panel [K] of its class."""
    return np.array([row, *panel[panel != row][: len(panel) - 1]])


@torch.inference_mode()
def _score_chosen(model: Seq2Seq, pairs: Pairs, chosen: IntArray, temperature: float, batch_tokens: int) -> np.ndarray:
    """Return log q(y|x) [n, K] in nats of the reference of row chosen[i, 0], given the source of row chosen[i, k]."""
    number: dict[bytes, int] = {}  # of each distinct source: equal ones are scored once
    rows, places = np.unique(chosen, return_inverse=True)
    keys = [np.asarray(pairs.sources[row]).tobytes() for row in rows.tolist()]
    numbers = np.array([number.setdefault(key, len(number)) for key in keys])
    firsts = rows[np.unique(numbers, return_index=True)[1]]  # [D]
    columns = numbers[places.reshape(chosen.shape)]  # [n, K]
    wanted = np.zeros((len(chosen), len(number)), bool)  # [n, D]
    np.put_along_axis(wanted, columns, True, 1)
    scores = np.full(wanted.shape, np.nan)  # [n, D]
    device = next(model.parameters()).device
    targets = [torch.tensor([BOS, *pairs.targets[row], EOS], device=device) for row in chosen[:, 0].tolist()]
    sources = [pairs.sources[row] for row in firsts.tolist()]
    lengths = np.array(list(map(positions_of, sources)))
    for batch in in_order(lengths, lengths, batch_tokens):
        source = pad_sources([sources[i] for i in batch]).to(device)
        memory = model.encode(source, torch.from_numpy(lengths[batch]).to(device))
        tell_nothing = _are_equal(model, memory)
        for i, target in enumerate(targets):
            inside = np.flatnonzero(wanted[i, batch])
            size = max(1, batch_tokens // max(memory.mask.shape[1], len(target)))
            for first in range(0, len(inside), size):
                some = inside[first : first + size]
                read = torch.from_numpy(some[:1] if tell_nothing else some).to(device)
                part = memory.select(read)
                scores[i, batch[some]] = _score_target(model, part, target, temperature)
    return np.take_along_axis(scores, columns, 1)


def _are_equal(model: Seq2Seq, memory: Memory) -> bool:
    """Return whether a decoder cannot tell the sources of a batch apart: no states, and equal summaries.

    Scored in batches of different sizes, they would differ in the last digits; as one they are equal.
    """
    return model.encoder.memory_size == 0 and bool((memory.summary == memory.summary[:1]).all())


def _score_target(model: Seq2Seq, memory: Memory, target: Tensor, temperature: float) -> np.ndarray:
    """Return log q(y|x) [B] in nats of one target [T+1] under the memories of B sources."""
    count = len(memory.mask)
    readouts = model.readouts(target[:-1].expand(count, -1), memory)  # [B, T, R]
    nats = label_nats(model, readouts.flatten(0, 1), target[1:].repeat(count), temperature)
    return -nats.view(count, -1).double().sum(1).cpu().numpy()
