"""When checkpoints are written, and how: always whole, and always with one left to resume from.

A new last.ckpt is first written as next.ckpt. It replaces last.ckpt once the curves have its step too, so that a kill
cannot separate the two. The former last.ckpt stays as previous.ckpt.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from hourglass.errors import UserError
from hourglass.metrics.metric import Metric
from hourglass.models.checkpoint import write_checkpoint
from hourglass.runs.folder import RunFolder
from hourglass.system.files import writing
from hourglass.system.interrupts import SIGTERM_STATUS
from hourglass.training.resuming import load_progress
from hourglass.training.stopping import on_sigterm
from hourglass.training.trainer import TrainerSettings


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints under another name and rename them, so that a kill leaves the one before; load no objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See `TorchCheckpointIO`."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """See `TorchCheckpointIO`; Lightning also reads the weights that spawned processes return through this."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content


class Checkpoints(Checkpoint):
    """Write last.ckpt at even distances and at every validation, and best.ckpt when a validation is the best so far.

    After SIGTERM, write last.ckpt at the end of the step, the same step on all ranks, and end the process.

    The best scores so far are kept in the checkpoint, so that a resumed run knows them.

    Args:
        run: the folder for the checkpoints.
        settings: trainer.checkpoint_every, select and keep.
        metric: the main metric.
        steps: of the whole run.
        validate_every: steps from one validation to the next, after which last.ckpt is written too.
        stable: the step after which stable.ckpt is written; None: none.
        resume: the checkpoint that the training resumes from; None: a new training.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: TrainerSettings,
        metric: Metric,
        *,
        steps: int,
        validate_every: int,
        stable: int | None = None,
        resume: Path | None,
    ):
        self.run, self.settings, self.metric = run, settings, metric
        self.steps, self.validate_every = steps, validate_every
        self.stable = stable
        self.best: dict[str, float] = {}  # dev metric, dev loss, with label smoothing dev smoothed_loss, step
        self.finished = False
        self._last_is_whole = resume is None or resume == run.last
        self._sigterm_received = False  # by this process
        self._stopping = False  # all ranks, because one has received SIGTERM

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM, which stops within a step, each rank at its own."""
        on_sigterm(self._receive_sigterm)

    def _receive_sigterm(self, *_: Any) -> None:
        self._sigterm_received = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write last.ckpt where it is due. The curves already have this step: Lightning calls this callback last."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # Within a step.
        if trainer.global_step == self.stable:
            trainer.save_checkpoint(self.run.stable)
        self._agree_to_stop(trainer)
        due = self._stopping or trainer.global_step % self.settings.checkpoint_every == 0
        if due and trainer.global_step % self.validate_every:
            self._write_last(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop after SIGTERM."""
        if self._stopping:
            raise SystemExit(SIGTERM_STATUS)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write best.ckpt if the scores are the best so far, then last.ckpt."""
        dev = {
            name: float(trainer.callback_metrics[f"dev/{name}"])
            for name in (self.metric.name, "loss", "smoothed_loss")
            if f"dev/{name}" in trainer.callback_metrics
        }
        better = not self.best or self._rank(dev) > self._rank(self.best)
        self.finished = trainer.should_stop or trainer.global_step >= self.steps
        if better:
            self.best = {**dev, "step": trainer.global_step}
            trainer.save_checkpoint(self.run.best)
        if keep := self.settings.keep:
            trainer.save_checkpoint(self.run.validated(trainer.global_step))
            if trainer.is_global_zero:
                for old in self.run.all_validated[:-keep]:
                    old.unlink(missing_ok=True)
        self._write_last(trainer)
        self._agree_to_stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after SIGTERM, before the test split is scored."""
        if self._stopping:
            raise SystemExit(SIGTERM_STATUS)

    def _agree_to_stop(self, trainer: pl.Trainer) -> None:
        self._stopping = trainer.strategy.reduce_boolean_decision(self._sigterm_received, all=False)

    def _write_last(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt, such that at every moment it or previous.ckpt is whole.

        A damaged last.ckpt does not become previous.ckpt.
        """
        trainer.save_checkpoint(self.run.next)
        if trainer.is_global_zero:
            with writing(self.run.last):
                if self._last_is_whole and self.run.last.exists():
                    os.replace(self.run.last, self.run.previous)
                os.replace(self.run.next, self.run.last)
        self._last_is_whole = True

    def _rank(self, dev: Mapping[str, float]) -> tuple[float, float]:
        """Return the key to compare scores by; the other score decides between equals (BLEU is often 0 at first)."""
        loss, score = dev.get("smoothed_loss", dev["loss"]), self.metric.rank(dev[self.metric.name])
        return (-loss, score) if self.settings.select == "loss" else (score, -loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the state to keep in the checkpoint."""
        return {"best": self.best, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state.

        Raises:
            UserError: best.ckpt is damaged.
        """
        self.best, self.finished = state_dict["best"], state_dict["finished"]
        if self.best:
            # best.ckpt may be of a later validation, whose last.ckpt was lost. Its own scores count.
            try:
                self.best = load_progress(self.run.best).best
            except UserError as error:
                raise UserError(f"{error}; the best model so far is lost: start a new run") from None
