"""Measure speed, and print each measurement as a line of JSON: python pipelines/bench.py COMMAND [ARGUMENT ...]

--help lists the commands. Measurements of several variants take turns, and medians are printed; conf/bench.yaml has
the settings.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.bench import cells, contention, decoding, devices, frames, growth, precisions, report, training
from hourglass.bench.settings import BenchSettings
from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build, check, choose
from hourglass.errors import UserError
from hourglass.system.devices import prepare_torch
from hourglass.system.memory import keep_heap


class Command(NamedTuple):
    """What a command runs, with the settings and its arguments; and its line in --help."""

    run: Callable[..., None]
    arguments: str
    summary: str


COMMANDS = {
    "start": Command(training.measure_start, "FOLDER", "seconds from the command line to a training's first step"),
    "limit": Command(devices.measure_limit, "", "share of this machine's rate of matrix products in a training step"),
    "train": Command(training.measure_training, "FOLDER", "target tokens a second of trainings, without their start"),
    "model": Command(decoding.train_decoding_model, "FOLDER RUN", "trains the model for decode and exact"),
    "decode": Command(decoding.measure_decoding, "FOLDER RUN", "sentences a second, greedily and with beam 5"),
    "searches": Command(decoding.measure_searches, "RUN", "a run's test set by precision: sentences a second, BLEU"),
    "exact": Command(decoding.measure_agreement, "FOLDER RUN", "share of translations equal to the plain search's"),
    "growth": Command(growth.measure_growth, "", "the next four, for all variants and sizes"),
    "lengths": Command(growth.measure_lengths, "VARIANT", "time and memory of a training step by sentence length"),
    "corpus": Command(growth.measure_corpus, "PAIRS", "time and memory to open and read a corpus of random ids"),
    "beams": Command(growth.measure_beams, "", "time and memory of a search by beam width"),
    "compared": Command(growth.measure_comparisons, "", "time and memory of comparing variants by their number"),
    "contended": Command(contention.measure_contention, "", "training and search beside processes that want cores"),
    "activity": Command(contention.measure_activity, "ACTIVITY", "a training step, or a search, for contended"),
    "precisions": Command(precisions.measure_precisions, "", "training steps on a CPU, in float32 and in bf16-mixed"),
    "cells": Command(cells.measure_cells, "", "training steps by cell: speeds, and the time as a ratio to the LSTM's"),
    "profile": Command(precisions.measure_parts, "", "the shares of products, casts, Python, ... in a training step"),
    "device": Command(devices.measure_device, "DEVICE", "a training step, its bare library calls and a plain loop"),
    "compiled": Command(devices.measure_compilation, "", "on a GPU, CUDA graphs and torch.compile"),
    "gpu": Command(training.measure_gpu_training, "FOLDER", "speed and dev scores of whole trainings on a GPU"),
    "frames": Command(frames.measure_frames, "RUNS", "frames/s of the explorer page in a sentence of 200 pieces"),
    "table": Command(report.print_tables, "FILE", "tables and figures of the lines in FILE, with conf/peers.yaml"),
}
OPERANDS = ("command", "arguments...")
COMMAND_LIST = f"""Commands and their arguments:
{chr(10).join(f"  {name:<10}{command.arguments:<12}{command.summary}" for name, command in COMMANDS.items())}

FOLDER has the raw files of Multi30k, RUN is the run folder that model writes, RUNS are run folders joined by commas,
VARIANT is a name of the key variants, DEVICE cpu or cuda, ACTIVITY training, greedy or beam-5."""


def main(values: Mapping[str, Any]) -> None:
    """Run one command."""
    options = dict(values)
    command = choose(COMMANDS, options.pop("command"), "command")
    arguments = check(list[str], options.pop("arguments"), "arguments")
    names = command.arguments.split()
    usage = " ".join(["usage: python pipelines/bench.py", values["command"], *names])
    if len(arguments) < len(names):
        raise UserError(f"{names[len(arguments)]}: not given; {usage}")
    if len(arguments) > len(names):
        raise UserError(f"{arguments[len(names)]}: one word too many; {usage}")
    settings = build(BenchSettings, options, "")
    prepare_torch(settings.threads)
    keep_heap()  # As training and translation do.
    command.run(settings, *arguments)


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("bench", *OPERANDS, epilogue=COMMAND_LIST))
