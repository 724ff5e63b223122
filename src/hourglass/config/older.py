"""Settings of runs of earlier versions, in today's form: the one place that knows what those lacked."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Before(NamedTuple):
    """Options of a group of settings that earlier versions lacked.

    Attributes:
        group: of the settings.
        options: with the values that stand for what earlier versions did.
        names: of the choices of the group that have the options today; None: all.
    """

    group: str
    options: Mapping[str, Any]
    names: Collection[str] | None = None

    def is_of(self, name: object) -> bool:
        """Whether the choice with this name has the options."""
        return self.names is None or name in self.names


# The encoders of this project that have inputs. The file of a plugin's need not have `patches`.
ENCODERS = ("bag", "convolution", "features", "rnn", "transformer")

# The corpora of this project. One of a plugin need not have what all of these have.
CORPORA = (
    *("cmudict", "copy", "docstrings", "features", "hub", "kjv_web", "multi30k", "ngram_lookup", "numbers"),
    *("phone_book", "pictures", "recall", "reverse", "scan", "shapes", "text"),
)

OPTIONS_BEFORE = (
    Before("search", {"precision": 32}),
    Before("trainer", {"null_source": 0.0}),
    Before("encoder", {"patches": "projected"}, names=ENCODERS),
    Before("decoder", {"copy": False, "gate_context": False, "doubly_stochastic": 0.0}),
    Before(
        "attention",
        {"coverage": False, "coverage_loss": 0.0},
        names=["bahdanau", "bahdanau_normed", "luong_concat"],
    ),
    Before("data", {"curriculum": 0.0}, names=CORPORA),
    Before("data", {"clauses": 0}, names=["kjv_web"]),
    Before("data", {"captions": 1}, names=["multi30k"]),
    Before("data", {"entry_words": 2}, names=["recall"]),
    Before(
        "data",
        {"left_out": ["test", "tests", "testing", "_vendor", "_vendored", "vendored", "extern", "externals"]},
        names=["docstrings"],
    ),
)


def in_present_form(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what earlier versions wrote otherwise as it is written today; those of today as they are.

    `metrics` was a list of scores beside BLEU and chrF, each a name or a mapping of name and options; it may be missing
    altogether. Options that a version lacked have the values of `OPTIONS_BEFORE`.
    """
    present = dict(config)
    for before in OPTIONS_BEFORE:
        own = present.get(before.group)
        if isinstance(own, Mapping) and before.is_of(own.get("name")):
            # Behind the others, so that settings of today keep their order.
            lacking = {key: value for key, value in before.options.items() if key not in own}
            present[before.group] = {**own, **lacking}
    older = present.get("metrics", [])
    if not isinstance(older, list) or "trainer" not in present:
        return present
    entries = [dict(entry) if isinstance(entry, Mapping) else {"name": entry} for entry in older]
    names = [str(entry.pop("name", None)) for entry in entries]
    options = [{"name": name, **entry} for name, entry in zip(names, entries, strict=True) if entry]
    return {**present, "metrics": {"main": "bleu", "others": ["chrf", *names], "options": options}}
