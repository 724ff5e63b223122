"""Frozen encoders and probes where the truth is known: python tests/metrics/frozen_calibration.py [out=FOLDER]

For copies of random symbols and for numbers in words, the two tables of docs/readings.md.

Frozen encoders: the bits about the reference that reach the encoder's own decoder, a fresh one on the same vector, and
one of attention=fixed that was trained together with an encoder of the same size. The information in a reference is
known, so the bits are that less what a decoder needs. A rounded vector holds at most D * b bits, whoever reads it.
Where the encoder is that of attention=fixed, the own decoder is the jointly trained one, and the fresh one shows how
much of what is in a vector a fresh decoder finds.

Probes: the bits that the vectors save about the length of the source and about its first, third and sixth symbol or
digit. These are drawn independently, so their sum has the same ceiling, D * b, and another, the information in these
four. Beside it the same of random weights.

The models are small. Runs are kept in the folder of out=FOLDER, and those that are there are not trained again; without
it, a folder of the system's is used and removed. All rows take about half an hour on a shared core.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hourglass.analysis.frozen import FrozenReading, read_frozen, train_fresh
from hourglass.analysis.probes import ProbeResult, read_probes
from hourglass.corpora.synthetic import Numbers
from hourglass.system.commands import path_override
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training

SENTENCES, RESAMPLES = 2000, 1000
# Positions that are asked for.
PLACES = (1, 3, 6)
SMALL = (
    *("decoder.embedding_size=32", "decoder.readout_size=32", "decoder.hidden_size=64", "decoder.dropout=0"),
    *("encoder.embedding_size=32", "encoder.hidden_size=64", "encoder.dropout=0", "trainer.batch_tokens=500"),
    *("trainer.validations=4", "trainer.select=loss", "trainer.test=false", "trainer.pictures=0", "trainer.threads=1"),
    *("optimizer.label_smoothing=0", "optimizer.learning_rate=0.01", "data.dev_pairs=300", "data.test_pairs=600"),
    *("logger=csv", "search=greedy"),
)
CORPORA = {
    "copy": (
        *("data=copy", "data.calibrated=true", "data.symbols=32", "data.vocabulary_size=36", "data.shortest=6"),
        *("data.longest=8", "data.train_pairs=90000"),
    ),
    "numbers": ("data=numbers", "data.shortest=4", "data.longest=9", "data.vocabulary_size=100"),
}
TOKENS = {"copy": 600_000, "numbers": 600_000}


class Vector(NamedTuple):
    """The summary of an encoder."""

    width: int
    bits: int  # of each component; 0: not rounded

    @property
    def words(self) -> list[str]:
        """As overrides."""
        return [f"encoder.summary_size={self.width}", f"encoder.summary_bits={self.bits}"]


ROWS = (
    ("copy", Vector(64, 0)),
    ("copy", Vector(2, 2)),
    ("numbers", Vector(64, 0)),
)


def train_model(folder: Path, corpus: str, attention: str, vector: Vector) -> FinishedRun:
    """Return the run of a variant, which is trained if it is not there; its log is beside its folder."""
    path = folder / f"{corpus}-{attention}-{vector.width}-{vector.bits}"
    if not (path / "metrics.json").exists():
        words = [*CORPORA[corpus], *SMALL, *vector.words, f"attention={attention}"]
        words += [f"trainer.target_tokens={TOKENS[corpus]}", path_override("run_dir", path)]
        with open(folder / f"{path.name}.log", "w") as log:
            run_training([*words, path_override("cache", folder / "cache"), "if_exists=continue_or_replace"], log)
    return FinishedRun.open(path)


def information(run: FinishedRun) -> float:
    """Return the mean information in a reference of test, its length included, in bits."""
    data, split = run.config["data"], run.prepared.corpus.splits["test"]
    if data["name"] == "numbers":
        digits = [int(name.split("-")[1].removeprefix("k")) for name in split["id"]]
        return float(np.mean([Numbers.item_bits(count, data["shortest"], data["longest"]) for count in digits]))
    lengths = np.array([len(text.split()) for text in split["target"]])
    return float(lengths.mean() * np.log2(data["symbols"]) + np.log2(data["longest"] - data["shortest"] + 1))


def print_readings(folder: Path) -> list[FinishedRun]:
    """Print the table of frozen encoders, a row as soon as it is known; return the runs with the encoders."""
    heads = ("corpus", "encoder of", "D", "b", "information", "D * b", "own decoder", "fresh", "jointly trained")
    print("| " + " | ".join([*heads, "unused", "lost by the encoder", "minutes"]) + " |")
    print("| --- | --- |" + " --: |" * 10, flush=True)
    runs = []
    for corpus, vector in ROWS:
        joint = train_model(folder, corpus, "fixed", vector)
        for attention in ("none", "fixed"):
            run = train_model(folder, corpus, attention, vector)
            with open(folder / f"{run.path.name}-frozen.log", "w") as log:
                fresh = train_fresh(run, log)
            reading: FrozenReading = read_frozen(run, fresh, joint, RESAMPLES)
            assert reading.joint_bits is not None
            assert reading.lacking is not None
            whole = information(run)
            cells = [corpus, attention, str(vector.width), str(vector.bits or "-"), f"{whole:.2f}"]
            cells.append(f"{vector.width * vector.bits}" if vector.bits else "-")
            needed = reading.own_bits, reading.fresh_bits, reading.joint_bits
            cells += [f"{whole - each.mean:.2f}" for each in needed]
            cells += [f"{each.value:.2f}" for each in (reading.unused, reading.lacking)]
            seconds = sum(each.metrics.train_seconds for each in {run.path: run, joint.path: joint, "": fresh}.values())
            print(f"| {' | '.join(cells)} | {seconds / 60:.1f} |", flush=True)
            runs.append(run)
    return runs


def known_bits(run: FinishedRun) -> float:
    """Return the mean information in the length of a source and in what stands at `PLACES`, where there is such."""
    data = run.config["data"]
    lengths = range(data["shortest"], data["longest"] + 1)
    reached = [sum(length >= place for length in lengths) / len(lengths) for place in PLACES]
    symbols = [10.0 if data["name"] == "numbers" and place > 1 else 9.0 for place in PLACES]
    if data["name"] != "numbers":
        symbols = [float(data["symbols"])] * len(PLACES)
    return float(np.log2(len(lengths)) + np.dot(reached, np.log2(symbols)))


def saved_in_all(result: ProbeResult, sentences: int, random: bool) -> float:
    """Return the bits that vectors save about length and places, each for the share of sentences that has it."""
    independent = [code for code in result.codes if not code.question.startswith("which")]
    saved = [code.shuffled - (code.random if random else code.trained) for code in independent]
    return sum(bits * code.sentences / sentences for bits, code in zip(saved, independent, strict=True))


def print_probes(runs: Sequence[FinishedRun]) -> None:
    """Print the table of probes, a row as soon as it is known."""
    heads = ("corpus", "encoder of", "D", "b", "information", "D * b", "saved: length", "first", "third", "sixth")
    print("\n| " + " | ".join([*heads, "in all", "random weights, in all", "minutes"]) + " |")
    print("| --- | --- |" + " --: |" * 11, flush=True)
    for run in runs:
        data, encoder = run.config["data"], run.config["encoder"]
        began = time.monotonic()
        result = read_probes(run, SENTENCES, PLACES)
        seconds = time.monotonic() - began
        by_question = {code.question.removeprefix("word ").removeprefix("digit "): code for code in result.codes}
        shown = [next(code for name, code in by_question.items() if name.startswith("number"))]
        shown += [by_question[str(place)] for place in PLACES]
        rounded = encoder["summary_bits"]
        cells = [data["name"], run.config["attention"]["name"], str(encoder["summary_size"]), str(rounded or "-")]
        cells.append(f"{known_bits(run):.2f}")
        cells.append(f"{encoder['summary_size'] * rounded}" if rounded else "-")
        cells += [f"{code.saved:.2f}" for code in shown]
        cells += [f"{saved_in_all(result, SENTENCES, random):.2f}" for random in (False, True)]
        print(f"| {' | '.join(cells)} | {seconds / 60:.1f} |", flush=True)


def main(words: Sequence[str]) -> None:
    """Print the tables; out=FOLDER keeps the runs."""
    if words and not words[0].startswith("out="):
        raise SystemExit(f"error: {words[0]}: no such option; choose from out=FOLDER")
    with tempfile.TemporaryDirectory() as own:
        folder = Path(words[0].removeprefix("out=") if words else own).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        print_probes(print_readings(folder))
        print(f"\n{(time.monotonic() - began) / 60:.0f} minutes in all")


if __name__ == "__main__":
    main(sys.argv[1:])
