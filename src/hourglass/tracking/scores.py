"""The numbers of metrics.json that every logger shows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hourglass.metrics.metric import facts_of
from hourglass.metrics.scoring import main_of


class LoggedScores(NamedTuple):
    """The numbers of one run.

    Attributes:
        values: by name: cost, dev scores of the best checkpoint, test scores.
        constants: by name: what does not depend on the training.
        main: name of the main metric.
        by_length: the main metric on test by the fewest source words of each bucket with sentences; empty without a
            test.
        signatures: of the test scores, by name.
    """

    values: dict[str, float]
    constants: dict[str, float]
    main: str
    by_length: dict[int, float]
    signatures: dict[str, str]


def logged_scores(metrics: Mapping[str, Any]) -> LoggedScores:
    """Return the numbers of a run.

    Args:
        metrics: the content of metrics.json.
    """
    values = {key: metrics[key] for key in ("train_target_tokens", "train_seconds")}
    values |= {f"best/{name}": value for name, value in metrics["dev"].items()}
    constants = {name: metrics[name] for name in ("parameters", "padding_share")}
    constants |= {f"corpus/dropped {reason}": count for reason, count in metrics["corpus"]["dropped"].items()}
    test = metrics.get("test")
    if not test:
        return LoggedScores(values, constants, "", {}, {})
    values |= {f"test/{name}": test[name] for name in shown_scores(test) if test[name] is not None}
    signatures = {f"{name}_signature": facts.signature for name, facts in facts_of(test).items()}
    main = main_of(test)
    by_length = {
        bucket["source_words"][0]: bucket[main]
        for bucket in test["buckets"]
        if bucket["sentences"] and bucket[main] is not None
    }
    return LoggedScores(values, constants, main, by_length, signatures)


def shown_scores(test: Mapping[str, Any]) -> list[str]:
    """Return the names of the numbers to show of the scores of test: metrics, and what they tell beside."""
    main = main_of(test)
    further = (f"copy_{main}", "brevity_penalty", "length_ratio", "premature")
    return [main, *(name for name in further if name in test), *(name for name in facts_of(test) if name != main)]
