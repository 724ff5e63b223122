"""Measure training steps: against the machine's rate of matrix products, against bare library calls, and compiled."""

import functools
import itertools
import logging
import statistics
import sys
import time
from collections.abc import Callable

import torch

from hourglass.bench.bare import BareCalls, PlainLoop
from hourglass.bench.clock import count_operations, matmul_rate, median_seconds, step_rate
from hourglass.bench.measurements import DEVICE, LIMIT, print_measurement
from hourglass.bench.settings import BATCH_SENTENCES, TARGET_LENGTH, BenchSettings
from hourglass.bench.steps import (
    LossFunction,
    build_variant,
    make_bare_step,
    make_training_step,
    random_batch,
    record_step,
)
from hourglass.errors import UserError
from hourglass.training.graphs import GraphedLoss

log = logging.getLogger(__name__)


def measure_limit(settings: BenchSettings) -> None:
    """Measure the share of this machine's rate of matrix products that a training step reaches."""
    for size in settings.decoder_sizes:
        for variant in settings.variants:
            model = build_variant(settings, variant, size)
            step = functools.partial(make_training_step(model), random_batch(model))
            work = count_operations(step)
            squares, steps, shares = [], [], []
            for _ in range(settings.rounds):
                squares.append(matmul_rate(settings.seconds))
                steps.append(step_rate(settings.seconds, BATCH_SENTENCES, size))
                shares.append(work / median_seconds(step, settings.seconds) / squares[-1])
            kind = f"{variant}, decoder {size}"
            print_measurement(
                f"matrix multiply work, {kind}", work / (BATCH_SENTENCES * TARGET_LENGTH) / 1e6, "MFLOP/target token"
            )
            for shape, rates in (("1024 x 1024", squares), (f"a step of decoder {size}", steps)):
                rate = statistics.median(rates) / 1e9
                print_measurement(f"matrix multiply rate, {shape}", rate, "GFLOP/s", all=rates)
            print_measurement(f"{LIMIT}{kind}", statistics.median(shares), "share", all=shares)


def measure_device(settings: BenchSettings, device: str) -> None:
    """Compare a training step with its bare library calls (forward and backward only) and with a plain loop's step.

    On a GPU, "ours" replays CUDA graphs, as trainer.cuda_graphs=true does. Two more rows there: ours without graphs,
    and the bare calls in a graph. bf16-mixed is left out on a CPU that cannot run the library's LSTM in bfloat16.

    Args:
        settings: conf/bench.yaml.
        device: cpu or cuda.

    Raises:
        UserError: it is neither, or cuda without a GPU.
    """
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device {device}: choose cpu or, on a machine with a GPU, cuda")
    device_name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    precisions = settings.device_precisions
    if device == "cpu" and "bf16-mixed" in precisions and not runs_bfloat16_lstm():
        log.warning("device cpu: without bf16-mixed, as this processor cannot run the library's LSTM in bfloat16")
        precisions = [precision for precision in precisions if precision != "bf16-mixed"]
    kinds = [(variant, size) for size in settings.decoder_sizes for variant in settings.variants]
    for (variant, size), sentences, precision in itertools.product(kinds, settings.device_sentences, precisions):
        model = build_variant(settings, variant, size).to(device)
        bare, loop = BareCalls(model).to(device), PlainLoop(model).to(device)
        batch = random_batch(model, sentences, device=device)
        steps: dict[str, Callable[[], None]] = {
            "ours": functools.partial(make_training_step(model, precision), batch),
            "bare calls": functools.partial(make_bare_step(bare, precision), batch),
            "plain loop": functools.partial(make_training_step(loop, precision), batch),
        }
        if device == "cuda":
            steps["ours without graphs"] = steps["ours"]
            steps["ours"] = functools.partial(make_training_step(model, precision, GraphedLoss(model)), batch)
            steps["bare calls in a graph"] = record_step(steps["bare calls"])
        speeds: dict[str, list[float]] = {way: [] for way in steps}
        for _ in range(settings.rounds):
            for way, step in steps.items():
                speeds[way].append(sentences * TARGET_LENGTH / median_seconds(step, settings.device_seconds))
        kind = f"{DEVICE}{variant}, decoder {size}, {sentences} sentences, {precision}"
        for way, values in speeds.items():
            speed = statistics.median(values)
            print_measurement(f"{kind}: {way}", speed, "target tokens/s", all=values, device=device_name)
        for way in [way for way in steps if way != "ours"]:
            ratios = [ours / other for ours, other in zip(speeds["ours"], speeds[way], strict=True)]
            ratio = statistics.median(ratios)
            print_measurement(f"{kind}: ours over {way}", ratio, "ratio", all=ratios, device=device_name)


def runs_bfloat16_lstm() -> bool:
    """Return whether the library's LSTM runs under bfloat16 autocast on this CPU; oneDNN needs AVX-512 for it."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def measure_compilation(settings: BenchSettings) -> None:
    """Compare three ways to run a training step on a GPU: seconds of the first two steps, and speed.

    The ways: operation by operation, CUDA graphs as of trainer.cuda_graphs=true, and torch.compile of the loss.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("compiled: this machine has no GPU that torch can use")
    variant, size, device = settings.first_variant, max(settings.decoder_sizes), torch.cuda.get_device_name()
    for sentences, precision in itertools.product(settings.device_sentences, settings.device_precisions):
        for way in ("operation by operation", "CUDA graphs", "torch.compile"):
            model = build_variant(settings, variant, size).cuda()
            batch = random_batch(model, sentences, device="cuda")
            torch.compiler.reset()
            loss: LossFunction = model.loss
            if way == "CUDA graphs":
                loss = GraphedLoss(model)
            elif way == "torch.compile":
                loss = torch.compile(model.loss)
            step = functools.partial(make_training_step(model, precision, loss), batch)
            kind = f"compiled, {variant}, decoder {size}, {sentences} sentences, {precision}: {way}"
            started = time.perf_counter()
            try:
                for _ in range(2):  # A graph is recorded in the second.
                    step()
            except Exception as error:  # torch.compile depends on compilers that a machine may lack.
                if way != "torch.compile":
                    raise
                print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            torch.cuda.synchronize()
            first = time.perf_counter() - started
            speed = sentences * TARGET_LENGTH / median_seconds(step, settings.device_seconds)
            print_measurement(f"{kind}, the first two steps", first, "s", device=device)
            print_measurement(kind, speed, "target tokens/s", device=device)
