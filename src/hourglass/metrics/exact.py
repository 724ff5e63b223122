"""Sequence accuracy: the share of outputs that are a reference, unit by unit; and its complement, the error rate.

Beside them the share of outputs that are right as far as they go and end too early: models that are trained on short
sequences tend to end so on longer ones (Newman et al. 2020, "The EOS Decision and Length Extrapolation").

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
        """Return 1 for an output that is a reference, else 0; 1; and 1 for one that ends early: [N, 3] int64."""
        check_references(hypotheses, references, self.name)
        counts = np.zeros((len(hypotheses), 3), dtype=np.int64)
        for row, hypothesis, own in zip(counts, hypotheses, references, strict=True):
            units, wanted = hypothesis.split(), [reference.split() for reference in own]
            equal = units in wanted
            early = not equal and any(units == reference[: len(units)] for reference in wanted)
            row[:] = equal, 1, early
        return counts

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the share in percent."""
        share: np.ndarray = 100 * np.asarray(sums[..., 0], dtype=np.float64) / sums[..., 1]
        return share

    def details(self, sums: np.ndarray) -> dict[str, float | int | None]:
        """Return the percent of the outputs that end early: right as far as they go, a proper prefix of a reference.

        An empty output is one, too.
        """
        return {"premature": 100 * float(sums[2]) / float(sums[1]) if sums[1] else None}

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
