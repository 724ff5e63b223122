"""Bits of models trained with nulled sources, where the truth is known: python tests/metrics/nulled_calibration.py

For numbers in words and for copies of random symbols, the table of docs/readings.md: the information in a reference;
what the reading (metrics/nulled.py) makes of it, by the share of nulled items, with its standard error over test
sentences; and the two excess losses in it, the bits by which the model's code lengths exceed those of the best code,
without the source (the information itself) and with it (0). The row `blind` reads the same model without nulled items
against a blind decoder that was trained apart.

The models are small. Runs are kept in the folder of out=FOLDER, and those that are there are not trained again; without
it, a folder of the system's is used and removed. All rows take about half an hour on a shared core.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hourglass.analysis.likelihoods import encode_split
from hourglass.corpora.synthetic import Numbers
from hourglass.metrics.likelihood import reference_nats, sentence_bits
from hourglass.metrics.nulled import without_sources
from hourglass.training.finished import FinishedRun

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
SMALL = (
    *("decoder.embedding_size=32", "decoder.readout_size=32", "decoder.hidden_size=64", "decoder.dropout=0"),
    *("trainer.batch_tokens=500", "trainer.validations=4", "trainer.select=loss", "trainer.test=false"),
    *("trainer.pictures=0", "trainer.threads=1", "optimizer.label_smoothing=0", "optimizer.learning_rate=0.01"),
    *("data.dev_pairs=300", "data.test_pairs=600", "logger=csv", "search=greedy"),
)
SIGHTED = ("encoder.embedding_size=32", "encoder.hidden_size=64", "encoder.summary_size=64", "encoder.dropout=0")
BLIND = ("encoder=blind", "attention=none", "encoder.embedding_size=32", "encoder.summary_size=64")
CORPORA = {
    "numbers": ("data=numbers", "data.shortest=4", "data.longest=9", "data.vocabulary_size=100"),
    "copy": (
        *("data=copy", "data.calibrated=true", "data.symbols=32", "data.vocabulary_size=36", "data.shortest=6"),
        *("data.longest=8", "data.train_pairs=60000"),
    ),
}
TOKENS = {"numbers": 600_000, "copy": 400_000}
# Attention and share of nulled items; None: the sighted and the blind model apart.
ROWS: tuple[tuple[str, float | None], ...] = (
    ("luong_general", None),
    ("luong_general", 0.03),
    ("luong_general", 0.1),
    ("luong_general", 0.3),
    ("luong_general", 0.5),
    ("none", None),
    ("none", 0.1),
)


class CodeLengths(NamedTuple):
    """Bits of each test sentence, [N] each."""

    exact: np.ndarray  # information in the reference
    with_source: np.ndarray  # that the model needs
    without: np.ndarray  # that it, or the blind decoder, needs without the source
    seconds: float  # of training


def train_model(folder: Path, corpus: str, name: str, *overrides: str) -> FinishedRun:
    """Return the run of this name with these settings, which is trained if it is not there."""
    path = folder / f"{corpus}-{name}"
    if not (path / "metrics.json").exists():
        words = [*SMALL, *CORPORA[corpus], *overrides, f"trainer.target_tokens={TOKENS[corpus]}"]
        words += [f"run_dir={path}", f"cache={folder / 'cache'}", "if_exists=continue_or_replace"]
        done = subprocess.run([sys.executable, TRAIN, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
    return FinishedRun.open(path)


def exact_bits(run: FinishedRun) -> np.ndarray:
    """Return the information in each reference of test, its length included, [N]."""
    data, split = run.config["data"], run.prepared.corpus.splits["test"]
    if data["name"] == "numbers":
        digits = [int(name.split("-")[1].removeprefix("k")) for name in split["id"]]
        return np.array([Numbers.item_bits(count, data["shortest"], data["longest"]) for count in digits])
    lengths = np.array([len(text.split()) for text in split["target"]])
    return lengths * np.log2(data["symbols"]) + np.log2(data["longest"] - data["shortest"] + 1)


def code_lengths(run: FinishedRun, *, sourced: bool) -> np.ndarray:
    """Return the bits that a run needs for each reference of test, [N], with the source or without it."""
    pairs = encode_split(run.trained, run.prepared, "test")
    return sentence_bits(reference_nats(run.trained.model, pairs if sourced else without_sources(pairs)))


def read_row(folder: Path, corpus: str, attention: str, share: float | None) -> CodeLengths:
    """Return the code lengths of a row, after the trainings that it needs."""
    words = (f"attention={attention}", *SIGHTED, f"trainer.null_source={share or 0}")
    run = train_model(folder, corpus, f"{attention}-{share or 0}", *words)
    other = run if share else train_model(folder, corpus, "blind", *BLIND)
    seconds = sum(each.metrics.train_seconds for each in {run, other})
    return CodeLengths(exact_bits(run), code_lengths(run, sourced=True), code_lengths(other, sourced=False), seconds)


def print_table(folder: Path) -> None:
    """Print the table, a row as soon as it is known."""
    began = time.monotonic()
    heads = ("corpus", "attention", "null_source", "information", "reading", "reading less information")
    print("| " + " | ".join([*heads, "standard error", "excess without source", "with source", "minutes"]) + " |")
    print("| --- | --- | --- |" + " --: |" * 7)
    for corpus in CORPORA:
        for attention, share in ROWS:
            row = read_row(folder, corpus, attention, share)
            error = row.without - row.with_source - row.exact
            values = [row.exact.mean(), (row.without - row.with_source).mean(), error.mean()]
            values += [error.std(ddof=1) / len(error) ** 0.5, (row.without - row.exact).mean(), row.with_source.mean()]
            cells = [corpus, attention, f"{share:g}" if share else "blind", *(f"{value:.2f}" for value in values)]
            print(f"| {' | '.join(cells)} | {row.seconds / 60:.1f} |", flush=True)
    print(f"\n{(time.monotonic() - began) / 60:.0f} minutes in all")


def main(words: Sequence[str]) -> None:
    """Print the table; out=FOLDER keeps the runs."""
    if words:
        print_table(Path(words[0].removeprefix("out=")))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print_table(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
