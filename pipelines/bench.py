"""Measure speed, one line of JSON a figure: python pipelines/bench.py WHAT [ARGUMENT ...]

train FOLDER            target tokens a second of whole trainings (src/train.py, without its start), each variant
model FOLDER RUN        trains the model for decode into the folder RUN: general attention with feeding, 4 epochs
decode FOLDER RUN       sentences a second of translating test_2016_flickr, greedily and by beam 5, without the start
exact FOLDER RUN        share of sentences, of a sample, that search translates as the plain search does, in float64
limit                   matrix multiply work of a training step, this machine's rates, and the share reached
growth                  time and memory against sentence length, beam, corpus and number of variants
lengths VARIANT         of growth, one variant by sentence length
corpus PAIRS            of growth, one size of a corpus
beams                   of growth, the width of the search
compared                of growth, the number of variants compared
device NAME             cpu or cuda: a training step against its bare library calls, and against a plain loop over steps
compiled                on a GPU: a training step as it is, by CUDA graphs and by torch.compile, the start included
gpu FOLDER              on a GPU: whole trainings of the first variant, several seeds: speed, and what they reach
start FOLDER            seconds from the command to the first step of a training, on a cached corpus
table FILE              what such lines in FILE come to beside the peers' (conf/peers.yaml) and how cost grows, as
                        Markdown, and the figures of that beside FILE

FOLDER has the raw files of Multi30k, RUN is a run of it. What is compared takes turns, and medians are reported.
"""

import functools
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from hourglass.bench.bare import BareCalls, PlainLoop
from hourglass.bench.clock import count_work, exponent, matmul_rate, own_memory, peak, start_peak, step_rate, timed
from hourglass.bench.plain_search import plain_beam
from hourglass.bench.tables import (
    DEVICE,
    LIMIT,
    ON_GPU_TRAINING,
    TRAINING,
    GpuPeer,
    Peer,
    Peers,
    compare,
    compare_gpu,
    hold,
    judge,
)
from hourglass.config.command_line import one_line_errors
from hourglass.config.compose import compose_settings, path_override
from hourglass.config.options import build, read_settings
from hourglass.data.batches import TrainingStream
from hourglass.data.encoded import EncodedSplit, pad
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.decoding.search import SearchSettings, search
from hourglass.decoding.translate import translate
from hourglass.errors import UserError
from hourglass.metrics import significance
from hourglass.models.build import build_model
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.models.seq2seq import Seq2Seq, TokenLoss
from hourglass.reports.document import Table, to_markdown
from hourglass.reports.plots import Line, draw_lines, to_svg
from hourglass.runs.curves import read_points
from hourglass.runs.folder import open_run
from hourglass.system.files import read_json, write_whole
from hourglass.system.machine import describe_machine
from hourglass.system.memory import keep_heap
from hourglass.system.project import ROOT, code_version
from hourglass.training.graphs import GraphedLoss
from hourglass.training.jobs import run_training
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_to_read

# A batch of the peers: sentences, source and target tokens of each (Multi30k's means).
SENTENCES, SOURCE, TARGET = 64, 15, 15
# Of a vocabulary, as conf/bench.yaml has it or fewer.
PIECES = 4000
Precision = Literal["32-true", "bf16-mixed"]
# A loss of source, lengths and target, as `Seq2Seq.loss` is one.
LossFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], TokenLoss]
# Figures of how cost grows: with what, ending of the file, names of the axes, key and unit of the lines.
GROWTH = (
    ("tokens a sentence", "", "tokens of a sentence, each side", "microseconds a target token", "value", "us"),
    ("tokens a sentence", "-memory", "tokens of a sentence, each side", "MB", "more_mb", "us"),
    ("beam", "-beam", "beam", "microseconds a sentence", "value", "us"),
    ("pairs", "-corpus", "pairs of a corpus", "seconds", "value", "s"),
    ("variants of 2 seeds and 1,000 sentences", "-variants", "variants compared", "microseconds", "value", "us"),
)
# Batches that are read of a corpus, to see what one takes.
READ = 300


