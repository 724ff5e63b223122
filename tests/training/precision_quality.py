"""The quality of bf16-mixed on a CPU: python tests/training/precision_quality.py [out=FOLDER] [seeds=3] [KEY=VALUE ...]

Trains the default settings, and the same on numbers in words, in float32 and in bf16-mixed, with the same seeds, and
prints the table of docs/speed.md: BLEU on test, loss on dev, bits from the source on test, and speed; means, with the
values of the seeds in brackets. The bits are those that a blind decoder, of the same precision and the first seed,
needs for a reference, less those of the run. The row below two precisions has the difference of their means, with its
95 % interval over seeds (Welch): that holds 0 where the difference is within their spread.

Further settings, such as trainer.target_tokens=100000, are those of all trainings. Runs are kept in the folder of
out=FOLDER, and those that are there are not trained again; without it, a folder of the system's is used and removed.
The CPU needs avx512_bf16 or amx_bf16. There are 16 trainings of 2 million target tokens.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from hourglass.analysis.likelihoods import encode_split
from hourglass.metrics.likelihood import reference_nats, sentence_bits
from hourglass.training.finished import FinishedRun

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
CORPORA = {"default settings": (), "numbers": ("data=numbers",)}
PRECISIONS = ("32-true", "bf16-mixed")
BLIND = ("experiment=language_model", "trainer.test=false")


class Reading(NamedTuple):
    """What a run is compared by."""

    bleu: float  # on test, 0 to 100
    loss: float  # on dev, nats a target token
    bits: float  # from the source, of a sentence of test
    speed: float  # target tokens a second


# The digits of each value of a `Reading`.
DIGITS = (2, 4, 2, 0)


def train_model(path: Path, cache: Path, words: Sequence[str]) -> None:
    """Train a model with these settings.

    Raises:
        SystemExit: the training failed; with its message.
    """
    places = (f"run_dir={path}", f"cache={cache}", "if_exists=continue_or_replace")
    command = [sys.executable, str(TRAIN), "logger=csv", "trainer.pictures=0", *words, *places]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def finished_run(folder: Path, name: str, words: Sequence[str]) -> FinishedRun:
    """Return the run of this name, which is trained if it is not there."""
    path = folder / name
    if not (path / "metrics.json").exists():
        train_model(path, folder / "cache", words)
    return FinishedRun.open(path)


def bits_of_test(run: FinishedRun) -> np.ndarray:
    """Return the bits that a run needs for each reference of test, [N]."""
    return sentence_bits(reference_nats(run.trained.model, encode_split(run.trained, run.prepared, "test")))


def read_runs(folder: Path, corpus: str, precision: str, seeds: int, words: Sequence[str]) -> list[Reading]:
    """Return the readings of the seeds of a corpus and a precision, after the trainings that they need."""
    shared = (*CORPORA[corpus], f"trainer.precision={precision}", *words)
    name = f"{corpus.replace(' ', '-')}-{precision}"
    blind_bits = bits_of_test(finished_run(folder, f"{name}-blind", (*shared, *BLIND)))
    readings = []
    for seed in range(1, seeds + 1):
        run = finished_run(folder, f"{name}-{seed}", (*shared, f"seed={seed}"))
        metrics = run.metrics
        assert metrics.test is not None
        bits = float((blind_bits - bits_of_test(run)).mean())
        readings.append(Reading(metrics.test["bleu"], metrics.dev.loss, bits, metrics.train_target_tokens_per_second))
    return readings


def show_readings(readings: Sequence[Reading]) -> list[str]:
    """Return a cell for each value: the mean, and the values of the seeds."""
    return [
        f"{statistics.mean(values):,.{digits}f} ({' '.join(f'{value:,.{digits}f}' for value in values)})"
        for values, digits in zip(zip(*readings, strict=True), DIGITS, strict=True)
    ]


def show_difference(half: Sequence[Reading], whole: Sequence[Reading]) -> list[str]:
    """Return a cell for each value: the difference of the means, with its interval over seeds."""
    cells = []
    for ours, theirs, digits in zip(zip(*half, strict=True), zip(*whole, strict=True), DIGITS, strict=True):
        difference = statistics.mean(ours) - statistics.mean(theirs)
        low, high = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
        cells.append(f"{difference:+,.{digits}f} ({low:+,.{digits}f} to {high:+,.{digits}f})")
    return cells


def print_table(folder: Path, seeds: int, words: Sequence[str]) -> None:
    """Print the table, a row as soon as it is known."""
    print("| corpus | precision | BLEU | dev loss | bits a sentence | target tokens/s |")
    print("| --- | --- | --: | --: | --: | --: |")
    for corpus in CORPORA:
        readings = {}
        for precision in PRECISIONS:
            readings[precision] = read_runs(folder, corpus, precision, seeds, words)
            print(f"| {corpus} | {precision} | {' | '.join(show_readings(readings[precision]))} |", flush=True)
        cells = show_difference(readings["bf16-mixed"], readings["32-true"])
        print(f"| {corpus} | difference | {' | '.join(cells)} |", flush=True)


def main(words: Sequence[str]) -> None:
    """Print the table; out=FOLDER keeps the runs."""
    own = dict(word.split("=", 1) for word in words if word.startswith(("out=", "seeds=")))
    others = [word for word in words if word.partition("=")[0] not in own]
    with tempfile.TemporaryDirectory() as scratch:
        print_table(Path(own.get("out", scratch)), int(own.get("seeds", 3)), others)


if __name__ == "__main__":
    main(sys.argv[1:])
