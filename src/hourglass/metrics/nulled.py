"""Information that a source gives about its target, from one model that reads the target with and without the source.

A model trained with trainer.null_source above 0 has read some items with an empty source, so the same weights give the
likelihood of a target y after its source x and after the empty source:

    bits = -log2 q(y | empty) + log2 q(y | x)

This is the pointwise V-information of Ethayarajh et al. 2022 ("Understanding dataset difficulty with V-usable
information"), with one model for both terms, as a predictive family allows that may ignore its input (Xu et al. 2020,
"A theory of usable information under computational constraints", definitions 1 to 3). The mean over test sentences
estimates the V-information: the information about the target that this architecture, trained in this way, can use.

It equals that information, plus the excess loss without the source, minus the excess loss with it. Both are of one
architecture, one set of weights, one vocabulary and one checkpoint, so that what they share cancels. That nothing is
left is an assumption, and the reading is no bound. It is too high where the share of nulled items was too small to
learn the target alone (docs/readings.md has figures). It is of a model that has learnt both, which may use its source
less than one of trainer.null_source=0. A sentence or a word may have less than 0 bits: its source misled the model.

Shapes: N sentences, T_i target tokens of sentence i (end-of-sentence the last), W_i target words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hourglass.config.options import Config
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, Pairs

# What the reading takes for granted, for reports.
ASSUMPTION = (
    "Source nulled: assumes that the same weights have as much excess loss without source as with it; no bound (too "
    "high where few items were nulled)."
)


@dataclass(frozen=True)
class PointwiseInformation:
    """Bits that its source gives about each target token, and what they add up to.

    Attributes:
        tokens: N arrays [T_i].
    """

    tokens: list[np.ndarray]

    @property
    def sentences(self) -> np.ndarray:
        """Bits of each sentence, [N]: the sum over its tokens, by the chain rule."""
        return np.array([bits.sum() for bits in self.tokens])

    @property
    def ends(self) -> np.ndarray:
        """Bits of each end-of-sentence, [N]: a part of `sentences`."""
        return np.array([bits[-1] for bits in self.tokens])

    def words(self, words_of_tokens: Sequence[Sequence[range]]) -> list[np.ndarray]:
        """Return the bits of each target word, N arrays [W_i], which add up to `sentences` less `ends`.

        Args:
            words_of_tokens: N lists of T_i - 1 ranges: the numbers of the words that each token but end-of-sentence
                belongs to. A token of several words gives each an equal part of its bits.

        Raises:
            ValueError: a sentence has another number of tokens, or a token that belongs to no word.
        """
        result = []
        for bits, owners in zip(self.tokens, words_of_tokens, strict=True):
            own = np.zeros(max((words.stop for words in owners), default=0))
            for value, words in zip(bits[:-1], owners, strict=True):
                if not words:
                    raise ValueError("a target token belongs to no word")
                own[words.start : words.stop] += value / len(words)
            result.append(own)
        return result


def pointwise_information(nats: Sequence[np.ndarray], nulled_nats: Sequence[np.ndarray]) -> PointwiseInformation:
    """Return the bits that the sources give.

    Args:
        nats: N arrays [T_i] of `likelihood.reference_nats`.
        nulled_nats: the same of the same model without sources.
    """
    pairs = zip(nats, nulled_nats, strict=True)
    return PointwiseInformation([(nulled - sighted) * BITS_A_NAT for sighted, nulled in pairs])


def without_sources(pairs: Pairs) -> Pairs:
    """Return the pairs with empty sources, as in training.

    A model reads an empty source as end-of-sentence alone, or where sources are features as one region of zeros.
    """
    return Pairs([source[:0] for source in pairs.sources], pairs.targets, pairs.prefixes)


def null_share(config: Config) -> float:
    """Return the share of training items that a run has read without their source; 0 for one of an earlier version."""
    return float(config["trainer"].get("null_source", 0.0))


def check_nulled(name: str, config: Config) -> None:
    """Check that a run has read items without their source.

    Args:
        name: of the run, for messages.
        config: its settings.

    Raises:
        UserError: it has not, so its likelihoods after an empty source mean nothing.
    """
    if not null_share(config):
        raise UserError(
            f"{name}: trained with trainer.null_source=0, so that its model has never read an empty source: train it "
            "with trainer.null_source=0.3, or another share"
        )
