"""Record attention weights at each validation, for a few dev pairs, in RUN/alignments."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from hourglass.corpora.shapes import join_patches
from hourglass.data.encoded import EncodedSplit
from hourglass.data.sources import Source, is_features
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
        patch: pixels of a side of the patches of a picture, where sources are such, which are written, too; None: they
            are something else.
    """

    def __init__(
        self,
        run: RunFolder,
        dev: EncodedSplit,
        vocabularies: Vocabularies,
        count: int,
        first_step: int,
        *,
        patch: int | None = None,
    ):
        self.run, self.vocabularies, self.patch = run, vocabularies, patch
        short = np.maximum(dev.source_lengths, dev.target_lengths) <= LONGEST_RECORDED
        rows = np.flatnonzero(short)[:count]
        self.left_out = int((~short[: rows[-1]]).sum()) if len(rows) else len(dev)
        self.disabled = not len(rows)  # No pair is short enough, or an attempt has failed.
        self.sources = list(dev.sources.rows(rows))
        self.targets = [ids.tolist() for ids in dev.target_ids.rows(rows)]
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
        content = [
            {
                "source": self._labels(source),
                "target": [*self.vocabularies.target.pieces(target), "(end)"],
                "weights": matrix.round(weight_decimals(matrix.shape[1])).tolist(),
                **self._pixels(source),
            }
            for source, target, matrix in zip(self.sources, self.targets, weights, strict=True)
        ]
        file = self.run.path / "alignments" / f"{step:09}.json"
        write_whole(file, json.dumps(content, ensure_ascii=False))

    def _labels(self, source: Source) -> list[str]:
        """Return the name of each position of a source: its pieces, or the numbers of its regions from 1."""
        if is_features(source):
            return [str(number) for number in range(1, len(source) + 1)]
        return [*self.vocabularies.source.pieces(list(map(int, source))), "(end)"]

    def _pixels(self, source: Source) -> dict[str, Any]:
        """Return the pixels [H, H, 3] of a picture from 0 to 1, if the source is one."""
        if self.patch is None:
            return {}
        return {"pixels": join_patches(np.asarray(source, np.float64), self.patch).round(2).tolist()}


def alignment_files(run: RunFolder) -> list[tuple[int, Path]]:
    """Return the step and the file of each validation with recorded weights, in order."""
    return sorted((int(file.stem), file) for file in (run.path / "alignments").glob("*.json"))
