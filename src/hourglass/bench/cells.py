"""Measure training steps by the cell of encoder and decoder."""

import functools
import statistics
from collections.abc import Mapping
from typing import Any

from hourglass.bench.clock import median_seconds
from hourglass.bench.measurements import CELL, print_measurement
from hourglass.bench.settings import BenchSettings
from hourglass.bench.steps import default_step, make_training_step
from hourglass.models.cells import CELLS, LSTM


def measure_cells(settings: BenchSettings) -> None:
    """Measure a training step with each cell in encoder and decoder, all taking turns, at the default settings.

    Print for each cell its speed, with the model's number of weights and that of the numbers in the state of a decoder
    layer; and, but for the LSTM, the time of a step as a ratio to the LSTM's in the same round.
    """
    first = next(iter(settings.default_variants.values()))
    kinds = {
        name: default_step(settings, name, f"{first} encoder.cell={name} decoder.cell={name}")
        for name in (LSTM.name, *(name for name in CELLS if name != LSTM.name))
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(settings.rounds):
        for name, kind in kinds.items():
            step = functools.partial(make_training_step(kind.model), kind.batch)
            seconds[name].append(median_seconds(step, settings.seconds))
    for name, own in seconds.items():
        model, (_, _, target) = kinds[name].model, kinds[name].batch
        tokens = target.numel() - len(target)
        sizes: Mapping[str, Any] = {
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "state_numbers": CELLS[name].state_size(model.decoder.hidden_size),
        }
        speeds = [tokens / each for each in own]
        print_measurement(f"{CELL}{name}", statistics.median(speeds), "target tokens/s", all=speeds, **sizes)
        if name != LSTM.name:
            ratios = [each / plain for each, plain in zip(own, seconds[LSTM.name], strict=True)]
            print_measurement(f"{CELL}{name} over {LSTM.name}", statistics.median(ratios), "ratio", all=ratios)
