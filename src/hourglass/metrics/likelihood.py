"""The negative log-likelihood of references, and the bits about them that have reached the decoder.

A decoder that is blind to the source (encoder=blind) needs a number of bits for a reference; one that sees the source
needs fewer. Both read the reference as they go (teacher forcing). The difference

    bits = (blind model's negative log-likelihood - model's negative log-likelihood) / ln 2

is usable information about the target (Xu et al. 2020, "A theory of usable information under computational
constraints"). It is not information about the source, and not the physical capacity of a vector. It equals the
information that reached the decoder, plus the blind model's excess loss, minus the model's own excess loss. So it is a
lower bound only where the blind model's excess loss is no larger than the model's. In the difference of two models the
blind model cancels, and no such assumption is needed.

Shapes: N sentences, B sentences of a batch, T target positions (end-of-sentence the last), R readout, V vocabulary,
K seeds of a variant, P data symbols.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from hourglass.corpora.corpus import prefixes_of
from hourglass.corpora.recipe import FeatureArray
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad, pad_sources
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.sources import encode_sources, positions_of, sources_of
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.metrics.significance import Quantity
from hourglass.models.copying import Readouts, join_readouts
from hourglass.models.loss import without_prefixes
from hourglass.models.seq2seq import LOGIT_ROWS, Seq2Seq

BITS_A_NAT = 1 / math.log(2)


# Bounds of the search for a temperature.
TEMPERATURES = (0.2, 5.0)


# A logarithm of the temperature this close to that of a bound lies at the bound.
AT_BOUND = 0.01


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs as ids, without beginning- and end-of-sentence.

    Attributes:
        sources: N lists, or N arrays of features.
        targets: N lists, of what follows the prefix.
        prefixes: N lists, which the decoder reads before the targets and no likelihood counts; None: all are empty.
    """

    sources: Sequence[Any]  # See `Source`.
    targets: Sequence[Sequence[int]]
    prefixes: Sequence[Sequence[int]] | None = None

    @classmethod
    def encode(
        cls,
        vocabularies: Vocabularies,
        sources: Iterable[str] | Iterable[FeatureArray],
        targets: Sequence[str],
        prefixes: Sequence[str] | None = None,
    ) -> "Pairs":
        """Encode texts; sources may be features."""
        return cls(
            encode_sources(vocabularies, sources),
            vocabularies.target.encode(list(targets)),
            None if prefixes is None else vocabularies.target.encode(list(prefixes)),
        )

    @classmethod
    def of_split(cls, vocabularies: Vocabularies, split: Any) -> "Pairs":
        """Encode the rows of a split, which has the column prefix only where its corpus has prefixes."""
        return cls.encode(vocabularies, sources_of(split), split["target"], prefixes_of(split))


def reference_nats(
    model: Seq2Seq,
    pairs: Pairs,
    *,
    temperature: float = 1.0,
    among: Tensor | None = None,
    continues_at: Sequence[Sequence[int]] | None = None,
    batch_tokens: int = 4000,
) -> list[np.ndarray]:
    """Return the negative log-likelihood of each target token, in nats, under teacher forcing.

    Args:
        model: is put in evaluation mode for the call, so that dropout is off.
        pairs: sources and references.
        temperature: divides the logits.
        among: [P] ids. Every token but end-of-sentence is known to be one of these, so their probabilities are
            normalised to sum to 1.
        continues_at: N lists of target positions, from 0, at which the sentence is known not to end: there the
            probabilities of all tokens but end-of-sentence are normalised to sum to 1.
        batch_tokens: padded tokens of a batch.

    Returns:
        N float64 arrays [T_i], end-of-sentence last, without the prefix.
    """
    all_nats: list[np.ndarray] = [np.empty(0)] * len(pairs.targets)
    for rows, readouts, labels, real in _read(model, pairs, batch_tokens):
        continues = None
        if continues_at is not None:
            marked = torch.zeros_like(real)  # [B, T]
            for b, row in enumerate(rows):
                start = len(pairs.prefixes[row]) if pairs.prefixes is not None else 0
                marked[b, [start + position for position in continues_at[row]]] = True
            continues = marked[real]
        nats = label_nats(model, readouts, labels, temperature, among=among, continues=continues)
        lengths = real.sum(1).cpu().numpy()
        for row, values in zip(rows, np.split(nats.double().cpu().numpy(), np.cumsum(lengths)[:-1]), strict=True):
            all_nats[row] = values
    return all_nats


