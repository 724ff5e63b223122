"""Find the checkpoint that a training resumes from, and refuse those of other settings, data or code."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.config.differences import changes
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import DamagedError, read, read_vocabularies
from hourglass.system.project import PACKAGE

# The code that decides what a training comes to, beside its settings and data: files and packages under src/. The
# `train` stages of dvc.yaml name the same.
DECIDING = (
    "hourglass/data",
    "hourglass/decoding/search.py",
    "hourglass/metrics/scoring.py",
    "hourglass/models",
    "hourglass/training/datamodule.py",
    "hourglass/training/fit.py",
    "hourglass/training/graphs.py",
    "hourglass/training/module.py",
    "hourglass/training/optimizer.py",
    "hourglass/training/progress.py",
    "hourglass/training/resuming.py",
    "hourglass/training/run.py",
    "hourglass/training/saving.py",
)


@dataclass(frozen=True)
class Progress:
    """How far the training is that a checkpoint belongs to."""

    step: int
    target_tokens: int  # read so far
    seconds: float  # of training alone: no validation, no checkpoints
    best: dict[str, float]  # dev bleu, dev loss and step of best.ckpt; empty before the first validation
    finished: bool
    pruned: bool  # stopped early, as one of the worse of a sweep


def code_digest() -> str:
    """Return a digest of `DECIDING` as it lies on the disk."""
    digest = hashlib.sha256()
    for name in DECIDING:
        path = PACKAGE.parent / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def load_progress(path: Path) -> Progress:
    """Read how far a training is; raises as `read` does."""
    return _progress(path, read(path))


def _progress(path: Path, content: Mapping[str, Any]) -> Progress:
    try:
        meter, own = content["callbacks"]["Meter"], content["callbacks"]["Checkpoints"]
        pruned = content["callbacks"].get("Pruning", {"pruned": False})["pruned"]
        return Progress(
            content["global_step"], meter["target_tokens"], meter["seconds"], own["best"], own["finished"], pruned
        )
    except (KeyError, TypeError):
        raise DamagedError(f"{path}: not a whole checkpoint of hourglass (no counters)") from None


@dataclass(frozen=True)
class Start:
    """Where a training goes on from.

    Attributes:
        path: the checkpoint.
        progress: how far it is.
        warning: what is wrong with the checkpoint after it; null: nothing.
    """

    path: Path
    progress: Progress
    warning: str | None


def find_start(
    last: Path,
    previous: Path,
    config: Mapping[str, Any],
    vocabularies: Vocabularies,
    corpus_digest: str,
    *,
    code: str | None = None,
) -> Start | None:
    """Find the checkpoint to go on from: the last, or the one before if the last is damaged; None where neither is.

    A training goes on with the data, the vocabularies and the settings that it began with, or not at all; where it
    lies and who tracks it may change.

    Args:
        last: the last checkpoint.
        previous: the one before.
        config: all settings.
        vocabularies: the tokenizer's.
        corpus_digest: of the data.
        code: digest of the code that the training has to have begun with; None: any.

    Raises:
        UserError: no checkpoint is whole, or it is of another tokenizer, corpus, code or settings.
    """
    damaged: list[str] = []
    for path in (last, previous):
        if not path.exists():
            continue
        try:
            content = read(path)
            own, progress = content["hourglass"], _progress(path, content)
            digest = read_vocabularies(path, own).digest
            break
        except DamagedError as error:
            damaged.append(str(error))
    else:
        if damaged:
            before = f"neither is {previous.name}" if len(damaged) > 1 else f"there is no {previous.name}"
            raise UserError(f"{damaged[0]}; {before}: start a new run")
        return None
    remedy = "restore what it was trained with, or start a new run"
    if digest != vocabularies.digest:
        raise UserError(f"{path}: a checkpoint of another tokenizer: {remedy}")
    if own["corpus_digest"] != corpus_digest:
        raise UserError(f"{path}: a checkpoint of another corpus: {remedy}")
    if code is not None and own.get("code") != code:
        raise UserError(f"{path}: a checkpoint of other code: {remedy}")
    if changed := changes(own["config"], config):
        raise UserError(f"{path}: a checkpoint of other settings ({', '.join(changed)}): {remedy}")
    return Start(path, progress, f"{damaged[0]}; goes on from step {progress.step} of {path}" if damaged else None)
