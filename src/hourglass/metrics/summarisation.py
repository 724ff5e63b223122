"""Metrics of summaries: ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), from torchmetrics.

ROUGE of a corpus is the mean of its sentences: the counts of a sentence are its score and 1.

torchmetrics wants nltk for ROUGE-Lsum and for stemming alone, and neither is used. (Google's rouge-score, the other
implementation, had its last release in 2022 and wants nltk in any case.)

Shapes: N sentences.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from hourglass.corpora.languages import language_of
from hourglass.errors import UserError
from hourglass.metrics.metric import Metric, References, check_references

# Languages that are written with the letters a to z alone. ROUGE's tokenizer takes every other letter for a space.
WITHOUT_MARKS = frozenset({"en", "id", "ms", "sw", "la", "so", "zu", "xh", "rw", "zxx"})


class Rouge(Metric):
    """F-score of what a summary shares with its reference, in percent: the base of the three.

    Tokens are the runs of a to z and 0 to 9 of the text in lower case, as in the published script, without stemming.
    Of several references the best counts.

    Args:
        target_language: see `Metric`.

    Raises:
        UserError: the language has other letters.
    """

    # torchmetrics' name.
    key: ClassVar[str]
    scores_copies = True

    def __init__(self, target_language: str):
        super().__init__(target_language)
        if language_of(target_language) not in WITHOUT_MARKS:
            raise UserError(
                f"metrics={self.name} with data.target={target_language}: ROUGE's tokenizer knows the letters a to z "
                "alone: use metrics=translation (chrF), or metrics=exact"
            )

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """Return the F-score of each sentence in percent, and 1, [N, 2] float64."""
        from torchmetrics.functional.text import rouge_score

        check_references(hypotheses, references, self.name)
        scores = [
            float(rouge_score(hypothesis, [list(own)], accumulate="best", rouge_keys=self.key)[f"{self.key}_fmeasure"])
            for hypothesis, own in zip(hypotheses, references, strict=True)
        ]
        return np.stack([100 * np.array(scores, dtype=np.float64), np.ones(len(scores))], axis=-1)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean over sentences."""
        mean: np.ndarray = sums[..., 0] / sums[..., 1]
        return mean

    def signature(self) -> str:
        """See `Metric.signature`."""
        return f"{self.key}|fmeasure|stemmer:no|refs:best|torchmetrics:{version('torchmetrics')}"


class Rouge1(Rouge):
    """ROUGE-1: words."""

    name = "rouge1"
    heading = "ROUGE-1"
    key = "rouge1"


class Rouge2(Rouge):
    """ROUGE-2: pairs of words."""

    name = "rouge2"
    heading = "ROUGE-2"
    key = "rouge2"


class RougeL(Rouge):
    """ROUGE-L: the longest common subsequence of words."""

    name = "rouge_l"
    heading = "ROUGE-L"
    key = "rougeL"
