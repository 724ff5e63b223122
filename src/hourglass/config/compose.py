"""Compose settings by Hydra, and turn them into plain values."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hourglass.errors import UserError
from hourglass.system.project import ROOT


def compose_settings(overrides: Sequence[str], root: Path = ROOT) -> dict[str, Any]:
    """Compose the settings that a command line of src/train.py with these overrides has."""
    with initialize_config_dir(str(root / "conf")):
        return plain_values(compose("config", overrides=list(overrides)))


Config = Mapping[str, Any]


def path_override(option: str, path: Path) -> str:
    """Return the word of a command line that sets an option to a path, whatever characters that has (but ${).

    The path is a quoted value of Hydra's grammar, where backslashes count before a quote only.
    """
    text = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(path))
    return f"{option}='{text}'"


def plain_values(composed: DictConfig) -> dict[str, Any]:
    """Resolve composed settings to plain values.

    Settings are written to the run folder, to checkpoints and to MLflow. So they cannot read the environment, where
    secrets are, by ${oc.env:NAME}; and they name no Python object for whoever reads them there to build.

    Raises:
        UserError: a value is missing, refers to what does not exist or to the environment, or is a `_target_`.
    """
    OmegaConf.clear_resolver("oc.env")  # For good: nothing else in this process composes settings.
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        mend = ": settings are written to files, the environment is not" if "oc.env" in reason else ""
        raise UserError(f"{error.full_key}: {reason}{mend}") from None
    _refuse_targets(values, "")
    return dict(values)


def _refuse_targets(value: Any, option: str) -> None:
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        name = f"{option}.{key}".removeprefix(".")
        if key == "_target_":
            raise UserError(f"{name}={part}: settings name no Python objects")
        _refuse_targets(part, name)
