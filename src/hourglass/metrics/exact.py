"""Sequence accuracy: the share of outputs that are a reference, unit by unit; and its complement, the error rate.

In grapheme-to-phoneme conversion, where an output is a word's pronunciation, the latter is called word error rate.

Shapes: N sentences.
"""

from collections.abc import Sequence

import numpy as np

from hourglass.metrics.metric import Metric, References, check_references


class SequenceAccuracy(Metric):
    """Percent of the outputs that are one of their references, higher is better; white space does not count.

    Args:
        target_language: see `Metric`.
    """

    name = "exact"
    heading = "EM"
    abbreviates = "exact match"

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """Return 1 for an output that is a reference, else 0; and 1: [N, 2] int64."""
        check_references(hypotheses, references, self.name)
        equal = [
            hypothesis.split() in [reference.split() for reference in own]
            for hypothesis, own in zip(hypotheses, references, strict=True)
        ]
        return np.stack([np.array(equal, dtype=np.int64), np.ones(len(equal), dtype=np.int64)], axis=-1)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the share in percent."""
        share: np.ndarray = 100 * np.asarray(sums[..., 0], dtype=np.float64) / sums[..., 1]
        return share

    def signature(self) -> str:
        """See `Metric.signature`."""
        return f"{self.name}|case:mixed|refs:any|version:1"


class SequenceErrorRate(SequenceAccuracy):
    """Percent of the outputs that are none of their references, lower is better: 100 less the sequence accuracy."""

    name = "sequence_error_rate"
    heading = "SER"
    abbreviates = "sequence error rate"
    higher_is_better = False

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the share in percent."""
        return 100 - super().score(sums)
