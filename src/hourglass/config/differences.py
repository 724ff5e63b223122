"""The differences between two configurations."""

from collections.abc import Mapping
from typing import Any

from hourglass.config.options import Config

# Settings that determine where a run is stored, tracked and taken from, not its result.
PLACES = ("run_dir", "resume", "start_from", "if_exists", "cache", "logger")


def changes(before: Config, after: Config) -> list[str]:
    """Return the names of the settings that differ, except `PLACES`."""
    return [name for name in differences(before, after) if name.split(".")[0] not in PLACES]


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
