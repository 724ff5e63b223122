"""The differences between two configurations."""

from collections.abc import Mapping
from typing import Any

from hourglass.config.compose import Config

# Settings that say where a run lies and who hears of it, not what it is.
PLACES = ("run_dir", "resume", "if_exists", "cache", "logger")


def changes(before: Config, after: Config) -> list[str]:
    """Return the names of the settings that differ, but for those that only say where a run lies."""
    return [name for name in differences(before, after) if name.split(".")[0] not in PLACES]


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of the settings that differ, as on the command line: GROUP.KEY."""
    names: list[str] = []
    for key in sorted({*one, *other}):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            names += differences(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            names.append(f"{prefix}{key}")
    return names
