"""Checkpoints: their content, how one is written, and how a model is loaded from one. (training/saving.py says when.)

A checkpoint is complete in itself: settings, vocabularies, weights, and what training needs to resume. Loading one
never unpickles objects, only tensors and plain values (`weights_only`), so a checkpoint cannot run code.
"""

import io
import logging
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hourglass.config.differences import changes
from hourglass.config.older import in_present_form
from hourglass.config.options import Config
from hourglass.config.plugins import check_record
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.files import writing
from hourglass.system.memory import keep_heap

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A model with the other content of its checkpoint.

    Attributes:
        model: in evaluation mode, on the CPU.
        vocabularies: the model's.
        config: the resolved settings of its training.
        step: optimizer steps done.
        corpus_digest: names the content of the corpus.
    """

    model: Seq2Seq
    vocabularies: Vocabularies
    config: Config
    step: int
    corpus_digest: str

    @property
    def languages(self) -> tuple[str, str]:
        """The codes of source and target."""
        return str(self.config["data"]["source"]), str(self.config["data"]["target"])


class DamagedCheckpointError(UserError):
    """A checkpoint that is cut short or altered, or a file of another kind in its place."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint, to the CPU.

    Raises:
        UserError: there is no such file.
        DamagedCheckpointError: the file is cut short, damaged, or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                if archive.testzip() is not None:  # torch writes checksums and does not check them.
                    raise zipfile.BadZipFile
            stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
            own = content["hourglass"]  # All but Lightning's part.
            mappings = own["config"], own["vocabularies"], content["state_dict"]
            if not all(isinstance(part, dict) for part in mappings):
                raise TypeError
            own["corpus_digest"], content["global_step"]
            own["config"] = in_present_form(own["config"])
        except Exception:  # torch, zipfile and pickle raise errors of many types for a damaged file.
            raise DamagedCheckpointError(
                f"{path}: not a whole checkpoint of hourglass: cut short, damaged, or of something else"
            ) from None
    assert isinstance(content, dict)
    return content


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint under another name and rename it, so that a kill leaves the one before.

    Raises:
        UserError: the file cannot be written.
    """
    stream = io.BytesIO()
    torch.save(content, stream)  # In memory, because torch hides the system's error when the disk is full.
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f".{path.name}.*"):  # Left by a process that was killed.
            old.unlink(missing_ok=True)
        try:
            with scratch.open("wb") as file:
                file.write(stream.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


def write_rounded(source: Path, target: Path, places: Mapping[str, Any]) -> None:
    """Write a checkpoint to translate with, of about a sixth of the size: weights in bfloat16, and nothing to resume.

    `load_trained` reads it as any other: it computes in float32, with rounded weights.

    Args:
        source: the checkpoint.
        target: the one to write.
        places: settings that say where files are, in place of those of the training.

    Raises:
        UserError: the source is missing or damaged, or the target cannot be written.
    """
    content = read_checkpoint(source)
    weights: dict[str, torch.Tensor] = {}
    rounded: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for name, weight in content["state_dict"].items():
        # Tied weights are one tensor under several names, and stay one.
        key = (weight.data_ptr(), weight.shape)
        rounded.setdefault(key, weight.bfloat16() if weight.is_floating_point() else weight)
        weights[name] = rounded[key]
    kept = ("config", "vocabularies", "corpus_digest", "plugins")
    own = {name: content["hourglass"][name] for name in kept if name in content["hourglass"]}
    own["config"] = {**own["config"], **places}
    write_checkpoint({"global_step": content["global_step"], "hourglass": own, "state_dict": weights}, target)


def load_trained(path: Path) -> Trained:
    """Build the model of a checkpoint with its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: as `read_checkpoint`, or the weights do not fit the settings or the vocabularies beside them, or a
            plugin is not loaded that has a part of the model.
    """
    keep_heap()
    content = read_checkpoint(path)
    own = content["hourglass"]
    for name in check_record(own.get("plugins", {}), str(path)):
        log.warning("%s: plugins=[%s] has changed since this training: the model may be another", path, name)
    vocabularies = read_vocabularies(path, own)
    config: Mapping[str, Any] = own["config"]
    weights = {name.removeprefix("model."): weight for name, weight in content["state_dict"].items()}

    def build() -> Seq2Seq:
        return build_model(config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)

    try:
        # First without memory: altered settings could ask for any amount of it.
        with torch.device("meta"):
            expected = {name: weight.shape for name, weight in build().state_dict().items()}
        if expected != {name: weight.shape for name, weight in weights.items()}:
            raise ValueError
        model = build()
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{path}: its own settings are refused: {error}") from None
    except Exception:  # A group is missing, a weight is no tensor, ...
        raise UserError(f"{path}: its weights do not fit its own settings and vocabularies; it was altered") from None
    return Trained(model.eval(), vocabularies, config, content["global_step"], own["corpus_digest"])


def load_average(paths: Sequence[Path]) -> Trained:
    """Load the model whose weights are the mean over several checkpoints of a run (Junczys-Dowmunt et al. 2016, 2.4).

    Args:
        paths: the checkpoints; what is not a weight is that of the last one.

    Raises:
        UserError: as `load_trained`, or there is no checkpoint, or they are of different trainings.
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


def read_vocabularies(path: Path, own: Mapping[str, Any]) -> Vocabularies:
    """Return the vocabularies of a checkpoint.

    Args:
        path: of the checkpoint, for messages.
        own: the part `hourglass` of its content.

    Raises:
        DamagedCheckpointError: a vocabulary is missing or damaged.
    """
    try:
        return Vocabularies.from_state_dict(own["vocabularies"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{path}: its vocabularies cannot be read ({error})") from None
