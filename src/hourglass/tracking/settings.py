"""The config group `logger`: where curves and scores go.

This module does not import Lightning, which takes seconds, so that settings are checked at once.
"""

import importlib.util
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from hourglass.config.options import build, choose
from hourglass.errors import UserError
from hourglass.system.secrets import check_address

_ADDRESS = r"^(sqlite|postgresql|mysql|mssql|https?)(\+\w+)?://.+"


def check_tracking_uri(uri: str, option: str, *, environment: str | None) -> None:
    """Check an address of MLflow; see `check_address`.

    Raises:
        UserError: it is none, or `check_address` refuses it.
    """
    if not re.match(_ADDRESS, uri):
        raise UserError(f"{option}: not an address of MLflow: set sqlite:///FILE, postgresql://... or http://HOST:PORT")
    check_address(uri, option, environment=environment)


@dataclass(frozen=True)
class MlflowSettings:
    """The config `logger=mlflow`.

    Attributes:
        tracking_uri: the store of MLflow: sqlite:///FILE, postgresql://..., or http://HOST:PORT of a server; None: the
            environment variable MLFLOW_TRACKING_URI, the only place for a password, as settings are written to files.
        experiment: the experiment that the runs belong to.
        system_metrics: seconds between readings of the machine's load; 0: none.
        model: whether the best model is packed and logged; auto: unless the run is a job of `-m`.

    Raises:
        UserError: the address is malformed, `tracking_uri` has a password, or neither it nor the variable is set.
    """

    tracking_uri: str | None
    experiment: Annotated[str, Field(min_length=1)]
    system_metrics: NonNegativeInt
    model: bool | Literal["auto"] = "auto"  # The default lets older runs, without this option, be resumed.

    def __post_init__(self) -> None:
        option = "logger.tracking_uri" if self.tracking_uri is not None else "MLFLOW_TRACKING_URI"
        if self.tracking_uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UserError("logger.tracking_uri: not set, and neither is MLFLOW_TRACKING_URI: set one of them")
        check_tracking_uri(self.uri, option, environment=None if self.tracking_uri is None else "MLFLOW_TRACKING_URI")

    @property
    def uri(self) -> str:
        """The address, from the settings or from the environment."""
        return self.tracking_uri or os.environ["MLFLOW_TRACKING_URI"]

    @property
    def where(self) -> str:
        """The address without user and password, for messages."""
        parts = urllib.parse.urlsplit(self.uri)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{'' if host else parts.path}"


@dataclass(frozen=True)
class CsvSettings:
    """The config `logger=csv`: curves.csv in the run folder.

    Attributes:
        system_metrics: seconds between readings of the machine's load, for system.csv; 0: none.
    """

    system_metrics: NonNegativeInt = 0  # As for `MlflowSettings.model`.


@dataclass(frozen=True)
class TensorBoardSettings:
    """The config `logger=tensorboard`.

    Attributes:
        system_metrics: seconds between readings of the machine's load, for system.csv; 0: none.
    """

    system_metrics: NonNegativeInt


@dataclass(frozen=True)
class WandbSettings:
    """The config `logger=wandb`.

    Attributes:
        project: name of the project in W&B.
        entity: user or team; None: the default of the account.
        offline: whether the run is only written to the run folder.
        system_metrics: seconds between readings of the machine's load, for system.csv; 0: none.
    """

    project: Annotated[str, Field(min_length=1)]
    entity: Annotated[str, Field(min_length=1)] | None
    offline: bool
    system_metrics: NonNegativeInt


@dataclass(frozen=True)
class NoSettings:
    """The config `logger=none`."""


LoggerSettings = MlflowSettings | CsvSettings | TensorBoardSettings | WandbSettings | NoSettings

_KINDS: dict[str, type[LoggerSettings]] = {
    "mlflow": MlflowSettings,
    "csv": CsvSettings,
    "tensorboard": TensorBoardSettings,
    "wandb": WandbSettings,
    "none": NoSettings,
}


def check_logger(options: Mapping[str, Any]) -> LoggerSettings:
    """Return the checked config group `logger`.

    Raises:
        UserError: an option is unknown or outside its choices, or the library that it needs is not installed.
    """
    own = dict(options)
    name = own.pop("name", None)
    kind: Callable[..., LoggerSettings] = choose(_KINDS, name, "logger.name")
    settings = build(kind, own, "logger")
    # Not imported here, as that takes seconds.
    if name in ("tensorboard", "wandb") and importlib.util.find_spec(name) is None:
        raise UserError(f'logger={name}: {name} is not installed: pip install -e ".[{name}]", or use logger=csv')
    needed = not isinstance(settings, NoSettings) and (name == "mlflow" or settings.system_metrics)
    if needed and importlib.util.find_spec("mlflow") is None:
        option = "logger=mlflow" if name == "mlflow" else "logger.system_metrics"
        raise UserError(
            f"{option}: MLflow is not installed: pip install mlflow, or use logger=csv logger.system_metrics=0"
        )
    return settings
