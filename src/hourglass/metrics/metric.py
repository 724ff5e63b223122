"""The interface of a metric: what it counts of each sentence, and the score of such counts added up.

All that reports say of a metric (scores by length, intervals, p, differences) is computed from sums of the counts of
single sentences, so a metric that has them has all of it.

Shapes: N sentences, K counts, `...` any leading dimensions.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hourglass.errors import UserError

# Each sentence has one reference or more: the first is that of the corpus, the others are as good.
References = Sequence[Sequence[str]]


class Metric(ABC):
    """A score of outputs against references. The other arguments of a subclass's constructor are its options.

    Class attributes: `name`, as in `metrics` and metrics.json; `heading`, of its column in tables and of axes, at most
    7 characters (by default the name); `abbreviates`, the words that a heading stands for, unless every reader knows
    it; `digits`, decimals in tables; `higher_is_better`; `lowest` and `highest`, the values that it can have;
    `scores_copies`, whether the source as its own output is scored, too.

    Args:
        target_language: code of the target language.

    Raises:
        UserError: the metric cannot score that language, or a library is missing.
    """

    name: ClassVar[str]
    heading: ClassVar[str] = ""
    abbreviates: ClassVar[str] = ""
    digits: ClassVar[int] = 2
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 100.0
    scores_copies: ClassVar[bool] = False

    def __init__(self, target_language: str):
        self.target_language = target_language

    @abstractmethod
    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """Return the counts of each sentence, [N, K] numbers; their sum over sentences decides the score."""

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the score of sums of counts.

        Args:
            sums: [..., K], each over one sentence or more.

        Returns:
            [...] float64.
        """

    def scorable(self, statistics: np.ndarray) -> np.ndarray:
        """Return which sentences, [N] bool, have something to score; a sum without one of them has no score.

        Args:
            statistics: [N, K].
        """
        return np.ones(len(statistics), dtype=bool)

    def details(self, sums: np.ndarray) -> dict[str, float | int | None]:
        """Return further numbers to show beside the score of sums [K], by name; the names are always the same."""
        return {}

    def signature(self) -> str:
        """Return what determines the score: implementation, version, options. Scores of one signature compare."""
        return self.name

    def signature_of(self, references: References) -> str:
        """Return the signature of scores on some references, where their number counts."""
        return self.signature()

    @property
    def title(self) -> str:
        """The name for readers."""
        return self.heading or self.name

    def is_better(self, value: float, other: float) -> bool:
        """Return whether one score is better than another."""
        return value > other if self.higher_is_better else value < other

    def rank(self, value: float) -> float:
        """Return a number that is larger for a better score."""
        return value if self.higher_is_better else -value

    def total(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> float:
        """Return the score of sentences, all together; NaN without any."""
        if not hypotheses:
            return math.nan
        return float(self.score(self.statistics(hypotheses, references, sources).sum(0)))


@dataclass(frozen=True)
class MetricFacts:
    """What tables say of a metric beside its numbers.

    Attributes:
        heading: for readers.
        digits: decimals.
        signature: implementation, version, options.
        higher_is_better: or else lower.
    """

    heading: str
    digits: int
    signature: str
    higher_is_better: bool = True  # Scores of earlier versions lack it.

    @property
    def direction(self) -> str:
        """Which scores are better, in words."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"

    @classmethod
    def of(cls, metric: Metric, references: References) -> "MetricFacts":
        """Return the facts of a metric, with the signature of scores on some references."""
        return cls(metric.title, metric.digits, str(metric.signature_of(references)), metric.higher_is_better)


def single(references: Sequence[str]) -> list[tuple[str, ...]]:
    """Return references of which each sentence has one."""
    return [(reference,) for reference in references]


def check_references(hypotheses: Sequence[str], references: References, name: str) -> None:
    """Check that every hypothesis has a reference.

    Args:
        hypotheses: N outputs.
        references: of each.
        name: of the metric.

    Raises:
        UserError: one has none.
    """
    lacking = next((number for number, own in enumerate(references, 1) if not own), None)
    if lacking is None and len(references) < len(hypotheses):
        lacking = len(references) + 1
    if lacking is not None:
        raise UserError(
            f"metrics={name}: sentence {lacking} of {len(hypotheses)} has no reference: give every sentence one, or "
            "leave the sentence out"
        )
    if len(references) > len(hypotheses):
        raise UserError(f"metrics={name}: {len(references)} references, and {len(hypotheses)} outputs: leave some out")


def facts_of(scores: Mapping[str, Any]) -> dict[str, MetricFacts]:
    """Return the facts of the metrics of scores that `metrics.scoring.score` has returned, the main one first.

    Those of earlier versions have BLEU and chrF without an entry.
    """
    own = scores.get("metrics", {})
    older = {}
    if "bleu" in scores and "bleu" not in own:
        older["bleu"] = MetricFacts("BLEU", 2, str(scores["signature"]))
        older["chrf"] = MetricFacts("chrF", 2, str(scores["chrf_signature"]))
    return {**older, **{name: MetricFacts(**facts) for name, facts in own.items()}}