@dataclass(frozen=True)
class BenchSettings:
    """conf/bench.yaml.

    Attributes:
        overrides: of all variants.
        decoder_sizes: H.
        variants: name and overrides of each.
        target_tokens: of a training that is timed.
        decoded_target_tokens: of the model that decodes: the first variant, at the largest size.
        exact: sentences whose translations are held against the plain search's.
        rounds: of each measurement.
        lengths: tokens of a sentence, for the growth of cost.
        beams: widths, for the growth of cost.
        corpora: pairs, for the growth of cost.
        compared: numbers of variants that are compared, for the growth of cost.
        device_sentences: of a batch, where a device is held against its bare calls.
        device_precisions: likewise.
        device_seconds: that a step is timed for there.
        gpu_target_tokens: of a whole training on a GPU: the first variant, with as many seeds as there are rounds.
        threads: of everything measured.
    """

    overrides: list[str]
    decoder_sizes: list[PositiveInt]
    variants: dict[str, str]
    target_tokens: PositiveInt
    decoded_target_tokens: PositiveInt
    exact: PositiveInt
    rounds: PositiveInt
    lengths: Annotated[list[PositiveInt], Field(min_length=2)]
    beams: Annotated[list[PositiveInt], Field(min_length=2)]
    corpora: Annotated[list[PositiveInt], Field(min_length=2)]
    compared: Annotated[list[PositiveInt], Field(min_length=2)]
    device_sentences: Annotated[list[PositiveInt], Field(min_length=1)]
    device_precisions: Annotated[list[Precision], Field(min_length=1)]
    device_seconds: PositiveFloat
    gpu_target_tokens: PositiveInt
    threads: PositiveInt


def say(what: str, value: float, unit: str, **more: Any) -> None:
    """Print one figure."""
    told = {
        "what": what,
        "value": float(f"{value:.5g}"),
        "unit": unit,
        **more,
        **describe_machine(),
        "threads": torch.get_num_threads(),
        **code_version(),
    }
    print(json.dumps(told), flush=True)


def settings_of(settings: BenchSettings, variant: str, size: int) -> list[str]:
    """Return the overrides of a variant at a decoder size; its readout is as wide as its state, as the peers' is."""
    return [
        *settings.overrides,
        *settings.variants[variant].format(size=size).split(),
        f"decoder.hidden_size={size}",
        f"decoder.readout_size={size}",
    ]


def train(settings: BenchSettings, folder: str) -> None:
    """Time whole trainings, all variants taking turns, with the rate of matrix products before each."""
    kinds = [(variant, size) for size in settings.decoder_sizes for variant in settings.variants]
    speeds: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    rates: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    padding: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(settings.rounds):
            for variant, size in kinds:
                rates[variant, size].append(step_rate(SENTENCES, size))
                words = [*corpus_words(folder, scratch), f"trainer.target_tokens={settings.target_tokens}"]
                metrics = train_once(settings, variant, size, Path(scratch), *words, "logger=none")
                speeds[variant, size].append(metrics["train_target_tokens_per_second"])
                padding[variant, size] = metrics["padding_share"]
    for (variant, size), found in speeds.items():
        say(
            f"{TRAINING}{variant}, decoder {size}",
            statistics.median(found),
            "target tokens/s",
            all=found,
            work=work_of(settings, variant, size),
            step_rates=rates[variant, size],
            padding=padding[variant, size],
        )


def train_once(settings: BenchSettings, variant: str, size: int, scratch: Path, *words: str) -> dict[str, Any]:
    """Train a variant, with further overrides, in a folder that is not kept, and return what metrics.json says."""
    run = scratch / "run"
    own = settings_of(settings, variant, size)
    train_quietly(*own, *words, f"trainer.threads={settings.threads}", f"run_dir={run}")
    metrics: dict[str, Any] = read_json(run / "metrics.json")
    shutil.rmtree(run)
    return metrics


def folder_word(folder: str) -> str:
    """Return the override that says where the corpus is."""
    return path_override("data.folder", Path(folder).expanduser().resolve())


def corpus_words(folder: str, cache: str, dev_sentences: int = 4) -> list[str]:
    """Return the overrides that say where the corpus is, and leave out what is not timed; 0 dev sentences are all."""
    return [
        folder_word(folder),
        path_override("cache", Path(cache) / "cache"),
        "trainer.validations=1",
        f"trainer.dev_sentences={dev_sentences}",
        "trainer.checkpoint_every=1000000",
        "trainer.test=false",
        "trainer.pictures=0",
    ]


