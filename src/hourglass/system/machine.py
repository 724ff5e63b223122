"""Describe the machine that a run is made on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Return what the speed of a run depends on: processor, cores, GPU, and the versions of torch and Python."""
    cuda = torch.cuda.is_available()
    return {
        "processor": describe_processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


# Instructions for products in bfloat16, by their names in /proc/cpuinfo.
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def describe_processor() -> str:
    """Return the name of the CPU, and the instructions that torch uses."""
    names = _cpu_field("model name")
    if names is None:
        return platform.processor() or platform.machine()
    return f"{names} ({torch.backends.cpu.get_cpu_capability()})" if names else platform.machine()


def bfloat16_instructions() -> list[str]:
    """Return which of `BFLOAT16_INSTRUCTIONS` this CPU has.

    Without any, torch computes products in bfloat16 by those in float32, and more slowly than these.
    """
    flags = (_cpu_field("flags") or "").split()
    return [name for name in BFLOAT16_INSTRUCTIONS if name in flags]


def _cpu_field(name: str) -> str | None:
    """Return a field of the first CPU in Linux's list; empty: it has no such field; None: there is no list."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = (line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    return next(values, "")
