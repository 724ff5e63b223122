"""Compose settings with Hydra, and resolve them to plain values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hourglass.config.options import Words, check
from hourglass.config.plugins import load_plugins
from hourglass.errors import UserError
from hourglass.system.project import ROOT


def compose_settings(overrides: Sequence[str], root: Path = ROOT) -> dict[str, Any]:
    """Return the settings of src/train.py with these overrides, and load the plugins that they name.

    Args:
        overrides: words of its command line, the user's own: never those that a run records.
        root: the project's folder, with conf/ in it.

    Raises:
        UserError: as `plain_values` and `load_plugins`.
    """
    with initialize_config_dir(str(root / "conf")):
        composed = compose("config", overrides=list(overrides))
    return {**plain_values(composed), "plugins": load_composed_plugins(composed)}


def plain_values(composed: DictConfig) -> dict[str, Any]:
    """Resolve composed settings to plain values.

    Settings are written to the run folder, to checkpoints and to MLflow. Therefore they cannot read the environment by
    ${oc.env:NAME}, as it may hold secrets, and cannot name a Python object, which a reader of these files might build.

    Raises:
        UserError: a value is missing, refers to an unknown key or to the environment, or its key is `_target_`.
    """
    OmegaConf.clear_resolver("oc.env")  # Permanently: nothing else in this process composes settings.
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        note = ": settings are written to files, so they cannot read the environment" if "oc.env" in reason else ""
        raise UserError(f"{error.full_key}: {reason}{note}") from None
    _refuse_targets(values, "")
    return dict(values)


def load_composed_plugins(composed: DictConfig) -> list[str]:
    """Load the plugins of settings that Hydra has composed of the command line and the user's files.

    Returns:
        Their names.

    Raises:
        UserError: as `load_plugins`.
    """
    return load_named_plugins(plain_values(OmegaConf.masked_copy(composed, "plugins"))["plugins"])


def load_named_plugins(value: Any) -> list[str]:
    """Load the plugins that a value of the setting `plugins` names, and return their names.

    Raises:
        UserError: as `load_plugins`, or the value has no names.
    """
    names: list[str] = check(Words, value, "plugins")
    load_plugins(names)
    return names


def _refuse_targets(value: Any, option: str) -> None:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        name = f"{option}.{key}".removeprefix(".")
        if key == "_target_":
            raise UserError(f"{name}={part}: settings cannot name Python objects: remove the key")
        _refuse_targets(part, name)
