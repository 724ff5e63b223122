"""Measure seconds, rates of matrix products, numbers of operations, and memory.

An operation is one multiplication or one addition: a product [m, k] x [k, n] takes 2 * m * k * n.
"""

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


def median_seconds(step: Callable[[], object], duration: float) -> float:
    """Return the median seconds of a step, after two steps of warm-up.

    Args:
        step: does the work once; on a GPU, the clock waits until it is finished.
        duration: seconds to repeat the step for; three steps at least are timed.
    """
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    step()
    step()
    synchronize()
    seconds: list[float] = []
    end = time.perf_counter() + duration
    while time.perf_counter() < end or len(seconds) < 3:
        started = time.perf_counter()
        step()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def matmul_rate(duration: float, rows: int = 1024, inner: int = 1024, columns: int = 1024) -> float:
    """Return the operations a second of the product [rows, inner] x [inner, columns], measured for `duration` seconds.

    The default shape comes close to the highest rate of a machine.
    """
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    return 2 * rows * inner * columns / median_seconds(lambda: a @ b, duration)


def step_rate(duration: float, rows: int, size: int) -> float:
    """Return the rate at the shapes of one decoder step: [rows, 2 * size] x [2 * size, 4 * size], the gates of an LSTM.

    Args:
        duration: seconds of the measurement.
        rows: rows of one step: sentences in training, hypotheses in search.
        size: size of the decoder state.
    """
    return matmul_rate(duration, rows, 2 * size, 4 * size)


def count_operations(step: Callable[[], object]) -> float:
    """Return the operations of a step's matrix products, including those inside the library's recurrent layers."""
    forward, backward = torch.ops.aten.mkldnn_rnn_layer, torch.ops.aten.mkldnn_rnn_layer_backward
    mapping = {forward: _lstm_operations, backward: _lstm_backward_operations}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return float(counter.get_total_flops())


def _lstm_operations(inputs: Any, input_weights: Any, state_weights: Any, *_: Any, **__: Any) -> int:
    """Return the operations of one layer and direction: inputs [T, N, I], weights [4H, I] and [4H, H]."""
    steps, rows, _width = inputs
    return 2 * steps * rows * (math.prod(input_weights) + math.prod(state_weights))


def _lstm_backward_operations(*shapes: Any, **options: Any) -> int:
    """Return those of its backward pass: one product for the inputs' gradient, one for the weights'."""
    return 2 * _lstm_operations(*shapes, **options)


def reset_peak_memory() -> None:
    """Free cached memory and restart the measurement of `peak_memory` (Linux)."""
    trim_heap()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> float:
    """Return the largest resident memory of this process since `reset_peak_memory`, in MB (Linux)."""
    return _status_field("VmHWM")


def private_memory() -> float:
    """Return the resident memory of this process without mapped files and without cached memory, in MB (Linux)."""
    trim_heap()
    return _status_field("RssAnon")


def _status_field(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent b of the curve a * size^b, fitted by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
