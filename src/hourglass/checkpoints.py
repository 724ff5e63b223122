"""Checkpoints: what is in one, and how a model or a training comes back from it. `saving` writes them.

A checkpoint is complete in itself: settings, vocabularies, weights, and what training needs to go on. Reading one
never unpickles objects: only tensors and plain values.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hourglass.assembly import Config, build_model
from hourglass.errors import UserError
from hourglass.heap import keep_heap
from hourglass.model import Seq2Seq
from hourglass.tokenizer import Vocabularies

# The code that decides what a training comes to, beside its settings and data; dvc.yaml names the same for `train`.
DECIDING = (
    *("assembly.py", "attention.py", "checkpoints.py", "data.py", "decoder.py", "encoder.py"),
    *(
        "graphs.py",
        "model.py",
        "optimizer.py",
        "pretrained.py",
        "recurrent.py",
        "saving.py",
        "scoring.py",
        "search.py",
        "training.py",
        "../train.py",
    ),
)
# Settings that say where a run lies and who hears of it, not what it is.
PLACES = ("run_dir", "resume", "if_exists", "cache", "logger")


@dataclass(frozen=True)
class Progress:
    """How far the training is that a checkpoint belongs to."""

    step: int
    target_tokens: int  # read so far
    seconds: float  # of training alone: no validation, no checkpoints
    best: dict[str, float]  # dev bleu, dev loss and step of best.ckpt; empty before the first validation
    finished: bool
    pruned: bool  # stopped early, as one of the worse of a sweep


@dataclass(frozen=True)
class Trained:
    """A model as a checkpoint has it."""

    model: Seq2Seq
    vocabularies: Vocabularies
    config: Config
    step: int
    corpus_digest: str


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, on the CPU; it cannot run code.

    Raises:
        UserError: the file is missing, cut short or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                if archive.testzip() is not None:  # torch does not look at the checksums that it writes.
                    raise zipfile.BadZipFile
            stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
            own = content["hourglass"]
            mappings = own["config"], own["vocabularies"], content["state_dict"]
            if not all(isinstance(part, dict) for part in mappings):
                raise TypeError
            own["corpus_digest"], content["global_step"]
        except Exception:  # torch, zip and pickle each have errors of their own for a damaged file
            raise DamagedError(
                f"{path}: not a whole checkpoint of hourglass: cut short, damaged, or of something else"
            ) from None
    assert isinstance(content, dict)
    return content


class DamagedError(UserError):
    """A file that should be a checkpoint is none."""


def code_digest() -> str:
    """Return a digest of `DECIDING` as it lies on the disk."""
    here, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for name in DECIDING:
        file = here / name
        digest.update(file.read_bytes() if file.is_file() else b"")  # Installed, the package is there without scripts.
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


def load_trained(path: Path) -> Trained:
    """Build the model of a checkpoint and fill in its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: as `read`, or the weights do not fit the settings or the vocabularies beside them.
    """
    keep_heap()
    content = read(path)
    own = content["hourglass"]
    vocabularies = _vocabularies(path, own)
    config: Mapping[str, Any] = own["config"]
    weights = {name.removeprefix("model."): weight for name, weight in content["state_dict"].items()}

    def build() -> Seq2Seq:
        return build_model(config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)

    try:
        # First without memory behind it: altered settings may ask for any amount of it.
        with torch.device("meta"):
            wanted = {name: weight.shape for name, weight in build().state_dict().items()}
        if wanted != {name: weight.shape for name, weight in weights.items()}:
            raise ValueError
        model = build()
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{path}: its own settings are refused: {error}") from None
    except Exception:  # a group that is missing, a weight that is no tensor, ...
        raise UserError(f"{path}: its weights do not fit its own settings and vocabularies; it was altered") from None
    return Trained(model.eval(), vocabularies, config, content["global_step"], own["corpus_digest"])


def load_average(paths: Sequence[Path]) -> Trained:
    """Build the model whose weights are the mean of those of several checkpoints of one run, as `load_trained` does.

    (Junczys-Dowmunt et al. 2016, section 2.4.)

    Raises:
        UserError: as `load_trained`, or there are none, or they are not of one training.
    """
    if not paths:
        raise UserError(
            "checkpoint=average: the run kept no validations' checkpoints: train with trainer.keep=4 or the like, or "
            "set checkpoint=best"
        )
    average = load_trained(paths[-1])
    total = {name: weight.double() for name, weight in average.model.state_dict().items()}
    for path in paths[:-1]:
        other = load_trained(path)
        same = (other.vocabularies.digest, other.corpus_digest) == (average.vocabularies.digest, average.corpus_digest)
        if not same or changes(other.config, average.config):
            raise UserError(f"{path}: is of another training than {paths[-1]}: leave it out of the folder")
        for name, weight in other.model.state_dict().items():
            total[name] += weight
    for name, weight in average.model.state_dict().items():
        weight.copy_(total[name] / len(paths))
    return average


def changes(before: Config, after: Config) -> list[str]:
    """Return the names of the settings that differ, but for those that only say where a run lies."""
    return [name for name in differences(before, after) if name.split(".")[0] not in PLACES]


def _vocabularies(path: Path, own: Mapping[str, Any]) -> Vocabularies:
    try:
        return Vocabularies.from_state_dict(own["vocabularies"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: its vocabularies cannot be read ({error})") from None


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
            digest = _vocabularies(path, own).digest
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
