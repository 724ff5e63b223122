"""The device and the role of this process."""

import atexit
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import psutil
import torch.multiprocessing

from hourglass.errors import UserError

Accelerator = Literal["cpu", "gpu", "auto"]


def find_device(accelerator: Accelerator) -> torch.device:
    """Return the device for a single process.

    Raises:
        UserError: there is no GPU.
    """
    if accelerator != "cpu" and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    if accelerator == "gpu":
        raise UserError("accelerator=gpu: this machine has no GPU: set accelerator=cpu")
    return torch.device("cpu")


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory of a device, in use or not: of an NVIDIA GPU its own, of all others the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def prepare_torch(threads: int, seed: int | None = None) -> None:
    """Set the number of CPU threads, unless it is 0, and the seed of all random numbers, unless it is None."""
    if threads:
        torch.set_num_threads(threads)
    if seed is not None:
        torch.manual_seed(seed)


def under_torchrun() -> bool:
    """Return whether torchrun has started this process, as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_main_process() -> bool:
    """Return whether this process writes the run's files and tracks it: the only process, or rank 0 of torchrun."""
    return not under_torchrun() or int(os.environ["RANK"]) == 0


def die_with_parent() -> None:
    """Have the system kill this spawned process when its parent dies, for whatever reason.

    torch sends SIGINT in that case, which background jobs of a shell ignore.
    """
    die_with_agent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_agent() -> None:
    """Have the system kill this process when the one that has started it dies, such as torchrun."""
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]


@contextmanager
def exit_without_python() -> Iterator[None]:
    """Under torchrun, exit without finalising the interpreter, for the reason of `end_without_python`."""
    if not under_torchrun():
        yield
        return
    status = 1

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(end)  # Runs after all that is registered later, and after an error has been printed.
    try:
        yield
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise


def end_without_python() -> None:
    """Have this spawned process exit without finalising the interpreter, once its work is done.

    Threads of gloo outlive the process group. One that frees a tensor while the interpreter is being finalised aborts
    the process, and a training that succeeded would count as killed.
    """
    # The lowest priority: by then, queues have delivered their content.
    multiprocessing.util.Finalize(None, _end, exitpriority=-1000)


def _end() -> None:
    if sys.exc_info()[0] is not None:  # The process failed and exits with another status.
        return
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
