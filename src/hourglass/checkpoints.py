"""Checkpoints: when they are written, that they are written whole, and how a model comes back from one.

A checkpoint is complete in itself: settings, vocabularies, weights, and what training needs to go on. Reading one
never unpickles objects: only tensors and plain values.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from hourglass.assembly import Config, build_model
from hourglass.errors import UserError
from hourglass.model import Seq2Seq
from hourglass.tokenizer import Vocabularies

Selection = Literal["bleu", "loss"]

# Settings that say where a run lies and who hears of it, not what it is.
PLACES = ("run_dir", "resume", "if_exists", "cache", "logger")


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


@dataclass(frozen=True)
class Progress:
    """How far the training is that a checkpoint belongs to."""

    step: int
    target_tokens: int  # read so far
    seconds: float  # of training alone: no validation, no checkpoints
    best: dict[str, float]  # dev bleu, dev loss and step of best.ckpt; empty before the first validation
    finished: bool


@dataclass(frozen=True)
class Trained:
    """A model as a checkpoint has it."""

    model: Seq2Seq
    vocabularies: Vocabularies
    config: Config
    step: int


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, on the CPU; it cannot run code.

    Raises:
        UserError: the file is missing, cut short or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["hourglass"], content["state_dict"], content["global_step"]
    except Exception:  # torch, zip and pickle each have errors of their own for a damaged file
        raise UserError(f"{path}: not a whole checkpoint of hourglass: cut short, or of something else") from None
    assert isinstance(content, dict)
    return content


def load_progress(path: Path) -> Progress:
    """Read how far a training is; raises as `read` does."""
    content = read(path)
    try:
        meter, own = content["callbacks"]["Meter"], content["callbacks"]["Checkpoints"]
        return Progress(content["global_step"], meter["target_tokens"], meter["seconds"], own["best"], own["finished"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a whole checkpoint of hourglass (no counters)") from None


def load_trained(path: Path) -> Trained:
    """Build the model of a checkpoint and fill in its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: as `read`, or the weights do not fit the settings or the vocabularies beside them.
    """
    content = read(path)
    own = content["hourglass"]
    vocabularies = _vocabularies(path, own)
    config: Mapping[str, Any] = own["config"]
    model = build_model(config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)
    weights = {name.removeprefix("model."): weight for name, weight in content["state_dict"].items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its own settings and vocabularies; it was altered") from None
    return Trained(model.eval(), vocabularies, config, content["global_step"])


def _vocabularies(path: Path, own: Mapping[str, Any]) -> Vocabularies:
    try:
        return Vocabularies.from_state_dict(own["vocabularies"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its vocabularies cannot be read ({error})") from None


def why_not(path: Path, config: Mapping[str, Any], vocabularies: Vocabularies, corpus_digest: str) -> str | None:
    """Say why a training cannot go on from a checkpoint; None if it can.

    It goes on with the data, the vocabularies and the settings that it began with, or not at all; where it lies and
    who tracks it may change.
    """
    remedy = "restore what it was trained with, or start a new run"
    try:
        own = read(path)["hourglass"]
        digest = _vocabularies(path, own).digest
    except UserError as error:
        return f"{error}; without it the run starts from the beginning: delete it to do that"
    if digest != vocabularies.digest:
        return f"{path}: a checkpoint of another tokenizer: {remedy}"
    if own["corpus_digest"] != corpus_digest:
        return f"{path}: a checkpoint of another corpus: {remedy}"
    changed = [name for name in differences(own["config"], config) if name.split(".")[0] not in PLACES]
    return f"{path}: a checkpoint of other settings ({', '.join(changed)}): {remedy}" if changed else None


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of the settings that differ, as on the command line: GROUP.KEY."""
    names: list[str] = []
    for key in sorted({*one, *other}):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            names += differences(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            names.append(f"{prefix}{key}")
    return names