def train_quietly(*words: str) -> None:
    """Run src/train.py, what it prints aside: figures alone go to the output."""
    with tempfile.TemporaryFile("w+") as printed:
        run_training(list(words), output=printed)


def work_of(settings: BenchSettings, variant: str, size: int) -> float:
    """Return the operations of a training step's matrix products for each target token."""
    model = make_model(settings, variant, size)
    return count_work(training_of(model, make_batch())) / (SENTENCES * TARGET)


def train_decoded(settings: BenchSettings, folder: str, path: str) -> None:
    """Train the model that decodes."""
    train_quietly(
        *settings_of(settings, next(iter(settings.variants)), max(settings.decoder_sizes)),
        folder_word(folder),
        "data.test=test_2016_flickr",
        f"trainer.target_tokens={settings.decoded_target_tokens}",
        "trainer.select=loss",
        f"trainer.threads={settings.threads}",
        "logger=csv",
        path_override("run_dir", Path(path)),
    )


def open_decoded(
    settings: BenchSettings, folder: str, path: str
) -> tuple[Trained, list[str], dict[str, SearchSettings]]:
    """Return the model of a run, test_2016_flickr's sources and the searches that are measured, by name.

    Raises:
        UserError: the run is of another corpus or model.
    """
    run, config = open_run(path, "run")
    if config["data"]["name"] != "multi30k":
        raise UserError(f"{path}: a run of data={config['data']['name']}, and test_2016_flickr is Multi30k's")
    measured = compose_settings(settings_of(settings, next(iter(settings.variants)), max(settings.decoder_sizes)))
    if other := [one for one in ("tokenizer", "encoder", "attention", "decoder") if config[one] != measured[one]]:
        raise UserError(f"{path}: another {', '.join(other)} than is measured: bench.py model FOLDER RUN makes one")
    config["data"] |= {"folder": folder, "test": "test_2016_flickr"}
    checked, trained = check_to_read(config), load_trained(run.best)
    sources = list(prepare(config, checked).corpus.splits["test"]["source"])
    searches = {
        "greedy": checked.search.greedy,
        "beam 5": build(type(checked.search), vars(checked.search) | {"beam": 5}, "search"),
    }
    return trained, sources, searches


