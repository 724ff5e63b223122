"""Devices and processes: what this process works on, and whether it is one of several."""

import multiprocessing.util
import os
import signal
import sys
from typing import Literal

import torch.multiprocessing

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


def die_with_parent() -> None:
    """Have the system kill this spawned process when the one that spawned it dies, however that dies.

    torch sends Ctrl-C then, which a shell's background jobs ignore.
    """
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)


def end_without_python() -> None:
    """Have this spawned process, once its work is done, end without taking the interpreter down.

    gloo's threads live on past the end of the process group, and one of them that lets go of a tensor while the
    interpreter goes down aborts the process: a training that succeeded would count as killed.
    """
    # Lower than all others: a queue, for one, has handed over what was put into it by then.
    multiprocessing.util.Finalize(None, _end, exitpriority=-1000)


def _end() -> None:
    if sys.exc_info()[0] is not None:  # It failed: its exit status is on the way.
        return
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
