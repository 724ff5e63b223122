"""Figures of one run: alignments during training, learning curves, BLEU and output length by sentence length."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hourglass.corpora.languages import count_words
from hourglass.reports.plots import Line, draw_lines, draw_matrices, draw_points, to_svg
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json, write_whole
from hourglass.training.alignments import alignment_files

# Number of validations whose alignments are drawn; the first and the last are among them.
DRAWN = 4


def draw_run(run: RunFolder) -> list[Path]:
    """Draw the figures that a run has data for into RUN/pictures, and return the files."""
    figures: dict[str, Any] = {}
    points = read_curves(run.curves) if run.curves.exists() else []
    for name, label in (("loss", "dev loss, nats per token"), ("bleu", "dev BLEU")):
        curve = [(step, value) for step, point, value in points if point == f"dev/{name}"]
        if curve:
            line = Line([float(step) for step, _ in curve], [value for _, value in curve])
            figures[f"dev-{name}"] = draw_lines({"dev": line}, x_label="step", y_label=label)
    metrics = read_json(run.metrics) if run.metrics.exists() else {}
    if test := metrics.get("test"):
        buckets = [bucket for bucket in test["buckets"] if bucket["sentences"]]
        x = [float(bucket["source_words"][0]) for bucket in buckets]
        lines = {"BLEU": Line(x, [b["bleu"] for b in buckets]), "copied": Line(x, [b["copy_bleu"] for b in buckets])}
        figures["bleu-by-length"] = draw_lines(lines, x_label="source words, from", y_label="BLEU")
        rows = read_translations(run.translations)
        language = metrics["corpus"]["target"]
        sides = [[count_words(getattr(row, side), language) for row in rows] for side in ("reference", "hypothesis")]
        figures["lengths"] = draw_points(*sides, x_label="words of the reference", y_label="words of the output")
    if steps := alignment_files(run):
        at = sorted({round(place) for place in np.linspace(0, len(steps) - 1, num=min(DRAWN, len(steps)))})
        chosen = [steps[place] for place in at]
        figures["alignments"] = draw_matrices([(f"step {step:,}", _read(file)) for step, file in chosen])
    files = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's font lacks some scripts; browsers have them.
        for name, figure in figures.items():
            files.append(run.path / "pictures" / f"{name}.svg")
            write_whole(files[-1], to_svg(figure, name))
    return files


def _read(file: Path) -> Sequence[Mapping[str, Any]]:
    alignments: Sequence[Mapping[str, Any]] = read_json(file)
    return alignments
