"""Metrics that a run is scored by beside BLEU and chrF: their interface, and how the setting `metrics` chooses them."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sacrebleu.metrics import TER

from hourglass.config.options import build, choose
from hourglass.config.registry import Registry
from hourglass.errors import UserError
from hourglass.system.secrets import first_line

log = logging.getLogger(__name__)


class Metric(ABC):
    """A score of translations. The other arguments of a subclass's constructor are its options.

    Class attributes: `name`, as in `metrics` and metrics.json; `heading`, of its column in tables, at most 7 characters
    (by default the name); `digits`, decimals in tables.

    Args:
        target_language: code of the target language.
    """

    name: ClassVar[str]
    heading: ClassVar[str] = ""
    digits: ClassVar[int] = 2

    def __init__(self, target_language: str):
        self.target_language = target_language

    @abstractmethod
    def score(self, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]) -> float:
        """Return the score of one sentence or more, all together."""

    def signature(self) -> str:
        """Return what determines the score: implementation, version, options. Scores of one signature compare."""
        return self.name


class Ter(Metric):
    """Translation edit rate in percent, lower is better (Snover et al. 2006), as sacreBLEU computes it.

    Args:
        target_language: see `Metric`.
        case_sensitive: whether a word in other case counts as another word.
    """

    name = "ter"
    heading = "TER"

    def __init__(self, target_language: str, *, case_sensitive: bool = False):
        super().__init__(target_language)
        self.case_sensitive = case_sensitive

    def score(self, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]) -> float:
        """See `Metric.score`."""
        return float(TER(case_sensitive=self.case_sensitive).corpus_score(hypotheses, [references]).score)

    def signature(self) -> str:
        """Return sacreBLEU's signature, with one reference per sentence."""
        return str(TER(case_sensitive=self.case_sensitive, references=[[""]]).get_signature())


METRICS: Registry[Metric] = Registry(
    "metrics",
    Metric,  # type: ignore[type-abstract]
    (Ter,),
    arguments=("target_language",),
    reserved=(
        *("bleu", "chrf", "copy_bleu", "copy_chrf", "brevity_penalty", "length_ratio", "sentences", "source_words"),
        *("hypothesis_tokens", "reference_tokens", "signature", "chrf_signature", "metrics", "buckets"),
    ),
)


def make_metrics(chosen: Any, target_language: str) -> list[Metric]:
    """Return the metrics that the setting `metrics` names, each tried on a sentence.

    Args:
        chosen: names, or mappings of `name` and options.
        target_language: code of the target language.

    Raises:
        UserError: a metric is unknown or named twice, an option is wrong, or a metric does not score the sentence.
    """
    if not isinstance(chosen, list):
        raise UserError(f"metrics={chosen}: is no list: write metrics=[NAME]")
    made: dict[str, Metric] = {}
    for entry in chosen:
        options = dict(entry) if isinstance(entry, dict) else {"name": entry}
        name = options.pop("name", None)
        kind = choose(METRICS, name, "metrics")
        if name in made:
            raise UserError(f"metrics: {name} is named twice: leave one out")
        made[name] = build(kind, options, f"metrics.{name}", target_language=target_language)
        try:
            value = made[name].score(["a b c"], ["a b d"], ["a b c"])
            if not math.isfinite(value):
                raise ValueError(f"its score is {value}")
            str(made[name].signature())
        except Exception as error:  # Of the user's code.
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"metrics={name}: fails on a sentence ({reason})") from None
    return list(made.values())


def metric_value(
    metric: Metric, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]
) -> float | None:
    """Return a score; None, with a line in the log, where the metric fails, as the run is trained by then."""
    try:
        value = float(metric.score(hypotheses, references, sources))
        return value if math.isfinite(value) else None
    except Exception as error:  # Of the user's code.
        log.warning(
            "metrics=%s: no score of %s sentences (%s: %s)",
            *(metric.name, f"{len(hypotheses):,}", type(error).__name__, first_line(error)),
        )
        return None
