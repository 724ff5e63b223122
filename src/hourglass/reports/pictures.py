"""Figures of one run: alignments during training, learning curves, scores and output length by sentence length."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hourglass.corpora.languages import count_words
from hourglass.metrics.metric import facts_of
from hourglass.metrics.metrics import heading_of
from hourglass.metrics.scoring import main_of
from hourglass.reports.plots import Line, draw_lines, draw_matrices, draw_over_pictures, draw_points, to_svg
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json, write_whole
from hourglass.training.alignments import LONGEST_RECORDED, alignment_files
from hourglass.training.finished import DevScores

# Number of validations whose alignments are drawn; the first and the last are among them.
DRAWN = 4


def draw_picture(run: RunFolder, name: str) -> Path | None:
    """Draw a picture of a run into RUN/pictures, and return the file; None if the run has no data for it.

    Args:
        run: the folder.
        name: a key of `PICTURES`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's font lacks some scripts; browsers have them.
        figure = PICTURES[name](run)
        if figure is None:
            return None
        file = run.path / "pictures" / f"{name}.svg"
        write_whole(file, to_svg(figure, name))
    return file


def _draw_loss(run: RunFolder) -> Figure | None:
    return _draw_curve(run, "loss", "dev loss, nats per token")


def _draw_dev_score(run: RunFolder) -> Figure | None:
    dev = _metrics(run).get("dev")
    if not dev:
        return None
    metric = DevScores.of(dev).metric
    return _draw_curve(run, metric, f"dev {heading_of(metric)}")


def _draw_curve(run: RunFolder, score: str, label: str) -> Figure | None:
    points = read_curves(run.curves) if run.curves.exists() else []
    curve = [(step, value) for step, point, value in points if point == f"dev/{score}"]
    line = Line([float(step) for step, _ in curve], [value for _, value in curve])
    return draw_lines({"dev": line}, x_label="step", y_label=label) if curve else None


def _draw_scores(run: RunFolder) -> Figure | None:
    test = _metrics(run).get("test")
    if not test:
        return None
    buckets = [bucket for bucket in test["buckets"] if bucket["sentences"]]
    x = [float(bucket["source_words"][0]) for bucket in buckets]
    main, (facts, *_) = main_of(test), facts_of(test).values()
    lines = {facts.heading: Line(x, [_or_nan(b[main]) for b in buckets])}
    if f"copy_{main}" in test:
        lines["copied"] = Line(x, [_or_nan(b[f"copy_{main}"]) for b in buckets])
    return draw_lines(lines, x_label="source words, from", y_label=facts.heading)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _draw_lengths(run: RunFolder) -> Figure | None:
    metrics = _metrics(run)
    if not metrics.get("test"):
        return None
    rows, language = read_translations(run.translations), metrics["corpus"]["target"]
    sides = [[count_words(getattr(row, side), language) for row in rows] for side in ("reference", "hypothesis")]
    return draw_points(*sides, x_label="words of the reference", y_label="words of the output")


def _draw_alignments(run: RunFolder) -> Figure | None:
    steps = alignment_files(run)
    if not steps:
        return None
    at = sorted({round(place) for place in np.linspace(0, len(steps) - 1, num=min(DRAWN, len(steps)))})
    columns = [(f"step {steps[place][0]:,}", _read_short(steps[place][1])) for place in at]
    pairs = [pair["source"] for pair in columns[-1][1]]
    # After a change of the code in between, a run that was resumed has other pairs in its first files.
    columns = [column for column in columns if [pair["source"] for pair in column[1]] == pairs]
    return draw_matrices(columns) if pairs else None


def _draw_attention_over_pictures(run: RunFolder) -> Figure | None:
    """Draw the weights of the last validation, where sources are pictures."""
    steps = alignment_files(run)
    pairs = [pair for pair in _read_short(steps[-1][1]) if "pixels" in pair] if steps else []
    return draw_over_pictures(pairs) if pairs else None


def _metrics(run: RunFolder) -> dict[str, Any]:
    metrics: dict[str, Any] = read_json(run.metrics) if run.metrics.exists() else {}
    return metrics


def _read_short(file: Path) -> list[Mapping[str, Any]]:
    """Return the recorded pairs; files of earlier versions may hold pairs of any length."""
    alignments: list[Mapping[str, Any]] = read_json(file)
    return [pair for pair in alignments if max(len(pair["source"]), len(pair["target"])) <= LONGEST_RECORDED]


# By the names of their files.
PICTURES: Mapping[str, Callable[[RunFolder], Figure | None]] = {
    "dev-loss": _draw_loss,
    "dev-score": _draw_dev_score,
    "score-by-length": _draw_scores,
    "lengths": _draw_lengths,
    "alignments": _draw_alignments,
    "attention-over-pictures": _draw_attention_over_pictures,
}
