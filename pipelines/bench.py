"""Measure speed, one line of JSON a figure: python pipelines/bench.py WHAT [FOLDER] [RUN]

train FOLDER            target tokens a second of whole trainings (src/train.py, without its start), each variant
decode FOLDER RUN       seconds to translate test_2016_flickr, greedily and by beam 5, without the start
limit                   matrix multiply work of a training step, this machine's rate, and the share reached
growth                  time and memory against sentence length and beam, with the exponent

FOLDER has the raw files of Multi30k, RUN is a run of it. What is compared takes turns, and medians are reported.
"""

import functools
import json
import platform
import resource
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
import yaml
from hydra import compose, initialize_config_dir
from pydantic import Field, PositiveInt
from torch.utils.flop_counter import FlopCounterMode

from hourglass.ablation import ROOT
from hourglass.assembly import build_model
from hourglass.checkpoints import load_trained
from hourglass.errors import UserError, one_line_errors
from hourglass.model import Seq2Seq
from hourglass.options import build, plain_values
from hourglass.preparation import prepare
from hourglass.runs import open_run, read_json
from hourglass.settings import check_to_read
from hourglass.tokenizer import BOS, EOS, FIXED_PIECES
from hourglass.translation import translate

# A batch of the peers: sentences, source and target tokens of each (Multi30k's means).
SENTENCES, SOURCE, TARGET = 64, 15, 15
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
    """

    overrides: list[str]
    decoder_sizes: list[PositiveInt]
    variants: dict[str, str]
    target_tokens: PositiveInt
    rounds: PositiveInt
    lengths: Annotated[list[PositiveInt], Field(min_length=2)]


def say(what: str, value: float, unit: str, **more: Any) -> None:
    """Print one figure."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), **versions}
    print(json.dumps({"what": what, "value": round(value, 4), "unit": unit, **more, **machine}), flush=True)


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
                        f"data.folder={folder}",
                        f"cache={scratch}/cache",
                        f"trainer.target_tokens={settings.target_tokens}",
                        "trainer.validations=1",
                        "trainer.dev_sentences=4",
                        "trainer.checkpoint_every=1000000",
                        "trainer.test=false",
                        "logger=none",
                        f"run_dir={run}",
                    ]
                    command = [sys.executable, str(ROOT / "src" / "train.py"), *words]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        raise UserError(done.stderr.strip().splitlines()[-1])
                    rate = read_json(run / "metrics.json")["train_target_tokens_per_second"]
                    rates.setdefault((variant, size), []).append(rate)
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
            with FlopCounterMode(display=False) as counter:
                step()
            work = float(counter.get_total_flops())
            rates: list[float] = []
            shares: list[float] = []
            for _ in range(settings.rounds):
                rate, seconds = matmul_rate(), timed(step)
                rates.append(rate)
                shares.append(work / seconds / rate)
            name = f"{variant}, decoder {size}"
            say(f"matrix multiply work, {name}", work / (SENTENCES * TARGET) / 1e6, "MFLOP/target token")
            say("matrix multiply rate", statistics.median(rates) / 1e9, "GFLOP/s", all=[rate / 1e9 for rate in rates])
            say(f"share of that rate in training, {name}", statistics.median(shares), "share", all=shares)


def training_step(model: Seq2Seq, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> None:
    """Take one step, as a training does, of a batch of `make_batch`."""
    source, lengths, target = batch
    optimizer.zero_grad()
    (model.loss(source, lengths, target).smoothed / (target.numel() - len(target))).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def growth(settings: BenchSettings) -> None:
    """Time a training step and a search against the length of sentences and the beam."""
    for variant in settings.variants:
        model = make_model(settings, variant, settings.decoder_sizes[0])
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        seconds: list[float] = []
        for length in settings.lengths:
            batch = make_batch(max(1, 960 // length), length, length)
            step = functools.partial(training_step, model, optimizer, batch)
            seconds.append(timed(step) / batch[0].numel())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            say(f"training step, {variant}, length {length}", 1e6 * seconds[-1], "us/target token", peak_mb=peak)
        exponent = np.polyfit(np.log(settings.lengths), np.log(seconds), 1)[0]
        say(f"growth of a target token's time with length, {variant}", float(exponent), "exponent")


def make_model(settings: BenchSettings, variant: str, size: int) -> Seq2Seq:
    """Build a variant's model, with the peers' vocabulary."""
    with initialize_config_dir(str(ROOT / "conf")):
        config = plain_values(compose("config", overrides=settings_of(settings, variant, size)))
    torch.manual_seed(1)
    return build_model(
        config, config["tokenizer"]["vocabulary_size"], config["tokenizer"]["vocabulary_size"], joint=False
    )


def make_batch(sentences: int, source: int, target: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return source, lengths and target of random ids; each side has so many tokens with end-of-sentence."""
    ids = torch.randint(FIXED_PIECES, 4000, (sentences, source + target))
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


def matmul_rate(size: int = 1024) -> float:
    """Return the operations a second of a square product that the machine likes."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / timed(lambda: a @ b)


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
    content = yaml.safe_load((ROOT / "conf" / "bench.yaml").read_text(encoding="utf-8"))
    measure, _ = kinds[words[0]]
    measure(build(BenchSettings, content, "bench"), *words[1:])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
