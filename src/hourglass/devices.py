"""Devices and processes: what this process works on, and whether it is one of several."""

import os
from typing import Literal

import torch

from hourglass.errors import UserError

Accelerator = Literal["cpu", "gpu", "auto"]


def find_device(accelerator: Accelerator) -> torch.device:
    """Return the device that one process works on.

    Raises:
        UserError: there is no GPU.
    """
    if accelerator != "cpu" and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    if accelerator == "gpu":
        raise UserError("accelerator=gpu: this machine has no GPU: set accelerator=cpu")
    return torch.device("cpu")


def under_torchrun() -> bool:
    """Whether torchrun has started this process, one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_main_process() -> bool:
    """Whether this process writes files and tracks the run: the only one, or torchrun's first."""
    return not under_torchrun() or int(os.environ["RANK"]) == 0
