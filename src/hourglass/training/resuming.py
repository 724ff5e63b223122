"""Find the checkpoint that a training resumes from; refuse one of other settings, data or code."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.config.differences import changes
from hourglass.config.plugins import plugin_record, resume_command
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import DamagedCheckpointError, read_checkpoint, read_vocabularies
from hourglass.system.project import PACKAGE

# The code that determines the result of a training, beside its settings and data: files and packages under src/. The
# `train` stages of dvc.yaml depend on the same.
DECIDING = (
    "hourglass/data",
    "hourglass/decoding/search.py",
    "hourglass/metrics/exact.py",
    "hourglass/metrics/metric.py",
    "hourglass/metrics/metrics.py",
    "hourglass/metrics/summarisation.py",
    "hourglass/metrics/transcription.py",
    "hourglass/metrics/translation.py",
    "hourglass/models",
    "hourglass/training/branching.py",
    "hourglass/training/datamodule.py",
    "hourglass/training/fit.py",
    "hourglass/training/freezing.py",
    "hourglass/training/graphs.py",
    "hourglass/training/module.py",
    "hourglass/training/optimizer.py",
    "hourglass/training/progress.py",
    "hourglass/training/resuming.py",
    "hourglass/training/run.py",
    "hourglass/training/saving.py",
)
# What else a user may do, where a checkpoint does not fit.
NEW_RUN = "start a new run"


@dataclass(frozen=True)
class Progress:
    """Counters of the training that a checkpoint belongs to.

    Attributes:
        step: optimizer steps done.
        target_tokens: target tokens read.
        seconds: duration of training without validations, over all starts.
        best: the main metric by its name, `loss` and `step` of best.ckpt on dev; empty before the first validation.
        finished: whether the training has reached its end.
        pruned: whether a sweep stopped it early.
    """

    step: int
    target_tokens: int
    seconds: float
    best: dict[str, float]
    finished: bool
    pruned: bool


def code_digest() -> str:
    """Return a digest of the files of `DECIDING` as they are on the disk."""
    digest = hashlib.sha256()
    for name in DECIDING:
        path = PACKAGE.parent / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def load_progress(path: Path) -> Progress:
    """Return the counters of a checkpoint.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return _progress(path, read_checkpoint(path))


def _progress(path: Path, content: Mapping[str, Any]) -> Progress:
    try:
        meter, own = content["callbacks"]["Meter"], content["callbacks"]["Checkpoints"]
        pruned = content["callbacks"].get("Pruning", {"pruned": False})["pruned"]
        return Progress(
            content["global_step"], meter["target_tokens"], meter["seconds"], own["best"], own["finished"], pruned
        )
    except (KeyError, TypeError):
        raise DamagedCheckpointError(f"{path}: not a whole checkpoint of hourglass (no counters)") from None


@dataclass(frozen=True)
class Start:
    """The checkpoint that a training resumes from.

    Attributes:
        path: the checkpoint.
        progress: its counters.
        warnings: if a newer checkpoint is damaged, its error and the step that the training resumes from; plugins that
            have changed.
    """

    path: Path
    progress: Progress
    warnings: list[str]


def find_start(
    last: Path,
    previous: Path,
    config: Mapping[str, Any],
    vocabularies: Vocabularies,
    corpus_digest: str,
    *,
    code: str | None = None,
    otherwise: str = NEW_RUN,
) -> Start | None:
    """Return the checkpoint to resume from: the last, or the previous one if the last is damaged; None without any.

    Data, vocabularies and settings must be those that the training began with; its folder and its logger may change,
    and whether it is scored on test.

    Args:
        last: path of the last checkpoint.
        previous: path of the one before.
        config: the resolved settings.
        vocabularies: of the run.
        corpus_digest: digest of the corpus.
        code: digest that the checkpoint's code must have; None: any.
        otherwise: what the user may do instead of resuming, for messages.

    Raises:
        UserError: no checkpoint is whole, or it is of another tokenizer, corpus, code or other settings.
    """
    damaged: list[str] = []
    for path in (last, previous):
        if not path.exists():
            continue
        try:
            content = read_checkpoint(path)
            own, progress = content["hourglass"], _progress(path, content)
            read_vocabularies(path, own)
            break
        except DamagedCheckpointError as error:
            damaged.append(str(error))
    else:
        if damaged:
            before = f"neither is {previous.name}" if len(damaged) > 1 else f"there is no {previous.name}"
            raise UserError(f"{damaged[0]}; {before}: {otherwise}")
        return None
    remedy = f"restore those that it was trained with, or {otherwise}"
    remedy_of_code = f"train on with the present code by {resume_command(path.parent.parent)}, or {otherwise}"
    check_data(path, own, vocabularies, corpus_digest, remedy)
    if code is not None and own.get("code") != code:
        raise UserError(f"{path}: the checkpoint is of other code: {remedy_of_code}")
    altered = altered_plugins(own, config)
    if code is not None and altered:
        raise UserError(f"{path}: the checkpoint is of other code of plugins=[{altered}]: {remedy_of_code}")
    if changed := changes(own["config"], config):
        raise UserError(f"{path}: the checkpoint is of other settings ({', '.join(changed)}): {remedy}")
    warnings = [f"{damaged[0]}; resuming from step {progress.step} of {path}"] if damaged else []
    if altered:
        warnings.append(f"{path}: plugins=[{altered}] has changed since: the training goes on with other code")
    return Start(path, progress, warnings)


def check_data(path: Path, own: Mapping[str, Any], vocabularies: Vocabularies, corpus_digest: str, remedy: str) -> None:
    """Check that a checkpoint is of these vocabularies and this corpus.

    Args:
        path: the checkpoint.
        own: our part of its content.
        vocabularies: of the run that reads it.
        corpus_digest: digest of that run's corpus.
        remedy: for the message.

    Raises:
        UserError: it is not.
    """
    if read_vocabularies(path, own).digest != vocabularies.digest:
        raise UserError(f"{path}: the checkpoint is of another tokenizer: {remedy}")
    if own["corpus_digest"] != corpus_digest:
        raise UserError(f"{path}: the checkpoint is of another corpus: {remedy}")


def altered_plugins(own: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the names of the plugins that have changed since a checkpoint; empty if none has."""
    before, now = own.get("plugins", {}), plugin_record(config)
    return ", ".join(name for name in now if before.get(name) != now[name])
