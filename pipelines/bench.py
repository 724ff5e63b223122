"""Measure speed, one line of JSON a figure: python pipelines/bench.py WHAT [FOLDER] [RUN]

train FOLDER            target tokens a second of whole trainings (src/train.py, without its start), each variant
decode FOLDER RUN       seconds to translate test_2016_flickr, greedily and by beam 5, without the start
limit                   matrix multiply work of a training step, this machine's rates, and the share reached
growth                  time and memory of a training step against sentence length, with the exponent

FOLDER has the raw files of Multi30k, RUN is a run of it. What is compared takes turns, and medians are reported.
"""

import functools
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch.utils.flop_counter import FlopCounterMode

from hourglass.ablation import ROOT, compose_settings
from hourglass.assembly import build_model
from hourglass.checkpoints import load_trained
from hourglass.errors import UserError, one_line_errors
from hourglass.model import Seq2Seq
from hourglass.options import build, read_settings
from hourglass.preparation import prepare
from hourglass.runs import machine, open_run, read_json
from hourglass.settings import check_to_read
from hourglass.sweeping import quoted
from hourglass.tokenizer import BOS, EOS, FIXED_PIECES
from hourglass.translation import translate

# A batch of the peers: sentences, source and target tokens of each (Multi30k's means).
SENTENCES, SOURCE, TARGET = 64, 15, 15
# Of a vocabulary, as conf/bench.yaml has it or fewer.
PIECES = 4000
# Seconds a rate is measured for.
MEASURED = 2.0


@dataclass(frozen=True)
class BenchSettings:
    """conf/bench.yaml.

    Attributes:
        overrides: of all variants.
        decoder_sizes: H.
        variants: name and overrides of each.
        target_tokens: of a training that is timed.
        rounds: of each measurement.
        lengths: tokens of a sentence, for the growth of cost.
        threads: of everything measured.
    """

    overrides: list[str]
    decoder_sizes: list[PositiveInt]
    variants: dict[str, str]
    target_tokens: PositiveInt
    rounds: PositiveInt
    lengths: Annotated[list[PositiveInt], Field(min_length=2)]
    threads: PositiveInt


def say(what: str, value: float, unit: str, **more: Any) -> None:
    """Print one figure."""
    told = {
        "what": what,
        "value": round(value, 4),
        "unit": unit,
        **more,
        **machine(),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(told), flush=True)


def settings_of(settings: BenchSettings, variant: str, size: int) -> list[str]:
    """Return the overrides of a variant at a decoder size; its readout is as wide as its state, as the peers' is."""
    return [
        *settings.overrides,
        *settings.variants[variant].split(),
        f"decoder.hidden_size={size}",
        f"decoder.readout_size={size}",
    ]


def train(settings: BenchSettings, folder: str) -> None:
    """Time whole trainings, all variants taking turns."""
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(settings.rounds):
            for size in settings.decoder_sizes:
                for variant in settings.variants:
                    run = Path(scratch) / f"{variant.replace(' ', '-')}-{size}-{number}"
                    words = [
                        *settings_of(settings, variant, size),
                        f"data.folder={quoted(str(Path(folder).expanduser().resolve()))}",
                        f"cache={scratch}/cache",
                        f"trainer.target_tokens={settings.target_tokens}",
                        "trainer.validations=1",
                        "trainer.dev_sentences=4",
                        "trainer.checkpoint_every=1000000",
                        "trainer.test=false",
                        "logger=none",
                        f"trainer.threads={settings.threads}",
                        "trainer.pictures=0",
                        f"run_dir={run}",
                    ]
                    command = [sys.executable, str(ROOT / "src" / "train.py"), *words]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        said = done.stderr.strip().splitlines() or [f"src/train.py ended with {done.returncode}"]
                        raise UserError(said[-1].removeprefix("error: "))
                    rate = read_json(run / "metrics.json")["train_target_tokens_per_second"]
                    rates.setdefault((variant, size), []).append(rate)
                    shutil.rmtree(run)
    for (variant, size), found in rates.items():
        say(f"training, {variant}, decoder {size}", statistics.median(found), "target tokens/s", all=found)


