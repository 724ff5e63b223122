"""Measure trainings by src/train.py: their speed, the time to their first step, and whole trainings on a GPU."""

import itertools
import logging
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hourglass.bench.clock import step_rate
from hourglass.bench.measurements import ON_GPU_TRAINING, TRAINING, print_measurement
from hourglass.bench.settings import BATCH_SENTENCES, BenchSettings, Precision, run_between
from hourglass.bench.steps import operations_per_token
from hourglass.config.plugins import plugin_words
from hourglass.errors import UserError
from hourglass.runs.curves import read_points
from hourglass.system.commands import path_override
from hourglass.system.files import read_json
from hourglass.system.machine import BFLOAT16_INSTRUCTIONS, bfloat16_instructions
from hourglass.system.project import TRAIN_SCRIPT
from hourglass.training.jobs import JobFailedError, start_job
from hourglass.training.preparation import folder_override

log = logging.getLogger(__name__)

_Kind = tuple[int, str, Precision]  # decoder size, variant, precision


def measure_training(settings: BenchSettings, folder: str) -> None:
    """Measure the speed of trainings, without their start. All variants take turns, in each precision.

    Before each training the rate of matrix products is measured, as the rate of a shared machine varies.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
    """
    precisions = settings.precisions
    if "bf16-mixed" in precisions and not bfloat16_instructions():
        log.warning("train: without bf16-mixed, as this CPU has neither %s", " nor ".join(BFLOAT16_INSTRUCTIONS))
        precisions = [precision for precision in precisions if precision != "bf16-mixed"]
    kinds = list(itertools.product(settings.decoder_sizes, settings.variants, precisions))
    speeds: dict[_Kind, list[float]] = {kind: [] for kind in kinds}
    rates: dict[_Kind, list[float]] = {kind: [] for kind in kinds}
    padding: dict[_Kind, float] = {}
    corpus = folder_override(folder, settings.overrides)
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(settings.rounds):
            for kind in kinds:
                size, variant, precision = kind
                rates[kind].append(step_rate(settings.seconds, BATCH_SENTENCES, size))
                overrides = [*_timing_overrides(corpus, scratch), f"trainer.target_tokens={settings.target_tokens}"]
                overrides += [f"trainer.precision={precision}", "logger=none"]
                metrics = _train_once(settings, variant, size, Path(scratch), *overrides)
                speeds[kind].append(metrics["train_target_tokens_per_second"])
                padding[kind] = metrics["padding_share"]
                run_between(settings, f"{TRAINING}{variant}, decoder {size}", precision)
    for (size, variant, precision), values in speeds.items():
        print_measurement(
            f"{TRAINING}{variant}, decoder {size}",
            statistics.median(values),
            "target tokens/s",
            all=values,
            precision=precision,
            work=operations_per_token(settings, variant, size),
            step_rates=rates[size, variant, precision],
            padding=padding[size, variant, precision],
            **({"between": settings.between} if settings.between else {}),
        )


def measure_start(settings: BenchSettings, folder: str) -> None:
    """Measure the seconds from the command line to the first step of a training, on a cached corpus.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
    """
    seconds: list[float] = []
    corpus = folder_override(folder, settings.overrides)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(settings.rounds + 1):
            run = Path(scratch) / str(number)
            overrides = settings.overrides_of(settings.first_variant, settings.decoder_sizes[0])
            overrides += [*_timing_overrides(corpus, scratch), "trainer.target_tokens=2000", "trainer.log_every=1"]
            started = time.time()
            train_quietly(*overrides, "logger=csv", f"trainer.threads={settings.threads}", f"run_dir={run}")
            seconds.append(min(point.time for point in read_points(run / "curves.csv")) / 1000 - started)
    del seconds[0]  # That training has filled the cache.
    print_measurement("start, from the command to the first step's loss", statistics.median(seconds), "s", all=seconds)


def measure_gpu_training(settings: BenchSettings, folder: str) -> None:
    """Train the first variant to its end on a GPU, and print speed and dev scores of each training.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("gpu: this machine has no GPU that torch can use")
    measure_whole_training(settings, folder, "trainer=gpu", torch.cuda.get_device_name())


def measure_whole_training(settings: BenchSettings, folder: str, trainer: str, device: str) -> None:
    """Train at all decoder sizes and precisions, seeds taking turns; see `measure_gpu_training`.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
        trainer: the override that chooses the trainer.
        device: the device's name in the printed lines.
    """
    variant, corpus = settings.first_variant, folder_override(folder, settings.overrides)
    kinds = itertools.product(range(1, settings.rounds + 1), settings.decoder_sizes, settings.device_precisions)
    with tempfile.TemporaryDirectory() as scratch:
        for seed, size, precision in kinds:
            overrides = [trainer, *_timing_overrides(corpus, scratch, dev_sentences=0), "logger=csv", f"seed={seed}"]
            overrides += [f"trainer.precision={precision}", f"trainer.target_tokens={settings.gpu_target_tokens}"]
            metrics = _train_once(settings, variant, size, Path(scratch), *overrides)
            print_measurement(
                f"{ON_GPU_TRAINING}{variant}, decoder {size}, {precision}",
                metrics["train_target_tokens_per_second"],
                "target tokens/s",
                seed=seed,
                dev_loss=metrics["dev"]["loss"],
                dev_bleu=metrics["dev"]["bleu"],
                device=device,
            )


def _train_once(settings: BenchSettings, variant: str, size: int, scratch: Path, *overrides: str) -> dict[str, Any]:
    """Train a variant with further overrides, return its metrics.json, and delete its run folder."""
    run = scratch / "run"
    variant_overrides = settings.overrides_of(variant, size)
    try:
        train_quietly(*variant_overrides, *overrides, f"trainer.threads={settings.threads}", f"run_dir={run}")
    except JobFailedError as error:
        raise UserError(f"variant {variant}, decoder {size}: {error}") from None
    metrics: dict[str, Any] = read_json(run / "metrics.json")
    shutil.rmtree(run)
    return metrics


def _timing_overrides(corpus: str, cache: str, dev_sentences: int = 4) -> list[str]:
    """Return the overrides that set the corpus and leave out all that is not timed; 0 dev sentences are all of them."""
    return [
        corpus,
        path_override("cache", Path(cache) / "cache"),
        "trainer.validations=1",
        f"trainer.dev_sentences={dev_sentences}",
        "trainer.checkpoint_every=1000000",
        "trainer.test=false",
        "trainer.pictures=0",
    ]


def train_quietly(*overrides: str) -> None:
    """Run src/train.py without its output, as standard output is for measurements only.

    Raises:
        JobFailedError: the training failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        start_job(str(TRAIN_SCRIPT), [*plugin_words(), *overrides], output=output)
