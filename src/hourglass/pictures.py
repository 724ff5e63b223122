"""Pictures of a run: alignment as it is learnt, learning curves, BLEU by length, length of output against reference.

The data of all but the first is in the run folder anyway; weights are noted at each validation, in RUN/alignments.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from hourglass.data import EncodedSplit
from hourglass.runs import RunFolder, read_curves, read_json, read_translations, write_whole
from hourglass.tokenizer import Vocabularies
from hourglass.word_alignment import read_weights

# Validations that are drawn of all that there were, the first and the last among them.
DRAWN = 4


class Alignments(pl.Callback):
    """Notes, at each validation, the weights with which the model reads some dev references.

    Args:
        run: whose folder gets alignments/STEP.json.
        dev: encoded; of it the first so many sentences.
        vocabularies: of the run.
        count: how many.
        first_step: of this start: what is noted of later steps was of a training that is made anew.
    """

    def __init__(self, run: RunFolder, dev: EncodedSplit, vocabularies: Vocabularies, count: int, first_step: int):
        self.run, self.vocabularies = run, vocabularies
        rows = np.arange(min(count, len(dev)))
        sides = dev.source_ids, dev.target_ids
        self.sources, self.targets = ([ids.tolist() for ids in side.rows(rows)] for side in sides)
        for step, file in noted(run):
            if step > first_step:
                file.unlink()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write them; by one process."""
        model: Any = pl_module.model
        if not trainer.is_global_zero or not model.decoder.attention.has_weights:
            return
        was_training = model.training
        model.eval()
        weights = read_weights([model], self.sources, self.targets)
        model.train(was_training)
        sides = ((self.vocabularies.source, self.sources), (self.vocabularies.target, self.targets))
        source, target = ([vocabulary.pieces(ids) for ids in side] for vocabulary, side in sides)
        found = [
            {"source": [*s, "(end)"], "target": [*t, "(end)"], "weights": w.round(3).tolist()}
            for s, t, w in zip(source, target, weights, strict=True)
        ]
        file = self.run.path / "alignments" / f"{trainer.global_step:09}.json"
        write_whole(file, json.dumps(found, ensure_ascii=False))


def noted(run: RunFolder) -> list[tuple[int, Path]]:
    """Return the steps at which a run's weights were noted, and the files, in order."""
    return sorted((int(file.stem), file) for file in (run.path / "alignments").glob("*.json"))


def draw(run: RunFolder) -> list[Path]:
    """Draw what there is of a run into RUN/pictures, and return the files."""
    from hourglass.plots import Line, draw_lines, draw_matrices, draw_points, to_svg  # noqa: PLC0415 (a second)

    figures: dict[str, Any] = {}
    points = read_curves(run.curves) if run.curves.exists() else []
    for name, label in (("loss", "dev loss, nats a token"), ("bleu", "dev BLEU")):
        curve = [(step, value) for step, what, value in points if what == f"dev/{name}"]
        if curve:
            line = Line([float(step) for step, _ in curve], [value for _, value in curve])
            figures[f"dev-{name}"] = draw_lines({"dev": line}, x_label="step", y_label=label)
    test = read_json(run.metrics).get("test") if run.metrics.exists() else None
    if test:
        buckets = [bucket for bucket in test["buckets"] if bucket["sentences"]]
        x = [float(bucket["source_words"][0]) for bucket in buckets]
        lines = {"BLEU": Line(x, [b["bleu"] for b in buckets]), "copied": Line(x, [b["copy_bleu"] for b in buckets])}
        figures["bleu-by-length"] = draw_lines(lines, x_label="source words, from", y_label="BLEU")
        rows = read_translations(run.translations)
        sides = ([len(row.reference.split()) for row in rows], [len(row.hypothesis.split()) for row in rows])
        figures["lengths"] = draw_points(*sides, x_label="words of the reference", y_label="words of the output")
    if steps := noted(run):
        at = sorted({round(place) for place in np.linspace(0, len(steps) - 1, num=min(DRAWN, len(steps)))})
        chosen = [steps[place] for place in at]
        figures["alignments"] = draw_matrices([(f"step {step:,}", _read(file)) for step, file in chosen])
    files = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A script that matplotlib's font lacks: the browser's has it.
        for name, figure in figures.items():
            files.append(run.path / "pictures" / f"{name}.svg")
            write_whole(files[-1], to_svg(figure, name))
    return files


def _read(file: Path) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = read_json(file)
    return found
