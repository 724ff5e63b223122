"""Bits through the neck: how much of what a reference says has reached the decoder, in bits.

A decoder that is blind to the source (encoder=blind) needs so many bits for a reference, and one that sees it needs
fewer; both read the reference as they go (teacher forcing). The difference

    bits = (blind model's negative log-likelihood - model's negative log-likelihood) / ln 2

is usable information about the target (Xu et al. 2020, "A theory of usable information under computational
constraints"): no bits of the source, and no physical capacity of a vector. It is the information that reached the
decoder, plus the blind model's excess loss, minus the model's own, so it is a lower bound only where the blind model's
excess is no larger. In the difference of two models the blind one cancels, and nothing need be assumed.

Shapes: N sentences, B sentences of a batch, T target positions (end-of-sentence the last), R readout, V vocabulary,
K seeds of a variant, P data symbols.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.tokenizer import Vocabularies
from hourglass.metrics.significance import Quantity
from hourglass.models.seq2seq import LOGIT_ROWS, Seq2Seq

BITS_A_NAT = 1 / math.log(2)


# Where a temperature is looked for.
TEMPERATURES = (0.2, 5.0)


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs as ids, without beginning- and end-of-sentence.

    Attributes:
        sources: N lists.
        targets: N lists.
    """

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]

    @classmethod
    def encode(cls, vocabularies: Vocabularies, sources: Sequence[str], targets: Sequence[str]) -> "Pairs":
        """Return texts as ids."""
        return cls(vocabularies.source.encode(list(sources)), vocabularies.target.encode(list(targets)))


def reference_nats(
    model: Seq2Seq,
    pairs: Pairs,
    *,
    temperature: float = 1.0,
    among: Tensor | None = None,
    going_on: Sequence[Sequence[int]] | None = None,
    batch_tokens: int = 4000,
) -> list[np.ndarray]:
    """Return the negative log-likelihood of each target token, in nats, as the model reads the reference.

    Args:
        model: dropout is off while it is asked.
        pairs: what it reads.
        temperature: the logits are divided by it.
        among: [P] ids; what is not end-of-sentence is one of these, so their probabilities are made to sum to 1.
        going_on: N lists of target positions, from 0, at which the sentence is known not to end: the probabilities of
            all else are made to sum to 1 there.
        batch_tokens: padded tokens of a batch.

    Returns:
        N float64 arrays [T_i], end-of-sentence last.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(pairs.targets)
    for rows, readouts, labels, real in _read(model, pairs, batch_tokens):
        goes_on = None
        if going_on is not None:
            marked = torch.zeros_like(real)  # [B, T]
            for b, row in enumerate(rows):
                marked[b, list(going_on[row])] = True
            goes_on = marked[real]
        nats = _nats(model, readouts, labels, temperature, among=among, goes_on=goes_on)
        ends = np.cumsum(real.sum(1).cpu().numpy())
        for row, one in zip(rows, np.split(nats.double().cpu().numpy(), ends[:-1]), strict=True):
            found[row] = one
    return found


def fit_temperature(model: Seq2Seq, pairs: Pairs, *, batch_tokens: int = 4000) -> float:
    """Return the temperature at which the model is least surprised by these references (Guo et al. 2017, section 4.2).

    Label smoothing teaches a model to be less sure than it could be, which would be read as bits that it lacks. One
    number, fitted on dev, undoes that.
    """
    parts = [(readouts, labels) for _, readouts, labels, _ in _read(model, pairs, batch_tokens)]
    readouts, labels = (torch.cat(side) for side in zip(*parts, strict=True))

    def loss(log_temperature: float) -> float:
        return float(_nats(model, readouts, labels, math.exp(log_temperature)).double().sum())

    low, high = (math.log(bound) for bound in TEMPERATURES)
    # Convex in 1/temperature, so with one minimum whatever the scale.
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x)


@torch.inference_mode()
def _read(model: Seq2Seq, pairs: Pairs, batch_tokens: int) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Yield batches: numbers of pairs; readouts [tokens, R] and labels [tokens], row by row; real tokens [B, T]."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        sources = [[*ids, EOS] for ids in pairs.sources]
        targets = [[BOS, *ids, EOS] for ids in pairs.targets]
        lengths = np.array([len(ids) for ids in sources]), np.array([len(ids) for ids in targets])
        for batch in in_order(*lengths, batch_tokens):
            source, target = (pad([side[i] for i in batch]).to(device) for side in (sources, targets))
            memory = model.encode(source, torch.from_numpy(lengths[0][batch]).to(device))
            real = target[:, 1:] != PAD
            yield batch.tolist(), model.readouts(target[:, :-1], memory)[real], target[:, 1:][real], real
    finally:
        model.train(was_training)


@torch.inference_mode()
def _nats(
    model: Seq2Seq,
    readouts: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    among: Tensor | None = None,
    goes_on: Tensor | None = None,
) -> Tensor:
    """Return the negative log-likelihood [tokens] of labels after readouts [tokens, R]; see `reference_nats`."""
    found = []
    for first in range(0, len(labels), LOGIT_ROWS):
        part, label = readouts[first : first + LOGIT_ROWS], labels[first : first + LOGIT_ROWS]
        logits = model.output(part)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        if among is not None:
            outside = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
            outside[among] = False
            logits = logits.masked_fill(outside & (label != EOS).unsqueeze(1), float("-inf"))
        if goes_on is not None:
            logits[goes_on[first : first + LOGIT_ROWS], EOS] = float("-inf")
        found.append(F.cross_entropy(logits, label, reduction="none"))
    return torch.cat(found)


def totals(nats: Sequence[np.ndarray]) -> np.ndarray:
    """Return the bits [N] of whole sentences, of token nats as `reference_nats` has them."""
    return np.array([one.sum() for one in nats]) * BITS_A_NAT


def ends(nats: Sequence[np.ndarray]) -> np.ndarray:
    """Return the bits [N] of the end-of-sentence tokens alone."""
    return np.array([one[-1] for one in nats]) * BITS_A_NAT


def mean_quantity(values: Sequence[np.ndarray], counts: np.ndarray) -> Quantity:
    """Return the mean over sentences of each seed and each resample.

    Args:
        values: K arrays [N].
        counts: [R, N] of `significance.draw`.
    """
    stacked = np.stack(list(values))
    return Quantity(stacked.mean(1), stacked @ counts.T / counts.sum(1))


def numbers_bits(digits: int, shortest: int, longest: int) -> float:
    """Return the bits in a number of `numbers`: which of the even digit counts, and which of the 9 * 10^(k-1)."""
    return math.log2(longest - shortest + 1) + math.log2(9) + (digits - 1) * math.log2(10)
