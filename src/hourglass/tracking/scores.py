"""The numbers of metrics.json that every logger shows."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LoggedScores(NamedTuple):
    """The numbers of one run.

    Attributes:
        values: by name: cost, dev scores of the best checkpoint, test scores.
        constants: by name: what does not depend on the training.
        bleu_by_length: test BLEU by the fewest source words of each bucket with sentences; empty without a test.
        signatures: of the test scores, by name.
    """

    values: dict[str, float]
    constants: dict[str, float]
    bleu_by_length: dict[int, float]
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
        return LoggedScores(values, constants, {}, {})
    further = test.get("metrics", {})
    names = ("bleu", "chrf", "copy_bleu", "brevity_penalty", "length_ratio", *further)
    values |= {f"test/{name}": test[name] for name in names if test[name] is not None}
    signatures = {"bleu_signature": test["signature"], "chrf_signature": test["chrf_signature"]}
    signatures |= {f"{name}_signature": metric["signature"] for name, metric in further.items()}
    by_length = {bucket["source_words"][0]: bucket["bleu"] for bucket in test["buckets"] if bucket["sentences"]}
    return LoggedScores(values, constants, by_length, signatures)
