"""When checkpoints are written, that they are written whole, and that there is always one to go on from.

A new last.ckpt is first written as next.ckpt. It takes its place once the curves have its step too, so that a kill
cannot part the two, and the one before it stays as previous.ckpt.
"""

import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.files import writing
from hourglass.training.resuming import load_progress
from hourglass.training.stopping import SIGTERM_STATUS, on_sigterm

Selection = Literal["bleu", "loss"]


class WholeFiles(TorchCheckpointIO):
    """Writes beside the place and renames, so that a kill leaves the checkpoint before it; reads no objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See the base."""
        place = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)  # Not into the file: torch hides what the system says of a full disk.
        scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            for old in place.parent.glob(f".{place.name}.*"):  # Of a process that was killed.
                old.unlink(missing_ok=True)
            try:
                with scratch.open("wb") as stream:
                    stream.write(content.getbuffer())
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

    At SIGTERM it writes last.ckpt at the end of the step, on all ranks the same one, and ends the process.

    What "best" was so far is kept in the checkpoint, so that a resumed run remembers it.

    Args:
        run: where they go.
        resume: the checkpoint that the training goes on from; null: it begins.
        every: steps from one last.ckpt to the next.
        validate_every: steps from one validation to the next; there, last.ckpt is written after it.
        steps: of the whole run.
        select: what is best on dev: the highest bleu, or the lowest loss.
        keep: how many validations' checkpoints, the last ones, stay, to be averaged.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        resume: Path | None,
        every: int,
        validate_every: int,
        steps: int,
        select: Selection,
        keep: int,
    ):
        self.keep = keep
        self.run, self.every, self.validate_every, self.steps = run, every, validate_every, steps
        self.select: Selection = select
        self.best: dict[str, float] = {}  # dev bleu, dev loss, step
        self.finished = False
        self._last_is_whole = resume is None or resume == run.last
        self._asked_to_stop = self._stops = False  # This process; all ranks.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over from Lightning, which stops in the middle of a step, and parts the ranks."""
        on_sigterm(self._ask_to_stop)

    def _ask_to_stop(self, *_: Any) -> None:
        self._asked_to_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write last.ckpt where it is due; the curves of this step are written, as these callbacks are called last."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # In the middle of a step.
        self._agree_to_stop(trainer)
        due = self._stops or trainer.global_step % self.every == 0
        if due and trainer.global_step % self.validate_every:
            self._write(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked."""
        if self._stops:
            raise SystemExit(SIGTERM_STATUS)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write best.ckpt if this is the best yet, then last.ckpt."""
        dev = {name: float(trainer.callback_metrics[f"dev/{name}"]) for name in ("bleu", "loss")}
        better = not self.best or self._rank(dev) > self._rank(self.best)
        self.finished = trainer.should_stop or trainer.global_step >= self.steps
        if better:
            self.best = {**dev, "step": trainer.global_step}
            trainer.save_checkpoint(self.run.best)
        if self.keep:
            trainer.save_checkpoint(self.run.validated(trainer.global_step))
            if trainer.is_global_zero:
                for old in self.run.all_validated[: -self.keep]:
                    old.unlink(missing_ok=True)
        self._write(trainer)
        self._agree_to_stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if asked, now that all is trained: what is left is to score."""
        if self._stops:
            raise SystemExit(SIGTERM_STATUS)

    def _agree_to_stop(self, trainer: pl.Trainer) -> None:
        self._stops = trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False)

    def _write(self, trainer: pl.Trainer) -> None:
        """At every moment last.ckpt or previous.ckpt is whole: a damaged last.ckpt never takes the other's place."""
        trainer.save_checkpoint(self.run.next)
        if trainer.is_global_zero:
            with writing(self.run.last):
                if self._last_is_whole and self.run.last.exists():
                    os.replace(self.run.last, self.run.previous)
                os.replace(self.run.next, self.run.last)
        self._last_is_whole = True

    def _rank(self, dev: Mapping[str, float]) -> tuple[float, float]:
        """Return what is compared: of two models of the same BLEU, 0 for one, the lower loss is better."""
        return (dev["bleu"], -dev["loss"]) if self.select == "bleu" else (-dev["loss"], dev["bleu"])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run has to remember."""
        return {"best": self.best, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again.

        Raises:
            UserError: best.ckpt is damaged.
        """
        self.best, self.finished = state_dict["best"], state_dict["finished"]
        if self.best:
            # best.ckpt may be of a later validation, whose last.ckpt was lost: what it says of itself holds.
            try:
                self.best = load_progress(self.run.best).best
            except UserError as error:
                raise UserError(f"{error}; the best model so far is lost: start a new run") from None
