"""Spawned processes of a training: their start and their end."""

import atexit
import os

import pytest
import torch.multiprocessing

from hourglass.system.devices import end_without_python


def crash_on_the_way_out(rank: int, fails: bool) -> None:
    atexit.register(os.abort)
    end_without_python()
    if fails:
        raise ValueError("this one failed")


def test_a_spawned_process_exits_without_finalising_python() -> None:
    torch.multiprocessing.spawn(crash_on_the_way_out, (False,))  # Raises unless its status is 0.


def test_a_spawned_process_that_fails_reports_it() -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="this one failed"):
        torch.multiprocessing.spawn(crash_on_the_way_out, (True,))