def fit_temperature(model: Seq2Seq, pairs: Pairs, *, batch_tokens: int = 4000) -> float:
    """Return the temperature that minimises the negative log-likelihood (Guo et al. 2017, section 4.2).

    Label smoothing makes a model less confident than the data warrant, which would count as bits that it lacks. One
    number, fitted on dev, corrects for that.

    Raises:
        UserError: the minimum lies at a bound of the search, so that no temperature corrects the model.
    """
    parts = [(read, labels) for _, read, labels, _ in _read(model, pairs, batch_tokens)]
    readouts, labels = join_readouts([read for read, _ in parts]), torch.cat([label for _, label in parts])

    def loss(log_temperature: float) -> float:
        return float(label_nats(model, readouts, labels, math.exp(log_temperature)).double().sum())

    low, high = (math.log(bound) for bound in TEMPERATURES)
    # The loss is convex in 1/temperature, so it has a single minimum on the logarithmic scale, too.
    log_temperature = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x)
    if min(log_temperature - low, high - log_temperature) < AT_BOUND:
        raise UserError(
            f"the temperature that is best on dev lies at the bound of its search, {math.exp(log_temperature):.2f}: "
            "train without label smoothing (optimizer.label_smoothing=0), which needs no temperature"
        )
    return math.exp(log_temperature)


@torch.inference_mode()
def _read(model: Seq2Seq, pairs: Pairs, batch_tokens: int) -> Iterator[tuple[list[int], Readouts, Tensor, Tensor]]:
    """Yield batches: numbers of pairs; readouts [tokens, R] and labels [tokens], row by row; real tokens [B, T].

    The real tokens are those that count: neither padding nor prefix.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        prefixes: Sequence[Sequence[int]] = [[] for _ in pairs.targets] if pairs.prefixes is None else pairs.prefixes
        targets = [[BOS, *prefix, *ids, EOS] for prefix, ids in zip(prefixes, pairs.targets, strict=True)]
        lengths = np.array(list(map(positions_of, pairs.sources))), np.array([len(ids) for ids in targets])
        for batch in in_order(*lengths, batch_tokens):
            source = pad_sources([pairs.sources[i] for i in batch]).to(device)
            target = pad([targets[i] for i in batch]).to(device)
            memory = model.encode(source, torch.from_numpy(lengths[0][batch]).to(device))
            real = target[:, 1:] != PAD
            if pairs.prefixes is not None:
                given = torch.tensor([len(prefixes[i]) for i in batch], device=device)
                real = without_prefixes(target[:, 1:], given) != PAD
            yield batch.tolist(), model.readouts(target[:, :-1], memory)[real], target[:, 1:][real], real
    finally:
        model.train(was_training)


@torch.inference_mode()
def label_nats(
    model: Seq2Seq,
    readouts: Readouts,
    labels: Tensor,
    temperature: float,
    *,
    among: Tensor | None = None,
    continues: Tensor | None = None,
) -> Tensor:
    """Return the negative log-likelihood [tokens] of labels after readouts [tokens, R]; see `reference_nats`."""
    parts = []
    for first in range(0, len(labels), LOGIT_ROWS):
        rows = slice(first, first + LOGIT_ROWS)
        logits = model.scores(readouts[rows])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        if among is not None:
            outside = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
            outside[among] = False
            logits = logits.masked_fill(outside & (labels[rows] != EOS).unsqueeze(1), float("-inf"))
        if continues is not None:
            logits[continues[rows], EOS] = float("-inf")
        parts.append(F.cross_entropy(logits, labels[rows], reduction="none"))
    return torch.cat(parts)


def sentence_bits(nats: Sequence[np.ndarray]) -> np.ndarray:
    """Return the bits [N] of whole sentences, from the nats of their tokens (`reference_nats`)."""
    return np.array([values.sum() for values in nats]) * BITS_A_NAT


def end_bits(nats: Sequence[np.ndarray]) -> np.ndarray:
    """Return the bits [N] of the end-of-sentence tokens alone, from the nats of all tokens."""
    return np.array([values[-1] for values in nats]) * BITS_A_NAT


def mean_quantity(values: Sequence[np.ndarray], counts: np.ndarray) -> Quantity:
    """Return the mean over sentences, for each seed and each resample.

    Args:
        values: K arrays [N].
        counts: [R, N] of `significance.draw_resamples`.
    """
    stacked = np.stack(list(values))
    return Quantity(stacked.mean(1), stacked @ counts.T / counts.sum(1), stacked.shape[1])
