"""The copy switch: the next piece is generated, or copied from the source (See, Liu and Manning 2017, section 2.2).

    p_gen = sigmoid(w . [h; c; e] + b)                                           equation 8
    P(v) = p_gen P_vocab(v) + (1 - p_gen) sum over s with x_s = v of weights_s   equation 9

h is the decoder's output, c the context and e the embedding of the last token; P_vocab is the softmax of the output
layer. All is computed as logarithms, so that training, likelihoods and search read the same numbers as of any model.

Source and target share one vocabulary, so a piece of the source is a piece of the target. Of SentencePiece's subwords
and characters it covers every text, but for characters that training did not see, so that nothing is left for the
published extended vocabulary: one of a sentence's words outside of the vocabulary. A vocabulary of words has UNK for
these; copied, it stays UNK, and search.replace_unknown=true writes the unknown word with most weight.

Shapes: B sentences, T target positions, N rows of a step (N = B*K with K beams), S source length, R readout, V
vocabulary; [...] stands for [B, T], [N] or the tokens of several sentences.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Copyable(NamedTuple):
    """What can be copied from the source."""

    pieces: Tensor  # [B, S] ids
    places: Tensor  # [B, S] the first position of the same piece in its source

    @classmethod
    def of(cls, source: Tensor) -> "Copyable":
        """Return what can be copied from source ids [B, S], padding included, which has no weight."""
        same = source.unsqueeze(2) == source.unsqueeze(1)  # [B, S, S]
        return cls(source, same.int().argmax(-1))

    def select(self, index: Tensor) -> "Copyable":
        """Return the sentences `index` [B'], in this order."""
        return Copyable(*(part.index_select(0, index) for part in self))


@dataclass(frozen=True, eq=False)
class CopyReadouts:
    """What the distribution of the next piece is computed from, where a model copies.

    Attributes:
        vectors: [..., R], what the output layer reads.
        switch: [...], the logit of p_gen.
        masses: [..., S], at the first position of each piece the sum of all its weights, and 0 elsewhere.
        pieces: [..., S], the ids of the source.
    """

    vectors: Tensor
    switch: Tensor
    masses: Tensor
    pieces: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any) -> "CopyReadouts":
        return CopyReadouts(self.vectors[rows], self.switch[rows], self.masses[rows], self.pieces[rows])

    def flatten(self, first: int, last: int) -> "CopyReadouts":
        """Return these with dimensions `first` to `last` as one, as `Tensor.flatten` does."""
        return CopyReadouts(*(part.flatten(first, last) for part in self._parts))

    def split(self, size: int) -> list["CopyReadouts"]:
        """Return these in parts of so many rows, as `Tensor.split` does."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.vectors, self.switch, self.masses, self.pieces


# What the distribution of the next piece is computed from: [..., R] where a model does not copy.
Readouts = Tensor | CopyReadouts


def join_readouts(parts: list[Readouts]) -> Readouts:
    """Return the rows of several batches as one, of sources of different lengths."""
    copying = [part for part in parts if isinstance(part, CopyReadouts)]
    if not copying:
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    longest = max(part.pieces.shape[-1] for part in copying)
    # A position without mass is none.
    padded = [[F.pad(side, (0, longest - side.shape[-1])) for side in (part.masses, part.pieces)] for part in copying]
    masses, pieces = (torch.cat(side) for side in zip(*padded, strict=True))
    vectors, switch = (torch.cat(side) for side in zip(*((each.vectors, each.switch) for each in copying), strict=True))
    return CopyReadouts(vectors, switch, masses, pieces)


def copy_readouts(readouts: Tensor, weights: Tensor, copyable: Copyable) -> CopyReadouts:
    """Add to readouts what can be copied.

    Args:
        readouts: [B, T, R+1] or [N, R+1], the logit of p_gen the last component.
        weights: of the attention, [B, T, S] or [N, S], with a sum of 1.
        copyable: of the B sentences.
    """
    wide = weights.to(torch.promote_types(weights.dtype, torch.float32))
    rows = wide.reshape(len(copyable.pieces), -1, weights.shape[-1])  # [B, T or K, S]
    pieces, places = (side.unsqueeze(1).expand_as(rows) for side in copyable)
    masses = torch.zeros_like(rows).scatter_add(-1, places, rows)
    return CopyReadouts(readouts[..., :-1], readouts[..., -1], masses.view(wide.shape), pieces.reshape(wide.shape))


def mix_copies(scores: Tensor, readouts: CopyReadouts) -> Tensor:
    """Return the logarithm of the distribution of the next piece, [..., V] in float32 or wider; see the file.

    Args:
        scores: [..., V] of the output layer, the logits of P_vocab.
        readouts: with the switch and the attention.
    """
    wide = torch.promote_types(scores.dtype, torch.float32)
    switch, masses = readouts.switch.to(wide).unsqueeze(-1), readouts.masses.to(wide)
    generated = scores.to(wide).log_softmax(-1) + F.logsigmoid(switch)
    of_source = generated.gather(-1, readouts.pieces)  # [..., S]
    has_mass = masses > 0
    copied = torch.where(has_mass, masses, 1).log() + F.logsigmoid(-switch)
    # Added, not written: of several positions of one piece only the first has mass.
    gained = torch.where(has_mass, torch.logaddexp(of_source, copied) - of_source, 0)
    return generated.scatter_add(-1, readouts.pieces, gained)


def coverage_losses(weights: Tensor) -> Tensor:
    """Return at each target position how much is attended to again: sum over s of min(weights_s, coverage_s), [B, T].

    See, Liu and Manning 2017, equation 12; coverage is the sum of the weights of earlier positions (equation 10).

    Args:
        weights: [B, T, S].
    """
    wide = weights.to(torch.promote_types(weights.dtype, torch.float32))
    return torch.minimum(wide, wide.cumsum(1) - wide).sum(-1)
