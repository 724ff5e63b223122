"""The contrastive bound where the information is known: python tests/metrics/contrastive_calibration.py [out=FOLDER]

For copies of random symbols and for numbers in words, the table of docs/readings.md: the information between memory and
reference; the reading (metrics/contrastive.py) with its standard error over test sentences, its cap, and its share of
the lower of information and cap; and the minutes that the reading took. The information is known as follows.

blind          The decoder sees no source: 0.
luong_general  The states tell the source, and each target has a single source: the entropy of the source. A row with M
               sources reads 1,500 draws, with replacement, of M sources of test: log2 M. Most of them are drawn more
               than once. The row without M reads test as it is, whose information is above the cap.
fixed          The summary is rounded to a few bits, and a function of the source, which each target tells: the entropy
               of the summary, from its frequencies over the sources of train. The decoder is trained for a few minutes
               and does not use all of it.

The word narrow prints two rows instead, for the vector of a few bits on copies, after more training: of a decoder that
was trained together with its encoder (4 million target tokens), and of a fresh one on that encoder, which does not move
(1.5 million more).

The models are small. Runs are kept in the folder of out=FOLDER, and those that are there are not trained again; without
it, a folder of the system's is used and removed. tokens=N sets the target tokens of each training, sentences=N how many
sentences are read.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hourglass.corpora.synthetic import Numbers
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import EOS
from hourglass.metrics.contrastive import SENTENCES, ContrastiveReading, read_contrast
from hourglass.metrics.likelihood import Pairs
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.commands import path_override
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training

TOKENS = 600_000
DRAWS = 1500
SMALL = (
    *("decoder.embedding_size=32", "decoder.readout_size=32", "decoder.hidden_size=64", "decoder.dropout=0"),
    *("encoder.embedding_size=32", "trainer.batch_tokens=500", "trainer.validations=4", "trainer.select=loss"),
    *("trainer.test=false", "trainer.pictures=0", "trainer.threads=1", "optimizer.label_smoothing=0"),
    *("optimizer.learning_rate=0.01", "data.dev_pairs=300", "data.test_pairs=1500", "logger=csv", "search=greedy"),
)
RNN = ("encoder.hidden_size=64", "encoder.dropout=0")
VARIANTS = {
    "blind": ("encoder=blind", "attention=none", "encoder.summary_size=64"),
    "luong_general": ("attention=luong_general", *RNN, "encoder.summary_size=64"),
    "fixed": ("attention=fixed", *RNN, "encoder.summary_size=2", "encoder.summary_bits=2"),
}
CORPORA = {
    "copy": (
        *("data=copy", "data.calibrated=true", "data.symbols=16", "data.vocabulary_size=20", "data.shortest=8"),
        *("data.longest=8", "data.train_pairs=70000"),
    ),
    "numbers": ("data=numbers", "data.vocabulary_size=100"),
}
# Different sources that are drawn; None: test as it is.
SOURCES: dict[str, tuple[int | None, ...]] = {
    "blind": (None,),
    "luong_general": (16, 64, 256, None),
    "fixed": (None,),
}


# Of the word narrow: more training, at a lower rate; the decoder beside its encoder, and then alone.
NARROW = ("data.train_pairs=470000", "optimizer.learning_rate=0.003")
JOINT, FRESH = 4_000_000, 1_500_000


class CalibrationRow(NamedTuple):
    """A reading and what it should be."""

    truth: float  # bits
    reading: ContrastiveReading
    seconds: float  # of the reading


def train_model(folder: Path, corpus: str, variant: str, tokens: int, name: str = "", *more: str) -> FinishedRun:
    """Return the run of a variant, which is trained if it is not there; its log is beside its folder.

    Args:
        folder: of the runs.
        corpus: key of `CORPORA`.
        variant: key of `VARIANTS`.
        tokens: target tokens.
        name: of the variant, in the name of the run's folder; empty: its key.
        more: further overrides.
    """
    variant_name = name or variant
    path = folder / f"{corpus}-{variant_name}"
    if not (path / "metrics.json").exists():
        words = [*CORPORA[corpus], *VARIANTS[variant], *SMALL, *more, f"trainer.target_tokens={tokens}"]
        places = [path_override("run_dir", path), path_override("cache", folder / "cache")]
        with open(folder / f"{corpus}-{variant_name}.log", "w") as log:
            run_training([*words, *places, "if_exists=continue_or_replace"], log)
    return FinishedRun.open(path)


def encode(run: FinishedRun, split: str) -> Pairs:
    """Return a split as ids."""
    rows = run.corpus.splits[split]
    return Pairs.encode(run.trained.vocabularies, list(rows["source"]), list(rows["target"]))


def source_entropy(run: FinishedRun) -> float:
    """Return the entropy of a source of the corpus, in bits."""
    data = run.config["data"]
    sizes = range(data["shortest"], data["longest"] + 1)
    if data["name"] == "numbers":  # As many numbers of each size.
        return float(np.mean([Numbers.item_bits(size, data["shortest"], data["longest"]) for size in sizes]))
    return float(np.mean([size * np.log2(data["symbols"]) for size in sizes]) + np.log2(len(sizes)))


@torch.inference_mode()
def summary_entropy(model: Seq2Seq, sources: Sequence[Sequence[int]]) -> float:
    """Return the entropy of the rounded summaries of sources, in bits, from their frequencies."""
    model.eval()
    lengths = np.array([len(ids) + 1 for ids in sources])
    summaries = []
    for batch in in_order(lengths, lengths, 20_000):
        ids = pad([sources[i] for i in batch], last=[EOS])
        summaries.append(model.encode(ids, torch.from_numpy(lengths[batch])).summary)
    levels = (torch.cat(summaries) * 1000).round()  # Equal levels may differ in the last digits.
    shares = torch.unique(levels, dim=0, return_counts=True)[1] / len(levels)
    return max(0.0, float(-(shares * shares.log2()).sum()))


def draw_again(pairs: Pairs, sources: int) -> Pairs:
    """Return draws, with replacement, of so many pairs."""
    draws = np.random.default_rng(1)
    chosen = draws.permutation(len(pairs.sources))[:sources]
    rows = chosen[draws.integers(sources, size=DRAWS)].tolist()
    return Pairs(*([side[row] for row in rows] for side in (pairs.sources, pairs.targets)))


def read_row(run: FinishedRun, variant: str, sources: int | None, sentences: int) -> CalibrationRow:
    """Return the reading of a run, by all test sources or draws of so many of them."""
    model, pairs = run.trained.model, encode(run, "test")
    if variant == "blind":
        truth = 0.0
    elif variant == "fixed":
        truth = summary_entropy(model, encode(run, "train").sources)
    else:
        truth = source_entropy(run) if sources is None else float(np.log2(sources))
    began = time.monotonic()
    reading = read_contrast(model, pairs if sources is None else draw_again(pairs, sources), sentences=sentences)
    return CalibrationRow(truth, reading, time.monotonic() - began)


def print_table(folder: Path, tokens: int, sentences: int) -> None:
    """Print the table, a row as soon as it is known."""
    heads = ("corpus", "variant", "different sources", "information", "reading", "standard error", "cap")
    print("| " + " | ".join([*heads, "reading / lower of information and cap, %", "minutes"]) + " |")
    print("| --- | --- |" + " --: |" * 7, flush=True)
    for corpus in CORPORA:
        for variant, choices in SOURCES.items():
            run = train_model(folder, corpus, variant, tokens)
            for sources in choices:
                row = read_row(run, variant, sources, sentences)
                most = min(row.truth, row.reading.cap)
                bits = [row.truth, row.reading.mean, row.reading.error, row.reading.cap]
                share = f"{100 * row.reading.mean / most:.1f}" if most else ""
                cells = [corpus, variant, str(sources or "all"), *(f"{value:.2f}" for value in bits), share]
                print(f"| {' | '.join(cells)} | {row.seconds / 60:.1f} |", flush=True)


def print_narrow(folder: Path, sentences: int) -> None:
    """Print the rows of a narrow vector after more training."""
    joint = train_model(folder, "copy", "fixed", JOINT, "narrow", *NARROW, "trainer.validations=8")
    frozen = path_override("frozen_encoder", joint.path)
    fresh = train_model(folder, "copy", "fixed", FRESH, "narrow-frozen", *NARROW, frozen)
    for run in (joint, fresh):
        row = read_row(run, "fixed", None, sentences)
        share = 100 * row.reading.mean / row.truth
        print(
            f"{run.path.name}: {row.reading.mean:.2f} of {row.truth:.2f} bits, {share:.1f} %, standard error "
            f"{row.reading.error:.2f}; {run.metrics.train_seconds / 60:.1f} minutes of training",
            flush=True,
        )


def main(words: Sequence[str]) -> None:
    """Print the table; out=FOLDER keeps the runs, tokens=N sets their budget, sentences=N is how many are read."""
    narrow, words = "narrow" in words, [word for word in words if word != "narrow"]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if unknown := [
        word for word in words if word.split("=", 1)[0] not in ("out", "tokens", "sentences") or "=" not in word
    ]:
        raise SystemExit(f"error: {unknown[0]}: no such option; choose from out=FOLDER, tokens=N, sentences=N, narrow")
    with tempfile.TemporaryDirectory() as own:
        folder = Path(given.get("out", own)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if narrow:
            print_narrow(folder, int(given.get("sentences", SENTENCES)))
            return
        print_table(folder, int(given.get("tokens", TOKENS)), int(given.get("sentences", SENTENCES)))


if __name__ == "__main__":
    main(sys.argv[1:])
