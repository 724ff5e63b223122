"""A measurement is one line of JSON: its name, value and unit, and the machine and the commit that it was made on.

pipelines/bench.py prints such lines; `bench.py table` reads them back.
"""

import json
from pathlib import Path
from typing import Any

import torch

from hourglass.errors import UserError
from hourglass.system.machine import describe_machine
from hourglass.system.project import code_version

# How the names of measurements begin: speed of a training, of decoding, of a training on a GPU, speed of a step on a
# device, the share of the machine's rate of products that a training step reaches, the speed beside other processes,
# the speed and the parts of a training step by precision, and its speed by cell.
TRAINING = "training, "
DECODING = "decoding, "
ON_GPU_TRAINING = "training on a GPU, "
DEVICE = "device, "
LIMIT = "share of the rate of 1024 x 1024 in training, "
CONTENDED = "speed beside others, "
PRECISION = "precision, "
PROFILE = "profile, "
CELL = "cell, "
# And the speed of a search by its precision.
SEARCH = "search, "


def print_measurement(name: str, value: float, unit: str, **details: Any) -> None:
    """Print one measurement, with 5 significant digits.

    Args:
        name: what was measured; the last measurement of a name counts.
        value: the measured value, a median where there are several rounds.
        unit: its unit.
        details: further values, such as `all`: the value of each round.
    """
    line = {
        "what": name,
        "value": float(f"{value:.5g}"),
        "unit": unit,
        **details,
        **describe_machine(),
        "threads": torch.get_num_threads(),
        **code_version(),
    }
    print(json.dumps(line), flush=True)


def read_measurements(path: str) -> list[dict[str, Any]]:
    """Read the lines that `print_measurement` has printed into a file.

    Raises:
        UserError: the file cannot be read, or has other lines.
    """
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
        if not all({"what", "value", "unit"} <= line.keys() for line in lines):
            raise ValueError("a line without what, value or unit")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not the lines that bench.py prints ({error})") from None
    return lines
