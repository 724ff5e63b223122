"""Names of runs that are shown side by side: what tells them apart."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hourglass.config.differences import PLACES
from hourglass.config.options import Config

# The width of the fixed vector.
WIDTH = "encoder.summary_size"


# What makes a model, and how much it has read. Each of these options that differs among runs of one attention and one
# encoder is named.
OF_THE_MODEL = ("encoder", "decoder", "attention", "frozen_encoder", "tokenizer", "data", "trainer.target_tokens")


# Settings that never name a run; the seed does in its own way.
UNNAMED = (*PLACES, "seed", "fingerprint", "edges", "metrics", "search", "plugins")


def label_runs(configs: Sequence[Config]) -> list[str]:
    """Return a distinct name for each run: its attention, and what differs among the runs of that attention.

    First the encoder is named, then every option of the model, as on the command line. Where these are the same, other
    settings are, as far as needed; then the run has its seed, or a number.

    Args:
        configs: settings of each run.
    """
    options = [_flat(config) for config in configs]
    names = _by_model(options)
    for option in sorted({option for own in options for option in own}):
        if not _is_of_the_model(option) and option.split(".")[0] not in UNNAMED:
            names = _with_option(names, names, options, option)
    names = _distinct(names, lambda at: f"{names[at]}, seed {configs[at]['seed']}")
    return _distinct(names, lambda at: f"{at + 1}: {names[at]}")


def label_families(configs: Sequence[Config]) -> list[str]:
    """Return the names of runs without the width of their fixed vector: runs of one name differ in it alone.

    Args:
        configs: settings of each run.
    """
    return _by_model([{key: value for key, value in _flat(config).items() if key != WIDTH} for config in configs])


def _by_model(options: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(own["attention.name"]) for own in options]
    names = _with_option(names, names, options, "encoder.name")
    groups = list(names)  # Encoders of two kinds differ in too many options to name them all.
    for option in sorted({option for own in options for option in own if _is_of_the_model(option)}, key=_rank):
        if option not in ("attention.name", "encoder.name"):
            names = _with_option(names, groups, options, option)
    return names


def _with_option(
    names: Sequence[str], groups: Sequence[str], options: Sequence[Mapping[str, Any]], option: str
) -> list[str]:
    """Return the names with an option added where the runs of a group differ in it.

    A run that is older than an option lacks it, and is as one with the option off: false, 0 or null.
    """
    values: dict[str, set[str]] = {}
    for group, own in zip(groups, options, strict=True):
        values.setdefault(group, set()).add(_shown(own[option]) if own.get(option) else "")
    shown = option.removesuffix(".name")
    return [
        f"{name} {shown}={_shown(own[option])}" if option in own and len(values[group]) > 1 else name
        for name, group, own in zip(names, groups, options, strict=True)
    ]


def _distinct(names: Sequence[str], longer: Callable[[int], str]) -> list[str]:
    """Return the names, a longer one for each that another run has, too."""
    counts = Counter(names)
    return [name if counts[name] == 1 else longer(at) for at, name in enumerate(names)]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings by their names on the command line, GROUP.KEY."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _is_of_the_model(option: str) -> bool:
    return any(option == name or option.startswith(f"{name}.") for name in OF_THE_MODEL)


def _rank(option: str) -> tuple[int, str]:
    """Return a key that sorts options by the order of `OF_THE_MODEL`."""
    return next(at for at, name in enumerate(OF_THE_MODEL) if option == name or option.startswith(f"{name}.")), option


def _shown(value: Any) -> str:
    """Return a value as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value)