def decode(settings: BenchSettings, folder: str, path: str) -> None:
    """Time translations of test_2016_flickr, both searches taking turns, with the rate of products before each."""
    trained, sources, searches = open_decoded(settings, folder, path)
    speeds: dict[str, list[float]] = {name: [] for name in searches}
    rates: dict[str, list[float]] = {name: [] for name in searches}
    pieces = {}
    for one in searches.values():
        translate_all(trained, sources, one)  # Not timed: the first one finds the library cold.
    for _ in range(settings.rounds):
        for name, one in searches.items():
            rates[name].append(step_rate(one.batch_tokens // SOURCE, max(settings.decoder_sizes)))
            started = time.perf_counter()
            said = translate_all(trained, sources, one)
            speeds[name].append(len(sources) / (time.perf_counter() - started))
            pieces[name] = sum(len(ids) for ids in trained.vocabularies.target.encode(said)) / len(sources)
    for name, one in searches.items():
        say(
            f"decoding, {name}",
            statistics.median(speeds[name]),
            "sentences/s",
            all=speeds[name],
            pieces=pieces[name],
            run=path,
            work=count_work(functools.partial(translate_all, trained, sources, one)) / len(sources),
            step_rates=rates[name],
        )


def translate_all(trained: Trained, sources: list[str], settings: SearchSettings) -> list[str]:
    """Translate by one search."""
    return list(translate(trained.model, trained.vocabularies, sources, settings))


def exact(settings: BenchSettings, folder: str, path: str) -> None:
    """Say of how many sentences search finds what the plain search finds, the model in float64."""
    trained, sources, searches = open_decoded(settings, folder, path)
    model = trained.model.double()
    ids = [[*one, EOS] for one in trained.vocabularies.source.encode(sources[:: -(-len(sources) // settings.exact)])]
    counts = torch.tensor([len(one) for one in ids])
    batch = pad(ids)
    for name, one in searches.items():
        same = sum(
            found.tokens == plain_beam(model, source, one.limit(len(row)), one.beam, one.length_penalty).tokens
            for found, source, row in zip(search(model, batch, counts, one), batch, ids, strict=True)
        )
        say(f"translated as by the plain search, {name}", same / len(ids), "share", sentences=len(ids), run=path)


def limit(settings: BenchSettings) -> None:
    """Hold the matrix multiply work of a training step against this machine's rate."""
    for size in settings.decoder_sizes:
        for variant in settings.variants:
            model = make_model(settings, variant, size)
            step = training_of(model, make_batch())
            work = count_work(step)
            squares, steps, shares = [], [], []
            for _ in range(settings.rounds):
                squares.append(matmul_rate())
                steps.append(step_rate(SENTENCES, size))
                shares.append(work / timed(step) / squares[-1])
            name = f"{variant}, decoder {size}"
            say(f"matrix multiply work, {name}", work / (SENTENCES * TARGET) / 1e6, "MFLOP/target token")
            say("matrix multiply rate, 1024 x 1024", statistics.median(squares) / 1e9, "GFLOP/s", all=squares)
            say(f"matrix multiply rate, a step of decoder {size}", statistics.median(steps) / 1e9, "GFLOP/s", all=steps)
            say(f"{LIMIT}{name}", statistics.median(shares), "share", all=shares)


def training_of(
    model: Seq2Seq | PlainLoop,
    batch: tuple[torch.Tensor, ...],
    precision: Precision = "32-true",
    loss: LossFunction | None = None,
) -> Callable[[], None]:
    """Return a training step of a model, with an optimizer of its own; `loss` computes it as `model.loss` does."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    return functools.partial(training_step, model, optimizer, batch, precision, loss or model.loss)


def training_step(
    model: Seq2Seq | PlainLoop,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, ...],
    precision: Precision,
    loss: LossFunction,
) -> None:
    """Take one step, as a training does, of a batch of `make_batch`."""
    source, lengths, target = batch
    optimizer.zero_grad()
    with in_precision(precision, source):
        found = loss(source, lengths, target).smoothed / (target.numel() - len(target))
    found.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def bare_step(bare: BareCalls, batch: tuple[torch.Tensor, ...], precision: Precision) -> None:
    """Go forward and backward, and no more."""
    source, _, target = batch
    bare.zero_grad()
    with in_precision(precision, source):
        logits = bare(source, target[:, :-1])
    logits.sum().backward()


def in_precision(precision: Precision, batch: torch.Tensor) -> torch.autocast:
    """Return the context of a forward pass, as Lightning makes it."""
    return torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False)


def device(settings: BenchSettings, name: str) -> None:
    """Hold a training step against its bare calls, forward and backward, and against a plain loop's training step.

    On a GPU ours is what trainer=gpu does, CUDA graphs; beside it the same without, and bare calls in a graph, too.
    """
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"device {name}: set cpu or, where there is a GPU, cuda")
    where = torch.cuda.get_device_name() if name == "cuda" else "cpu"
    kinds = [(variant, size) for size in settings.decoder_sizes for variant in settings.variants]
    for (variant, size), sentences, precision in itertools.product(
        kinds, settings.device_sentences, settings.device_precisions
    ):
        ours = make_model(settings, variant, size).to(name)
        bare, loop = BareCalls(ours).to(name), PlainLoop(ours).to(name)
        batch = tuple(one.to(name) for one in make_batch(sentences))
        steps: dict[str, Callable[[], None]] = {
            "ours": training_of(ours, batch, precision),
            "bare calls": functools.partial(bare_step, bare, batch, precision),
            "plain loop": training_of(loop, batch, precision),
        }
        if name == "cuda":
            steps["ours without graphs"] = steps["ours"]
            steps["ours"] = training_of(ours, batch, precision, GraphedLoss(ours))
            steps["bare calls in a graph"] = in_a_graph(steps["bare calls"])
        speeds: dict[str, list[float]] = {one: [] for one in steps}
        for _ in range(settings.rounds):
            for one, step in steps.items():
                speeds[one].append(sentences * TARGET / timed(step, settings.device_seconds))
        kind = f"{variant}, decoder {size}, {sentences} sentences, {precision}"
        for one, found in speeds.items():
            say(f"{DEVICE}{kind}: {one}", statistics.median(found), "target tokens/s", all=found, device=where)
        for one in [one for one in steps if one != "ours"]:
            found = [each / its for each, its in zip(speeds["ours"], speeds[one], strict=True)]
            say(f"{DEVICE}{kind}: ours over {one}", statistics.median(found), "ratio", all=found, device=where)


def in_a_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record what a step does on a GPU, and return what replays it."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # As torch's notes on graphs want it: what is made at a first call is not recorded.
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    torch.clear_autocast_cache()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # See GraphedLoss.
        step()
    torch.clear_autocast_cache()
    return graph.replay


def compiled(settings: BenchSettings) -> None:
    """On a GPU, hold ways to spare a step loop its launches against each other: seconds to the first step, and speed.

    Operation by operation, CUDA graphs as trainer=gpu has them, and torch.compile of the loss.
    """
    if not torch.cuda.is_available():
        raise UserError("compiled: there is no GPU here")
    variant, size, where = next(iter(settings.variants)), max(settings.decoder_sizes), torch.cuda.get_device_name()
    for sentences, precision in itertools.product(settings.device_sentences, settings.device_precisions):
        batch = tuple(one.to("cuda") for one in make_batch(sentences))
        for way in ("operation by operation", "CUDA graphs", "torch.compile"):
            model = make_model(settings, variant, size).cuda()
            torch.compiler.reset()
            loss: LossFunction = model.loss
            if way == "CUDA graphs":
                loss = GraphedLoss(model)
            elif way == "torch.compile":
                loss = torch.compile(model.loss)
            step = training_of(model, batch, precision, loss)
            kind = f"{variant}, decoder {size}, {sentences} sentences, {precision}: {way}"
            started = time.perf_counter()
            try:
                for _ in range(2):  # The second is the one that is recorded.
                    step()
            except Exception as error:  # Of compilers, which live on what else the machine has.
                if way != "torch.compile":
                    raise
                print(f"compiled, {kind}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            torch.cuda.synchronize()
            first = time.perf_counter() - started
            speed = sentences * TARGET / timed(step, settings.device_seconds)
            say(f"compiled, {kind}, the first two steps", first, "s", device=where)
            say(f"compiled, {kind}", speed, "target tokens/s", device=where)


def gpu(settings: BenchSettings, folder: str) -> None:
    """Train on a GPU at all decoder sizes and precisions, seeds taking turns."""
    if not torch.cuda.is_available():
        raise UserError("gpu: there is no GPU here")
    train_wholly(settings, folder, "trainer=gpu", torch.cuda.get_device_name())


def train_wholly(settings: BenchSettings, folder: str, trainer: str, where: str) -> None:
    """Say of whole trainings on a device, as each ends, its speed and what dev says of it at the end."""
    variant = next(iter(settings.variants))
    kinds = itertools.product(range(1, settings.rounds + 1), settings.decoder_sizes, settings.device_precisions)
    with tempfile.TemporaryDirectory() as scratch:
        for seed, size, precision in kinds:
            words = [trainer, *corpus_words(folder, scratch, dev_sentences=0), "logger=csv", f"seed={seed}"]
            words += [f"trainer.precision={precision}", f"trainer.target_tokens={settings.gpu_target_tokens}"]
            metrics = train_once(settings, variant, size, Path(scratch), *words)
            say(
                f"{ON_GPU_TRAINING}{variant}, decoder {size}, {precision}",
                metrics["train_target_tokens_per_second"],
                "target tokens/s",
                seed=seed,
                dev_loss=metrics["dev"]["loss"],
                dev_bleu=metrics["dev"]["bleu"],
                device=where,
            )


def growth(settings: BenchSettings) -> None:
    """Say how time and memory grow with sentence length, beam, corpus, and the number of variants compared."""
    # Each in a process of its own, as memory that was had once is not all given back.
    apart: list[tuple[str, ...]] = [("lengths", variant) for variant in settings.variants]
    apart += [("corpus", str(pairs)) for pairs in settings.corpora]
    apart += [("beams",), ("compared",)]
    for words in apart:
        if subprocess.run([sys.executable, __file__, *words], check=False).returncode:
            raise UserError(f"{' '.join(words)}: ended badly; see above")


def beams(settings: BenchSettings) -> None:
    """Say how a search grows with its width: one batch of sentences, all decoded to one length."""
    model = make_model(settings, next(iter(settings.variants)), settings.decoder_sizes[0]).eval()
    source, source_lengths, _ = make_batch()
    base = compose_settings(settings.overrides)["search"]

    def look(beam: int) -> float:
        chosen = build(SearchSettings, base | {"beam": beam, "output_most": TARGET}, "search")
        return timed(lambda: search(model, source, source_lengths, chosen)) / len(source)

    measure("decoding, us/sentence by beam", settings.beams, look)


def compared(settings: BenchSettings) -> None:
    """Say how the comparison of variants by paired bootstrap grows with their number."""
    measure("comparing, us in all by variants of 2 seeds and 1,000 sentences", settings.compared, compare_variants)


def lengths(settings: BenchSettings, variant: str) -> None:
    """Say how a variant's training step grows with the length of sentences, as many tokens in a batch."""
    if variant not in settings.variants:
        raise UserError(f"lengths {variant}: no such variant; conf/bench.yaml has {', '.join(settings.variants)}")
    model = make_model(settings, variant, settings.decoder_sizes[0])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def learn(length: int) -> float:
        batch = make_batch(max(1, SENTENCES * TARGET // length), length, length)
        step = functools.partial(training_step, model, optimizer, batch, "32-true", model.loss)
        return timed(step) / batch[0].numel()

    measure(f"training, {variant}, us/target token by tokens a sentence", settings.lengths, learn)


def measure(what: str, sizes: list[int], seconds_of: Callable[[int], float]) -> None:
    """Print microseconds at each size, and the memory beyond what the process had before."""
    start_peak()
    before = peak()
    for size in sizes:
        start_peak()
        seconds = seconds_of(size)
        say(what, 1e6 * seconds, "us", size=size, more_mb=peak() - before)


def compare_variants(count: int) -> float:
    """Return the seconds in which so many variants of two seeds and 1,000 sentences are held against the first."""
    random = np.random.default_rng(1)
    found = [[random.integers(1, 20, (1000, 10)) for _ in range(2)] for _ in range(count)]

    def compare_all() -> None:
        counts = significance.draw(1000)
        quantities = [significance.bleu_quantity(one, counts) for one in found]
        seeds = significance.pool(quantities)
        for one in quantities[1:]:
            significance.compare(one, quantities[0], seeds)

    return timed(compare_all)


def corpus(settings: BenchSettings, pairs: str) -> None:
    """Write a corpus of random pieces as the cache has it, and read it as a training does."""
    if not pairs.isdecimal() or int(pairs) < READ:
        raise UserError(f"corpus {pairs}: set a whole number of pairs from {READ}")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "train.arrow"
        write_corpus(file, int(pairs))
        before = own_memory()
        started = time.perf_counter()
        split = EncodedSplit(file)
        stream = TrainingStream(
            split.source_lengths,
            split.target_lengths,
            batch_tokens=1000,
            target_tokens=READ * 1000,
            validations=1,
            seed=1,
        )
        parts = stream.parts(first_step=0, rank=0, ranks=1, accumulate=1)
        first = next(parts)
        opened = time.perf_counter() - started
        started = time.perf_counter()
        tokens = sum(split[part].step_tokens for part in (first, *itertools.islice(parts, READ - 1)))
        seconds = time.perf_counter() - started
        more = {"size": int(pairs), "own_mb": own_memory() - before, "arrow_mb": file.stat().st_size / 2**20}
        say("corpus, opened and ordered, s by pairs", opened, "s", **more)
        say("corpus, read, target tokens/s by pairs", tokens / seconds, "target tokens/s", **more)


def write_corpus(file: Path, pairs: int) -> None:
    """Write pairs of 5 to 25 random pieces a side, in batches of a thousand, as a split's file has them."""
    ids = pa.list_(pa.int32())
    schema = pa.schema({"source_ids": ids, "target_ids": ids})
    random = np.random.default_rng(1)
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
        for first in range(0, pairs, 1000):
            columns = []
            for _ in range(2):
                lengths = random.integers(5, 26, min(1000, pairs - first), dtype=np.int32)
                offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
                pieces = random.integers(FIXED_PIECES, PIECES, int(offsets[-1]), dtype=np.int32)
                columns.append(pa.ListArray.from_arrays(offsets, pieces))
            writer.write_batch(pa.record_batch(columns, schema=schema))


def start(settings: BenchSettings, folder: str) -> None:
    """Time a training from its command to its first step, on a corpus that is cached."""
    found: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(settings.rounds + 1):  # The first one fills the cache.
            run = Path(scratch) / str(number)
            words = [*settings_of(settings, next(iter(settings.variants)), settings.decoder_sizes[0])]
            words += [*corpus_words(folder, scratch), "trainer.target_tokens=2000", "trainer.log_every=1"]
            began = time.time()
            train_quietly(*words, "logger=csv", f"trainer.threads={settings.threads}", f"run_dir={run}")
            found.append(min(point.time for point in read_points(run / "curves.csv")) / 1000 - began)
    say("start, from the command to the first step's loss", statistics.median(found[1:]), "s", all=found[1:])


def table(settings: BenchSettings, path: str) -> None:
    """Print the tables of figures that were printed into a file, and draw how cost grows, beside it."""
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
        if not all({"what", "value", "unit"} <= line.keys() for line in lines):
            raise ValueError("one has no what, value or unit")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not the lines that bench.py prints ({error})") from None
    peers = read_settings(ROOT / "conf" / "peers.yaml", read_peers)
    head, *rows = compare(lines, peers.peers, peers.share)
    said = (
        f"Beside the peers; {100 * peers.share:.0f} % of a step's rate are enough. In brackets: the rounds, and what "
    )
    said += "share of the rate the peer reaches at the work that is counted for ours. The peers were measured when the "
    said += f"machine made {peers.rate:g} GFLOP/s of square products of 1,024. Commits: {', '.join(commits(lines))}."
    shown = [Table("peers", head, rows, said)]
    head, *rows = judge(lines, peers)
    shown.append(Table("asked", head, rows, "What else is asked. In brackets: the rounds."))
    head, *rows = hold(lines, peers.device)
    if rows:
        wanted = ", ".join(f"{times:g} times the {way}" for way, times in peers.device.items())
        said = f"Training steps on a device, and over other ways to take them (their speed). Asked: {wanted}."
        shown.append(Table("device", head, rows, said))
    head, *rows = compare_gpu(lines, peers.gpu)
    said = "Whole trainings on a GPU, the seeds in brackets; loss in nats a target token. A peer is of the same card."
    shown.append(Table("gpu", head, rows, said))
    listed = [line for line in lines if not {"work", "dev_loss"} & line.keys() and not line["what"].startswith(DEVICE)]
    rest = {(line["what"], line.get("size")): line for line in listed}
    rows = []
    for line in rest.values():
        memory = line.get("own_mb", line.get("more_mb"))
        rows.append(
            [
                line["what"],
                f"{line['size']:,}" if "size" in line else "",
                f"{line['value']:,.4g}",
                line["unit"],
                "" if memory is None else f"{memory:,.0f}",
            ]
        )
    head = ["what", "size", "value", "unit", "memory, MB"]
    shown.append(Table("figures", head, rows, "Every other figure; of the same thing the last."))
    grown = {what: group for what, group in _grown(rest.values()).items() if len(group) > 1}
    rows = [
        [
            what,
            " ".join(f"{line['size']:,}" for line in group),
            *(_exponent(group, key) for key in ("value", "more_mb")),
        ]
        for what, group in grown.items()
    ]
    if rows:
        head = ["what", "sizes", "exponent", "exponent of memory"]
        shown.append(Table("growth", head, rows, "How cost grows: the slope of its logarithm over that of the size."))
    print(to_markdown([one for one in shown if one.rows], figures=""))
    draw_growth(grown, Path(path))


def draw_growth(grown: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw what was measured at several sizes, beside the file it stands in."""
    for by, ending, x_label, y_label, key, unit in GROWTH:
        curves = {}
        for what, group in grown.items():
            measured, _, sizes = what.partition(" by ")
            if sizes == by and all(line["unit"] == unit and key in line for line in group):
                kind, *variant, _ = measured.split(", ")
                curves[", ".join(variant) or kind] = Line(
                    [line["size"] for line in group], [line[key] for line in group]
                )
        if curves:
            figure = draw_lines(curves, x_label=x_label, y_label=y_label)
            write_whole(file.with_name(f"{file.stem}{ending}.svg"), to_svg(figure, f"speed{ending}"))


def _grown(lines: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each figure that was measured at several sizes, the smallest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if "size" in line:
            found.setdefault(line["what"], []).append(line)
    return {what: sorted(group, key=lambda line: line["size"]) for what, group in found.items()}


def _exponent(group: list[dict[str, Any]], key: str) -> str:
    """Return the exponent of a figure over the sizes; nothing where it was not measured at each, or is none."""
    values = [line.get(key, 0) for line in group]
    if min(values) <= 0:
        return ""
    return f"{exponent([line['size'] for line in group], values):.2f}"


def commits(lines: list[dict[str, Any]]) -> list[str]:
    """Return at which commits lines were measured, and of each whether files differed from it."""
    found = {(line.get("commit"), line.get("dirty")) for line in lines}
    return sorted(
        f"{commit[:12]}{' (files differed)' if dirty else ''}" if commit else "not recorded" for commit, dirty in found
    )


def read_peers(content: Any) -> Peers:
    """Check conf/peers.yaml."""
    kinds = {"peers": Peer, "gpu": GpuPeer}
    lists = {key: [build(kind, one, key) for one in content.get(key, [])] for key, kind in kinds.items()}
    content = {**content, **lists}
    return build(Peers, content, "peers")


def make_model(settings: BenchSettings, variant: str, size: int) -> Seq2Seq:
    """Build a variant's model, with the peers' vocabulary."""
    config = compose_settings(settings_of(settings, variant, size))
    torch.manual_seed(1)
    pieces = config["tokenizer"]["vocabulary_size"]
    return build_model(config, pieces, pieces, joint=False)


def make_batch(
    sentences: int = SENTENCES, source: int = SOURCE, target: int = TARGET
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return source, lengths and target of random ids; each side has so many tokens with end-of-sentence."""
    ids = torch.randint(FIXED_PIECES, PIECES, (sentences, source + target))
    ids[:, source - 1] = ids[:, -1] = EOS
    first = torch.full((sentences, 1), BOS)
    return ids[:, :source], torch.full((sentences,), source), torch.cat([first, ids[:, source:]], 1)


def main(words: list[str]) -> None:
    """Measure one thing."""
    kinds: dict[str, tuple[Callable[..., None], int]] = {
        "train": (train, 1),
        "model": (train_decoded, 2),
        "decode": (decode, 2),
        "exact": (exact, 2),
        "limit": (limit, 0),
        "growth": (growth, 0),
        "lengths": (lengths, 1),
        "corpus": (corpus, 1),
        "beams": (beams, 0),
        "compared": (compared, 0),
        "device": (device, 1),
        "compiled": (compiled, 0),
        "gpu": (gpu, 1),
        "start": (start, 1),
        "table": (table, 1),
    }
    if not words or words[0] not in kinds or len(words) - 1 != kinds[words[0]][1]:
        raise UserError(
            "usage: python pipelines/bench.py train FOLDER | model FOLDER RUN | decode FOLDER RUN | exact FOLDER RUN | "
            "limit | growth | lengths VARIANT | corpus PAIRS | beams | compared | device NAME | compiled | "
            "gpu FOLDER | start FOLDER | table FILE"
        )
    settings = read_settings(ROOT / "conf" / "bench.yaml", lambda content: build(BenchSettings, content, "bench"))
    torch.set_num_threads(settings.threads)
    keep_heap()  # As trainings and translations do.
    kinds[words[0]][0](settings, *words[1:])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
