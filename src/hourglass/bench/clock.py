"""Clocks: rates of products and steps, memory, exponents of growth."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from hourglass.system.memory import trim_heap

# Seconds that a step or a rate is measured for.
MEASURED = 2.0


def timed(step: Callable[[], object], seconds: float = MEASURED) -> float:
    """Return the median seconds of a step, over so many seconds, after two steps that are not counted."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    step()
    step()
    wait()
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found) < 3:
        started = time.perf_counter()
        step()
        wait()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def matmul_rate(rows: int = 1024, inner: int = 1024, columns: int = 1024) -> float:
    """Return the operations a second of a product of these sizes; square, it is what the machine likes best."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    return 2 * rows * inner * columns / timed(lambda: a @ b)


def step_rate(rows: int, size: int) -> float:
    """Return the rate at the shapes of one step: rows [rows, 2 * size] through an LSTM's weights [2 * size, 4 * size].

    Args:
        rows: of one step: sentences, or beams.
        size: of the decoder's state.
    """
    return matmul_rate(rows, 2 * size, 4 * size)


def count_work(step: Callable[[], object]) -> float:
    """Return the operations of a step's matrix products, those inside the library's recurrent layers too."""
    layer, backward = torch.ops.aten.mkldnn_rnn_layer, torch.ops.aten.mkldnn_rnn_layer_backward
    mapping = {layer: _lstm_work, backward: _lstm_backward_work}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return float(counter.get_total_flops())


def _lstm_work(inputs: Any, of_input: Any, of_state: Any, *_: Any, **__: Any) -> int:
    """One layer and direction: inputs [T, N, I], weights [4H, I] and [4H, H]."""
    steps, rows, _width = inputs
    return 2 * steps * rows * (math.prod(of_input) + math.prod(of_state))


def _lstm_backward_work(*shapes: Any, **more: Any) -> int:
    """Its backward pass: a product for the inputs and one for the weights."""
    return 2 * _lstm_work(*shapes, **more)


def start_peak() -> None:
    """Begin to watch this process's memory anew (Linux), without what it only keeps for later."""
    trim_heap()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Return the most memory that was resident since, in MB."""
    return _memory("VmHWM")


def own_memory() -> float:
    """Return the resident memory that is no file mapped into it, in MB, without what is only kept for later."""
    trim_heap()
    return _memory("RssAnon")


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent b of the curve a * size^b that suits the values best, by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
