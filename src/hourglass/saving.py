"""When checkpoints are written, and that they are written whole."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

Selection = Literal["bleu", "loss"]


class WholeFiles(TorchCheckpointIO):
    """Writes beside the place and renames, so that a kill leaves the checkpoint before it; reads no objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See the base."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.glob(f".{place.name}.*"):  # Of a process that was killed.
            old.unlink(missing_ok=True)
        scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            with scratch.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(scratch, place)
        finally:
            scratch.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """See the base; Lightning reads files of its own by this too, when spawned processes hand back weights."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content


class Checkpoints(Checkpoint):
    """Writes last.ckpt every so many steps and at every validation, and best.ckpt when dev says so.

    What "best" was so far is kept in the checkpoint, so that a resumed run remembers it.

    Args:
        folder: where they go.
        every: steps from one last.ckpt to the next.
        validate_every: steps from one validation to the next; there, last.ckpt is written after it.
        steps: of the whole run.
        select: what is best on dev: the highest bleu, or the lowest loss.
    """

    def __init__(self, folder: Path, *, every: int, validate_every: int, steps: int, select: Selection):
        self.folder, self.every, self.validate_every, self.steps = folder, every, validate_every, steps
        self.select: Selection = select
        self.best: dict[str, float] = {}  # dev bleu, dev loss, step
        self.finished = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write last.ckpt where it is due."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # In the middle of a step.
        if trainer.global_step % self.every == 0 and trainer.global_step % self.validate_every:
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write best.ckpt if this is the best yet, then last.ckpt."""
        dev = {name: float(trainer.callback_metrics[f"dev/{name}"]) for name in ("bleu", "loss")}
        better = not self.best or self._rank(dev) > self._rank(self.best)
        self.finished = trainer.should_stop or trainer.global_step >= self.steps
        if better:
            self.best = {**dev, "step": trainer.global_step}
            trainer.save_checkpoint(self.folder / "best.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt")

    def _rank(self, dev: Mapping[str, float]) -> tuple[float, float]:
        """Return what is compared: of two models of the same BLEU, 0 for one, the lower loss is better."""
        return (dev["bleu"], -dev["loss"]) if self.select == "bleu" else (-dev["loss"], dev["bleu"])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run has to remember."""
        return {"best": self.best, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.best, self.finished = state_dict["best"], state_dict["finished"]
