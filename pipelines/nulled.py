"""Bits that the source gives about each word of the references: python pipelines/nulled.py RUN [RUN ...]

The runs have read a share of their training items without source (trainer.null_source), so that the same weights say
how likely each word is with its source and without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

import numpy as np
from pydantic import NonNegativeInt

from hourglass.analysis.nulled import NulledReading, NulledSentence, read_nulled
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import build
from hourglass.corpora.sampling import evenly_spaced
from hourglass.errors import UserError
from hourglass.metrics.likelihood import mean_quantity
from hourglass.metrics.nulled import ASSUMPTION, check_nulled
from hourglass.metrics.scoring import FEW, inside_bounds, length_buckets, show_bounds
from hourglass.metrics.significance import draw_resamples
from hourglass.reports.phrases import show_range
from hourglass.system.files import write_whole
from hourglass.training.finished import FinishedRun

COLUMNS = ("id", "position", "word", "bits")
# Stands for end-of-sentence in the column `word`; a word has no spaces.
END = "(end of sentence)"


@dataclass(frozen=True)
class NulledSettings:
    """conf/nulled.yaml.

    Attributes:
        run: run folders.
        sentences: number of test sentences to print.
        out: folder for the bits of all words.
    """

    run: RunPaths
    sentences: NonNegativeInt
    out: str | None


def main(values: Mapping[str, Any]) -> None:
    """Print the bits of each run, in all, by source length, and of the words of some sentences."""
    settings = build(NulledSettings, values, "")
    runs = [FinishedRun.open(path) for path in settings.run]
    for run in runs:  # Check all of them before the first model is read.
        check_nulled(str(run.path), run.config)
    names = [run.path.resolve().name for run in runs]
    if settings.out is not None and len(set(names)) < len(names):
        raise UserError(f"out={settings.out}: two runs have the folder name of their files: name one run at a time")
    for run, name in zip(runs, names, strict=True):
        reading = read_nulled(run)
        print(show_reading(run, reading, settings.sentences))
        if settings.out is not None:
            file = Path(settings.out).expanduser() / f"{name}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_words(file, reading)
            print(f"written: {file}")
        print(flush=True)
    print(f"*: fewer than {FEW} sentences. Intervals: 95 %, bootstrap over sentences. {ASSUMPTION}")


def show_reading(run: FinishedRun, reading: NulledReading, sentences: int) -> str:
    """Return a run's bits as lines of text, with the words of so many sentences."""
    rows = reading.sentences
    per_word = sum(row.bits.sum() for row in rows) / sum(len(row.words) for row in rows)
    ends = float(np.mean([row.end_bits for row in rows]))
    lines = [
        f"{run.path}: {show_mean(rows)} bits per sentence, {per_word:z.2f} per word, "
        f"{ends:z.2f} for end of sentence; trainer.null_source={reading.share:zg}; temperature "
        f"{reading.temperatures[0]:z.2f} with source, {reading.temperatures[1]:z.2f} without"
    ]
    lengths = np.maximum([row.source_words for row in rows], run.config["edges"][0])
    for bounds in length_buckets(run.config["edges"]):
        inside = [rows[row] for row in inside_bounds(lengths, bounds)]
        if inside:
            mark = "*" if len(inside) < FEW else ""
            lines.append(f"  {show_bounds(bounds):>7} words{mark:<1}  {show_mean(inside)}")
    lines += [f"  {show_words(rows[row])}" for row in (evenly_spaced(len(rows), sentences) if sentences else [])]
    return "\n".join(lines)


def show_mean(rows: list[NulledSentence]) -> str:
    """Return the mean bits of sentences, with its interval."""
    mean = mean_quantity([np.array([row.total for row in rows])], draw_resamples(len(rows))).estimate
    return f"{mean.mean:z.2f} {show_range(mean.interval)}"


def show_words(sentence: NulledSentence) -> str:
    """Return the words of a reference, each followed by its bits."""
    words = " ".join(f"{word} ({bits:z.1f})" for word, bits in zip(sentence.words, sentence.bits, strict=True))
    return f"{sentence.id}: {words} {END[:-1]} {sentence.end_bits:z.1f})"


def write_words(file: Path, reading: NulledReading) -> None:
    """Write a line for each word of each reference, and for its end, as TSV."""
    lines = [COLUMNS]
    for row in reading.sentences:
        pairs = zip([*row.words, END], [*row.bits, row.end_bits], strict=True)
        lines += [(row.id, str(at), word, f"{bits:z.4f}") for at, (word, bits) in enumerate(pairs, 1)]
    write_whole(file, "".join("\t".join(line) + "\n" for line in lines))


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("nulled", "run..."))
