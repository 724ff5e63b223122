"""Record attention weights at each validation, for a few dev pairs, in RUN/alignments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from hourglass.data.encoded import EncodedSplit
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.word_alignment import read_weights, weight_decimals
from hourglass.runs.folder import RunFolder
from hourglass.system.files import write_whole


class Alignments(pl.Callback):
    """Write the attention weights of the first dev pairs, under teacher forcing, to alignments/STEP.json.

    Args:
        run: the folder of the run.
        dev: the encoded dev split.
        vocabularies: of the run.
        count: number of dev pairs.
        first_step: step that the training starts from; files of later steps are removed, as those steps run again.
    """

    def __init__(self, run: RunFolder, dev: EncodedSplit, vocabularies: Vocabularies, count: int, first_step: int):
        self.run, self.vocabularies = run, vocabularies
        rows = np.arange(min(count, len(dev)))
        sides = dev.source_ids, dev.target_ids
        self.sources, self.targets = ([ids.tolist() for ids in side.rows(rows)] for side in sides)
        for step, file in alignment_files(run):
            if step > first_step:
                file.unlink()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights, in the first process."""
        model: Any = pl_module.model
        if not trainer.is_global_zero or not model.decoder.attention.has_weights:
            return
        was_training = model.training
        model.eval()
        weights = read_weights([model], self.sources, self.targets)
        model.train(was_training)
        sides = ((self.vocabularies.source, self.sources), (self.vocabularies.target, self.targets))
        source, target = ([vocabulary.pieces(ids) for ids in side] for vocabulary, side in sides)
        content = [
            {"source": [*s, "(end)"], "target": [*t, "(end)"], "weights": w.round(weight_decimals(w.shape[1])).tolist()}
            for s, t, w in zip(source, target, weights, strict=True)
        ]
        file = self.run.path / "alignments" / f"{trainer.global_step:09}.json"
        write_whole(file, json.dumps(content, ensure_ascii=False))


def alignment_files(run: RunFolder) -> list[tuple[int, Path]]:
    """Return the step and the file of each validation with recorded weights, in order."""
    return sorted((int(file.stem), file) for file in (run.path / "alignments").glob("*.json"))
