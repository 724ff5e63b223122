"""The differences between two configurations."""

from collections.abc import Mapping, Sequence
from typing import Any

from hourglass.config.options import Config

# Settings that determine where a run is stored, tracked and taken from, not its result.
PLACES = ("run_dir", "resume", "start_from", "if_exists", "cache", "logger")
# Settings that act once a training has ended: whatever they are, it is the same training.
SCORING = ("trainer.test",)


def changes(before: Config, after: Config) -> list[str]:
    """Return the names of the settings that differ, except `PLACES` and `SCORING`.

    Where both have the same fingerprint, a setting that a later version added is as its behaviour was before.
    """
    names = [name for name in differences(before, after) if name.split(".")[0] not in PLACES and name not in SCORING]
    if before.get("fingerprint") is not None and before["fingerprint"] == after.get("fingerprint"):
        return known_to(before, names)
    return names


def known_to(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return those of the names, GROUP.KEY, that a configuration has."""

    def is_known(name: str) -> bool:
        block: Any = config
        for key in name.split("."):
            if not isinstance(block, Mapping) or key not in block:
                return False
            block = block[key]
        return True

    return [name for name in names if is_known(name)]


def differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of the settings that differ, as on the command line: GROUP.KEY."""
    names: list[str] = []
    for key in sorted({*first, *second}):
        values = first.get(key), second.get(key)
        if isinstance(values[0], Mapping) and isinstance(values[1], Mapping):
            names += differences(values[0], values[1], f"{prefix}{key}.")
        elif values[0] != values[1]:
            names.append(f"{prefix}{key}")
    return names
