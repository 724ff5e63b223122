"""Record attention weights at each validation, for a few dev pairs, in RUN/alignments."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from hourglass.data.encoded import EncodedSplit
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.word_alignment import read_weights, weight_decimals
from hourglass.runs.folder import RunFolder
from hourglass.system.files import write_whole
from hourglass.system.secrets import first_line

log = logging.getLogger(__name__)

# Pieces of a side of a recorded pair, with end-of-sentence: as many as a picture can label. Weights, and the time that
# pictures of them take, grow with the square.
LONGEST_RECORDED = 60


class Alignments(pl.Callback):
    """Write the attention weights of the first short dev pairs, under teacher forcing, to alignments/STEP.json.

    Args:
        run: the folder of the run.
        dev: the encoded dev split.
        vocabularies: of the run.
        count: number of dev pairs, the first of at most `LONGEST_RECORDED` pieces on each side.
        first_step: step that the training starts from; files of later steps are removed, as those steps run again.
    """

    def __init__(self, run: RunFolder, dev: EncodedSplit, vocabularies: Vocabularies, count: int, first_step: int):
        self.run, self.vocabularies = run, vocabularies
        short = np.maximum(dev.source_lengths, dev.target_lengths) <= LONGEST_RECORDED
        rows = np.flatnonzero(short)[:count]
        self.left_out = int((~short[: rows[-1]]).sum()) if len(rows) else len(dev)
        self.disabled = not len(rows)  # No pair is short enough, or an attempt has failed.
        sides = dev.source_ids, dev.target_ids
        self.sources, self.targets = ([ids.tolist() for ids in side.rows(rows)] for side in sides)
        for step, file in alignment_files(run):
            if step > first_step:
                file.unlink()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log, in the first process, if the pairs are not the first of all."""
        model: Any = pl_module.model
        if self.left_out and trainer.is_global_zero and model.decoder.attention.has_weights:
            log.info(
                "alignments: recorded for %d dev pairs of at most %d pieces a side; left out: %s longer pairs",
                len(self.sources),
                LONGEST_RECORDED,
                f"{self.left_out:,}",
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights, in the first process; an error ends the recording, not the training."""
        model: Any = pl_module.model
        if self.disabled or not trainer.is_global_zero or not model.decoder.attention.has_weights:
            return
        try:
            self._record(model, trainer.global_step)
        except Exception as error:
            self.disabled = True
            log.warning(
                "alignments: not recorded from step %s on (%s: %s); the training continues",
                f"{trainer.global_step:,}",
                type(error).__name__,
                first_line(error),
            )

    def _record(self, model: Any, step: int) -> None:
        was_training = model.training
        model.eval()
        try:
            weights = read_weights([model], self.sources, self.targets)
        finally:
            model.train(was_training)
        sides = ((self.vocabularies.source, self.sources), (self.vocabularies.target, self.targets))
        source, target = ([vocabulary.pieces(ids) for ids in side] for vocabulary, side in sides)
        content = [
            {"source": [*s, "(end)"], "target": [*t, "(end)"], "weights": w.round(weight_decimals(w.shape[1])).tolist()}
            for s, t, w in zip(source, target, weights, strict=True)
        ]
        file = self.run.path / "alignments" / f"{step:09}.json"
        write_whole(file, json.dumps(content, ensure_ascii=False))


def alignment_files(run: RunFolder) -> list[tuple[int, Path]]:
    """Return the step and the file of each validation with recorded weights, in order."""
    return sorted((int(file.stem), file) for file in (run.path / "alignments").glob("*.json"))