def decode(settings: BenchSettings, folder: str, path: str) -> None:
    """Time translations of test_2016_flickr, both searches taking turns."""
    run, config = open_run(path, "run")
    if config["data"]["name"] != "multi30k":
        raise UserError(f"{path}: a run of data={config['data']['name']}, and test_2016_flickr is Multi30k's")
    config["data"] |= {"folder": folder, "test": "test_2016_flickr"}
    checked, trained = check_to_read(config), load_trained(run.best)
    sources = list(prepare(config, checked).corpus.splits["test"]["source"])
    searches = {
        "greedy": checked.search.greedy,
        "beam 5": build(type(checked.search), vars(checked.search) | {"beam": 5}, "search"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(settings.rounds):
        for name, search in searches.items():
            started = time.perf_counter()
            list(translate(trained.model, trained.vocabularies, sources, search))
            seconds[name].append(time.perf_counter() - started)
    for name, found in seconds.items():
        say(f"decoding test_2016_flickr, {name}", statistics.median(found), "s", all=found, run=path)


def limit(settings: BenchSettings) -> None:
    """Hold the matrix multiply work of a training step against this machine's rate."""
    for size in settings.decoder_sizes:
        for variant in settings.variants:
            model = make_model(settings, variant, size)
            optimizer = torch.optim.Adam(model.parameters(), fused=True)
            batch = make_batch(SENTENCES, SOURCE, TARGET)

            step = functools.partial(training_step, model, optimizer, batch)
            work = count_work(step)
            rates: list[float] = []
            shares: list[float] = []
            for _ in range(settings.rounds):
                rate, seconds = matmul_rate(), timed(step)
                rates.append(rate)
                shares.append(work / seconds / rate)
            name = f"{variant}, decoder {size}"
            say(f"matrix multiply work, {name}", work / (SENTENCES * TARGET) / 1e6, "MFLOP/target token")
            say(
                "matrix multiply rate, 1024 x 1024",
                statistics.median(rates) / 1e9,
                "GFLOP/s",
                all=[rate / 1e9 for rate in rates],
            )
            of_step = matmul_rate(SENTENCES, 2 * size, 4 * size)
            say(f"matrix multiply rate, a step of decoder {size}", of_step / 1e9, "GFLOP/s")
            say(f"share of the rate of 1024 x 1024 in training, {name}", statistics.median(shares), "share", all=shares)


def training_step(model: Seq2Seq, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> None:
    """Take one step, as a training does, of a batch of `make_batch`."""
    source, lengths, target = batch
    optimizer.zero_grad()
    (model.loss(source, lengths, target).smoothed / (target.numel() - len(target))).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def growth(settings: BenchSettings) -> None:
    """Time a training step against the length of sentences."""
    for variant in settings.variants:
        model = make_model(settings, variant, settings.decoder_sizes[0])
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        seconds: list[float] = []
        for length in settings.lengths:
            batch = make_batch(max(1, 960 // length), length, length)
            step = functools.partial(training_step, model, optimizer, batch)
            seconds.append(timed(step) / batch[0].numel())
            start_peak()
            step()
            say(f"training step, {variant}, length {length}", 1e6 * seconds[-1], "us/target token", peak_mb=peak())
        exponent = np.polyfit(np.log(settings.lengths), np.log(seconds), 1)[0]
        say(f"growth of a target token's time with length, {variant}", float(exponent), "exponent")


def make_model(settings: BenchSettings, variant: str, size: int) -> Seq2Seq:
    """Build a variant's model, with the peers' vocabulary."""
    config = compose_settings(settings_of(settings, variant, size))
    torch.manual_seed(1)
    pieces = config["tokenizer"]["vocabulary_size"]
    return build_model(config, pieces, pieces, joint=False)


def make_batch(sentences: int, source: int, target: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return source, lengths and target of random ids; each side has so many tokens with end-of-sentence."""
    ids = torch.randint(FIXED_PIECES, PIECES, (sentences, source + target))
    ids[:, source - 1] = ids[:, -1] = EOS
    first = torch.full((sentences, 1), BOS)
    return ids[:, :source], torch.full((sentences,), source), torch.cat([first, ids[:, source:]], 1)


def timed(step: Callable[[], object]) -> float:
    """Return the median seconds of a step, after two that are not counted."""
    step()
    step()
    found: list[float] = []
    until = time.perf_counter() + MEASURED
    while time.perf_counter() < until or len(found) < 3:
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def matmul_rate(rows: int = 1024, inner: int = 1024, columns: int = 1024) -> float:
    """Return the operations a second of a product of these sizes; square, it is what the machine likes best."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    return 2 * rows * inner * columns / timed(lambda: a @ b)


def count_work(step: Callable[[], object]) -> float:
    """Return the operations of a step's matrix products, those inside the library's recurrent layers too."""
    layer, backward = torch.ops.aten.mkldnn_rnn_layer, torch.ops.aten.mkldnn_rnn_layer_backward
    with FlopCounterMode(display=False, custom_mapping={layer: lstm_work, backward: lstm_backward_work}) as counter:
        step()
    return float(counter.get_total_flops())


def lstm_work(inputs: Any, of_input: Any, of_state: Any, *_: Any, **__: Any) -> int:
    """Return the operations of one layer and direction: inputs [T, N, I], weights [4H, I] and [4H, H]."""
    steps, rows, _width = inputs
    return 2 * steps * rows * (math.prod(of_input) + math.prod(of_state))


def lstm_backward_work(*shapes: Any, **more: Any) -> int:
    """Return the operations of its backward pass: a product for the inputs and one for the weights."""
    return 2 * lstm_work(*shapes, **more)


def start_peak() -> None:
    """Begin to watch this process's memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Return the most memory that was resident since, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(words: list[str]) -> None:
    """Measure one thing."""
    kinds: dict[str, tuple[Callable[..., None], int]] = {
        "train": (train, 1),
        "decode": (decode, 2),
        "limit": (limit, 0),
        "growth": (growth, 0),
    }
    if not words or words[0] not in kinds or len(words) - 1 != kinds[words[0]][1]:
        raise UserError("usage: python pipelines/bench.py train FOLDER | decode FOLDER RUN | limit | growth")
    settings = read_settings(ROOT / "conf" / "bench.yaml", lambda content: build(BenchSettings, content, "bench"))
    torch.set_num_threads(settings.threads)
    kinds[words[0]][0](settings, *words[1:])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
