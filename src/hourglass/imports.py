"""What a training waits for before it begins, and does not need."""

import importlib
import sys
from types import ModuleType


def import_lightning() -> None:
    """Import Lightning without `scipy.signal`, a second of some six from a command to its first step.

    Nothing of it is used: torchmetrics, which Lightning imports, only adds a function to it that once was there
    (`hamming`, for a package that is not installed). For that one import a stand-in has the function already.
    """
    name = "scipy.signal"
    if {name, "pytorch_lightning"} & sys.modules.keys():
        return
    stand_in = ModuleType(name)
    stand_in.hamming = None  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        importlib.import_module("pytorch_lightning")
    finally:
        del sys.modules[name]
