"""Measure how time and memory grow with sentence length, beam, size of the corpus and number of variants compared."""

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from hourglass.bench.clock import median_seconds, peak_memory, private_memory, reset_peak_memory
from hourglass.bench.measurements import print_measurement
from hourglass.bench.settings import BATCH_SENTENCES, TARGET_LENGTH, BenchSettings, part_command
from hourglass.bench.steps import build_variant, make_search, make_training_step, random_batch
from hourglass.config.compose import compose_settings
from hourglass.data.batches import TrainingStream
from hourglass.data.encoded import EncodedSplit
from hourglass.data.pieces import FIXED_PIECES
from hourglass.errors import UserError
from hourglass.metrics import significance
from hourglass.metrics.translation import Bleu

# Batches that `measure_corpus` reads.
BATCHES = 300


def measure_growth(settings: BenchSettings) -> None:
    """Run all measurements of growth, each in a process of its own: a process keeps part of the memory that it frees.

    Raises:
        UserError: one of them failed.
    """
    commands: list[tuple[str, ...]] = [("lengths", variant) for variant in settings.variants]
    commands += [("corpus", str(pairs)) for pairs in settings.corpus_pairs]
    commands += [("beams",), ("compared",)]
    for words in commands:
        if subprocess.run(part_command("growth", *words), check=False).returncode:
            raise UserError(f"bench.py {' '.join(words)} failed; its message is above")


def measure_lengths(settings: BenchSettings, variant: str) -> None:
    """Measure a variant's training step by sentence length, with equally many tokens in a batch.

    Raises:
        UserError: conf/bench.yaml has no such variant.
    """
    if variant not in settings.variants:
        raise UserError(f"lengths {variant}: no such variant; conf/bench.yaml has {', '.join(settings.variants)}")
    model = build_variant(settings, variant, settings.decoder_sizes[0])
    step = make_training_step(model)

    def seconds_per_token(length: int) -> float:
        batch = random_batch(model, max(1, BATCH_SENTENCES * TARGET_LENGTH // length), length, length)
        return median_seconds(lambda: step(batch), settings.seconds) / batch[0].numel()

    _print_growth(f"training, {variant}, us/target token by tokens a sentence", settings.lengths, seconds_per_token)


def measure_beams(settings: BenchSettings) -> None:
    """Measure search by beam width: one batch of sentences, all decoded to the same length."""
    model = build_variant(settings, settings.first_variant, settings.decoder_sizes[0])
    batch = random_batch(model)

    def seconds_per_sentence(beam: int) -> float:
        step = make_search(settings, model, beam)
        return median_seconds(lambda: step(batch), settings.seconds) / len(batch[0])

    _print_growth("decoding, us/sentence by beam", settings.beams, seconds_per_sentence)


def measure_comparisons(settings: BenchSettings) -> None:
    """Measure the comparison of variants with the first one by paired bootstrap: 2 seeds of each, 1,000 sentences."""

    def seconds_in_all(count: int) -> float:
        random = np.random.default_rng(1)
        statistics = [[random.integers(1, 20, (1000, 10)) for _ in range(2)] for _ in range(count)]

        def compare_all() -> None:
            counts = significance.draw_resamples(1000)
            quantities = [significance.metric_quantity(Bleu("en"), seeds, counts) for seeds in statistics]
            pooled = significance.pool(quantities)
            for quantity in quantities[1:]:
                significance.compare_quantities(quantity, quantities[0], pooled)

        return median_seconds(compare_all, settings.seconds)

    name = "comparing, us in all by variants of 2 seeds and 1,000 sentences"
    _print_growth(name, settings.compared_variants, seconds_in_all)


def _print_growth(name: str, sizes: list[int], seconds_of: Callable[[int], float]) -> None:
    """Print microseconds at each size, and the peak memory beyond that of the process at the start."""
    reset_peak_memory()
    before = peak_memory()
    for size in sizes:
        reset_peak_memory()
        seconds = seconds_of(size)
        print_measurement(name, 1e6 * seconds, "us", size=size, more_mb=peak_memory() - before)


def measure_corpus(settings: BenchSettings, pairs: str) -> None:
    """Measure opening and reading a corpus of random pieces, stored as in the cache.

    Args:
        settings: conf/bench.yaml.
        pairs: the number of sentence pairs.

    Raises:
        UserError: it is no whole number, or too small.
    """
    if not pairs.isdecimal() or int(pairs) < BATCHES:
        raise UserError(f"corpus {pairs}: give a whole number of pairs, {BATCHES} or more")
    pieces = compose_settings(settings.overrides)["tokenizer"]["vocabulary_size"]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "train.arrow"
        _write_corpus(file, int(pairs), pieces)
        before = private_memory()
        started = time.perf_counter()
        split = EncodedSplit(file)
        stream = TrainingStream(
            split.source_lengths,
            split.target_lengths,
            batch_tokens=1000,
            target_tokens=BATCHES * 1000,
            validations=1,
            seed=1,
        )
        parts = stream.parts(first_step=0, rank=0, ranks=1, accumulate=1)
        first = next(parts)
        opened = time.perf_counter() - started
        started = time.perf_counter()
        tokens = sum(split[part].step_tokens for part in (first, *itertools.islice(parts, BATCHES - 1)))
        seconds = time.perf_counter() - started
        details = {
            "size": int(pairs),
            "own_mb": private_memory() - before,
            "arrow_mb": file.stat().st_size / 2**20,
        }
        print_measurement("corpus, opened and ordered, s by pairs", opened, "s", **details)
        print_measurement("corpus, read, target tokens/s by pairs", tokens / seconds, "target tokens/s", **details)


def _write_corpus(file: Path, pairs: int, pieces: int) -> None:
    """Write pairs of 5 to 25 random ids a side, in record batches of a thousand rows, as an encoded split has them."""
    ids = pa.list_(pa.int32())
    schema = pa.schema({"source_ids": ids, "target_ids": ids})
    random = np.random.default_rng(1)
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
        for first in range(0, pairs, 1000):
            columns = []
            for _ in range(2):
                lengths = random.integers(5, 26, min(1000, pairs - first), dtype=np.int32)
                offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
                values = random.integers(FIXED_PIECES, pieces, int(offsets[-1]), dtype=np.int32)
                columns.append(pa.ListArray.from_arrays(offsets, values))
            writer.write_batch(pa.record_batch(columns, schema=schema))
