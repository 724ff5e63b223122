"""The text of `python src/train.py --version`: what an issue should quote."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from hourglass.system.machine import describe_machine
from hourglass.system.primitives import CAPACITY
from hourglass.system.project import code_version
from hourglass.system.waiting import WAITING

# Their versions are read from metadata, as some of them take seconds to import.
LIBRARIES = ("pytorch-lightning", "hydra-core", "omegaconf", "mlflow", "optuna", "datasets", "sentencepiece", "numpy")
# What decides the number of threads of OpenMP, how they wait for each other, and how many kernels oneDNN keeps.
_VARIABLES = ("OMP_NUM_THREADS", *WAITING, CAPACITY)
# Of the many flags in /proc/cpuinfo, those that decide which kernels torch and oneDNN choose.
CPU_FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "bf16", "sve", "sve2"),
)


def version_report() -> str:
    """Return the versions of code and libraries, processor, GPUs and threads, one line each."""
    machine, code = describe_machine(), code_version()
    commit = f"{code['commit']}{' (files differ from it)' if code['dirty'] else ''}" if code["commit"] else "unknown"
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    variables = [f"{name} {os.environ.get(name, 'unset')}" for name in _VARIABLES]
    lines = {
        "hourglass": _installed_version("hourglass"),
        "commit": commit,
        "python": machine["python"],
        "torch": machine["torch"],
        **{library: _installed_version(library) for library in LIBRARIES},
        "system": platform.platform(),
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "CPU flags": " ".join(_cpu_flags()) or "unknown",
        "GPU": f"{', '.join(gpus)} (CUDA {torch.version.cuda})" if gpus else "none",
        "threads": f"{torch.get_num_threads()} ({', '.join(variables)})",
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines.items())


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_flags() -> list[str]:
    """Return the flags of CPU_FLAGS that this processor has; none where there is no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}
    return [flag for flag in CPU_FLAGS if flag in flags]
