"""All metrics, by the names that conf/metrics uses, and the config group `metrics`."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hourglass.config.options import Config, build, choose
from hourglass.config.registry import Registry
from hourglass.errors import UserError
from hourglass.metrics.exact import SequenceAccuracy, SequenceErrorRate
from hourglass.metrics.metric import Metric, References, single
from hourglass.metrics.summarisation import Rouge1, Rouge2, RougeL
from hourglass.metrics.transcription import CharacterErrorRate, PhonemeErrorRate, WordErrorRate
from hourglass.metrics.translation import Bleu, Chrf, Ter
from hourglass.system.secrets import first_line

log = logging.getLogger(__name__)

METRICS: Registry[Metric] = Registry(
    "metrics",
    Metric,  # type: ignore[type-abstract]
    (
        *(Bleu, Chrf, Ter),
        *(Rouge1, Rouge2, RougeL),
        *(WordErrorRate, CharacterErrorRate, PhonemeErrorRate),
        *(SequenceAccuracy, SequenceErrorRate),
    ),
    arguments=("target_language",),
    reserved=(
        *("copy_bleu", "copy_chrf", "brevity_penalty", "length_ratio", "premature", "sentences", "source_words"),
        *("hypothesis_tokens", "reference_tokens", "signature", "chrf_signature", "metrics", "main", "buckets"),
        # Of dev, and objectives of a sweep.
        *("loss", "smoothed_loss", "step", "parameters", "sentences_per_second"),
    ),
)


@dataclass(frozen=True)
class MetricSettings:
    """The config group `metrics`.

    Attributes:
        main: the metric that checkpoints are chosen by (trainer.select), and that lengths, intervals and differences
            are of.
        others: further scores of test.
        options: of metrics that have some: mappings of `name` and options.
    """

    main: str
    others: list[str]
    options: list[dict[str, Any]]

    def options_of(self, name: str) -> dict[str, Any]:
        """Return the options of a metric."""
        own = next((entry for entry in self.options if entry.get("name") == name), {})
        return {key: value for key, value in own.items() if key != "name"}


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run.

    Attributes:
        main: see `MetricSettings`.
        others: further ones.
    """

    main: Metric
    others: Sequence[Metric] = ()

    @property
    def all(self) -> list[Metric]:
        """The main metric and the others."""
        return [self.main, *self.others]


def make_metrics(chosen: Any, target_language: str) -> Metrics:
    """Return the metrics of the config group `metrics`, each tried on a sentence.

    Args:
        chosen: the config group.
        target_language: code of the target language.

    Raises:
        UserError: a metric is unknown or named twice, an option is wrong, a metric cannot score the language, or does
            not score the sentence.
    """
    made = _make(chosen, target_language)
    for metric in made.all:
        try:
            statistics = np.asarray(metric.statistics(["a b c d"], single(["a b c e"]), ["a b c d"]))
            if statistics.ndim != 2 or len(statistics) != 1:
                raise ValueError(f"its statistics have the shape {list(statistics.shape)}, and not [1, K]")
            value = np.asarray(metric.score(statistics.sum(0)))
            if value.shape != () or not np.isfinite(value):
                raise ValueError(f"its score is {value.tolist()}")
            json.dumps(metric.details(statistics.sum(0)))
            str(metric.signature())
        except UserError:
            raise
        except Exception as error:  # Of the user's code.
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"metrics={metric.name}: fails on a sentence ({reason})") from None
    return made


def main_metric(config: Config, name: str | None = None) -> Metric:
    """Return the main metric of a run, or another by its name.

    Args:
        config: the settings of the run.
        name: of the metric; None: the main one.

    Raises:
        UserError: it is unknown, or its plugin is not loaded.
    """
    settings = _check(config["metrics"])
    option = "metric" if name else "metrics.main"
    return _build(name or settings.main, settings, str(config["data"]["target"]), option)


def _check(chosen: Any) -> MetricSettings:
    if not isinstance(chosen, Mapping):
        raise UserError(
            f"metrics={chosen}: write metrics=NAME, a file of conf/metrics, and metrics.others=[NAME] for further ones"
        )
    settings = build(MetricSettings, chosen, "metrics")
    names = [settings.main, *settings.others]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"metrics: {twice} is named twice: leave one out")
    with_options = [entry.get("name") for entry in settings.options]
    for name in with_options:
        if name not in names:
            raise UserError(f"metrics.options: {name} is not among the metrics: add it to metrics.others")
    if twice := next((name for name in with_options if with_options.count(name) > 1), None):
        raise UserError(f"metrics.options: {twice} is named twice: leave one out")
    return settings


def _make(chosen: Any, target_language: str) -> Metrics:
    settings = _check(chosen)
    main = _build(settings.main, settings, target_language, "metrics.main")
    return Metrics(main, [_build(name, settings, target_language, "metrics.others") for name in settings.others])


def _build(name: str, settings: MetricSettings, target_language: str, option: str) -> Metric:
    kind = choose(METRICS, name, option)
    return build(kind, settings.options_of(name), f"metrics.options.{name}", target_language=target_language)


def heading_of(name: str) -> str:
    """Return what readers know a metric by; of a plugin's metric that is not loaded, its name."""
    return (METRICS[name].heading if name in METRICS else "") or name


def spell_out(name: str, heading: str) -> str:
    """Return the heading of a metric with the words that it stands for: "exact match (EM)".

    Args:
        name: of the metric.
        heading: as recorded; returned as it is where it stands for no words, or the metric's plugin is not loaded.
    """
    words = METRICS[name].abbreviates if name in METRICS else ""
    return f"{words} ({heading})" if words else heading


def metric_statistics(
    metric: Metric, hypotheses: Sequence[str], references: References, sources: Sequence[str]
) -> np.ndarray | None:
    """Return the counts of each sentence; None, with a line in the log, where the metric fails.

    The run is trained by then: one score that is missing must not cost the others.
    """
    try:
        statistics = np.asarray(metric.statistics(hypotheses, references, sources))
        if statistics.ndim != 2 or len(statistics) != len(hypotheses):
            raise ValueError(f"its statistics have the shape {list(statistics.shape)}, and not [{len(hypotheses)}, K]")
        return statistics
    except UserError:
        raise
    except Exception as error:  # Of the user's code.
        log.warning(
            "metrics=%s: no score of %s sentences (%s: %s)",
            *(metric.name, f"{len(hypotheses):,}", type(error).__name__, first_line(error)),
        )
        return None


def details_or_none(metric: Metric, sums: np.ndarray) -> dict[str, float | int | None]:
    """Return what a metric tells beside the score of sums [K]; nothing, with a line in the log, where it fails."""
    try:
        return metric.details(sums)
    except Exception as error:  # Of the user's code.
        log.warning("metrics=%s: no details (%s: %s)", metric.name, type(error).__name__, first_line(error))
        return {}


def score_or_none(metric: Metric, sums: np.ndarray) -> float | None:
    """Return the score of sums [K]; None where it is not finite, or with a line in the log where the metric fails."""
    try:
        value = float(metric.score(sums))
        return value if np.isfinite(value) else None
    except Exception as error:  # Of the user's code.
        log.warning("metrics=%s: no score (%s: %s)", metric.name, type(error).__name__, first_line(error))
        return None
