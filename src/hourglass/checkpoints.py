"""Checkpoints: what is in one, and how a model or a training comes back from it. `saving` writes them.

A checkpoint is complete in itself: settings, vocabularies, weights, and what training needs to go on. Reading one
never unpickles objects: only tensors and plain values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hourglass.assembly import Config, build_model
from hourglass.errors import UserError
from hourglass.model import Seq2Seq
from hourglass.tokenizer import Vocabularies

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


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values, on the CPU; it cannot run code.

    Raises:
        UserError: the file is missing, cut short or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        own = content["hourglass"]
        mappings = own["config"], own["vocabularies"], content["state_dict"]
        if not all(isinstance(part, dict) for part in mappings):
            raise TypeError
        own["corpus_digest"], content["global_step"]
    except Exception:  # torch, zip and pickle each have errors of their own for a damaged file
        raise UserError(f"{path}: not a whole checkpoint of hourglass: cut short, or of something else") from None
    assert isinstance(content, dict)
    return content


def load_progress(path: Path) -> Progress:
    """Read how far a training is; raises as `read` does."""
    content = read(path)
    try:
        meter, own = content["callbacks"]["Meter"], content["callbacks"]["Checkpoints"]
        pruned = content["callbacks"].get("Pruning", {"pruned": False})["pruned"]
        return Progress(
            content["global_step"], meter["target_tokens"], meter["seconds"], own["best"], own["finished"], pruned
        )
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
