"""Checkpoints: complete in themselves, written whole, and never able to run code."""

import dataclasses
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Killed, character_vocabularies, checkpoint_content, compose_config

from hourglass.config.differences import differences
from hourglass.config.options import build
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.metrics.translation import Bleu
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder
from hourglass.training.resuming import find_start, load_progress
from hourglass.training.saving import Checkpoints, WholeFiles
from hourglass.training.trainer import TrainerSettings


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    return checkpoint_content(character_vocabularies(["abc de", "fgh"], tmp_path / "cache"))


@pytest.fixture
def path(tmp_path: Path, content: dict[str, Any]) -> Path:
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint(content, file)
    return file


def test_a_model_comes_back(path: Path, content: dict[str, Any]) -> None:
    trained = load_trained(path)
    assert trained.step == 7
    assert not trained.model.training
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, content["state_dict"][f"model.{name}"])
    ids = trained.vocabularies.source.encode(["abc"])
    assert trained.vocabularies.source.decode(ids) == ["abc"]
    progress = load_progress(path)
    assert dataclasses.astuple(progress) == (7, 70, 2.0, {"bleu": 1.0, "loss": 2.0, "step": 5}, False, False)


def test_a_planted_checkpoint_does_not_run(tmp_path: Path, content: dict[str, Any]) -> None:
    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/it_ran",)

    file = tmp_path / "planted.ckpt"
    torch.save({**content, "extra": Planted()}, file)
    with pytest.raises(UserError, match=r"planted\.ckpt: not a whole checkpoint"):
        load_trained(file)
    with pytest.raises(pickle.UnpicklingError):
        WholeFiles().load_checkpoint(file)
    assert not (tmp_path / "it_ran").exists()
    # The trap is a real one: torch without the guard would have run it.
    torch.load(file, weights_only=False)
    assert (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_cut_checkpoint_is_named(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    for load in (load_trained, load_progress):
        with pytest.raises(UserError, match=r"last\.ckpt: not a whole checkpoint") as refused:
            load(path)
        assert "\n" not in str(refused.value)


def test_a_missing_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load_trained(tmp_path / "none.ckpt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="not a whole checkpoint of hourglass"):
        load_trained(tmp_path / "foreign.ckpt")


def test_another_vocabulary_is_refused(path: Path, tmp_path: Path, content: dict[str, Any]) -> None:
    own = Vocabularies.from_state_dict(content["hourglass"]["vocabularies"])
    other = character_vocabularies(["xyz"], tmp_path / "cache")
    config = content["hourglass"]["config"]
    faster = {**config, "optimizer": {**config["optimizer"], "learning_rate": 9.0}}
    # Where a run lies, and who tracks it, is not what it is.
    for same in (config, {**config, "run_dir": "elsewhere", "logger": {"name": "csv"}}):
        assert find_start(path, tmp_path / "none", same, own, "d") is not None
    for settings, vocabulary, corpus, reason in (
        (config, other, "d", "the checkpoint is of another tokenizer"),
        (config, own, "e", "the checkpoint is of another corpus"),
        (faster, own, "d", r"the checkpoint is of other settings \(optimizer\.learning_rate\)"),
    ):
        with pytest.raises(UserError, match=reason):
            find_start(path, tmp_path / "none", settings, vocabulary, corpus)
    with pytest.raises(UserError, match="the checkpoint is of other code"):
        find_start(path, tmp_path / "none", config, own, "d", code="another digest")
    # Vocabularies put by hand into a checkpoint do not fit its weights.
    swapped = {**content, "hourglass": {**content["hourglass"], "vocabularies": other.state_dict()}}
    WholeFiles().save_checkpoint(swapped, path)
    with pytest.raises(UserError, match="do not fit its own settings and vocabularies"):
        load_trained(path)


def test_a_write_that_fails_leaves_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be written \(No space left on device\)"):
        WholeFiles().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def every_step() -> TrainerSettings:
    """Return settings by which each step has its checkpoint."""
    return build(TrainerSettings, compose_config("trainer.checkpoint_every=1")["trainer"], "trainer")


class Steps:
    """What Checkpoints sees of a Trainer whose every step is to be kept."""

    is_global_zero, accumulate_grad_batches, should_stop = True, 1, False

    def __init__(self, content: dict[str, Any]):
        self.content, self.global_step, self.strategy = content, 0, self

    def reduce_boolean_decision(self, decision: bool, **_: Any) -> bool:
        return decision

    def save_checkpoint(self, path: Path) -> None:
        WholeFiles().save_checkpoint({**self.content, "global_step": self.global_step}, path)


def write_steps(run: RunFolder, content: dict[str, Any], resume: Path | None, steps: range) -> None:
    """Write the checkpoints of some steps."""
    trainer: Any = Steps(content)
    callback = Checkpoints(run, every_step(), Bleu("en"), steps=99, validate_every=99, resume=resume)
    module: Any = None
    for step in steps:
        callback.on_train_batch_start(trainer, module, None, step - 1)
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, step - 1)


@pytest.mark.parametrize("damaged", [False, True])
def test_whatever_call_is_the_last_a_whole_checkpoint_is_there(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """Killed before each call that touches the disk, in a new run, or in one whose last.ckpt was damaged."""
    own = Vocabularies.from_state_dict(content["hourglass"]["vocabularies"])

    def start(run: RunFolder) -> Any:
        return find_start(run.last, run.previous, content["hourglass"]["config"], own, "d")

    begun = RunFolder(tmp_path / "begun")
    write_steps(begun, content, None, range(1, 5))  # 4 is the last and 3 the one before.
    if damaged:
        begun.last.write_bytes(begun.last.read_bytes()[:1000])
    reached = set()
    for fatal in range(1, 40):
        run = RunFolder(tmp_path / f"run{fatal}")
        shutil.copytree(begun.path, run.path)
        before = start(run)
        assert before.progress.step == (3 if damaged else 4)
        calls = 0

        def count(real: Any, fatal: int = fatal) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls >= fatal:
                    raise Killed
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", count(os.replace))
            patch.setattr(os, "fsync", count(os.fsync))
            patch.setattr(Path, "unlink", count(Path.unlink))
            try:
                write_steps(run, content, before.path, range(before.progress.step + 1, before.progress.step + 5))
            except Killed:
                pass
            else:
                break  # No call is left to be the last.
        after = start(run)
        reached.add(after.progress.step)
        assert after.progress.step >= before.progress.step
    assert len(reached) == 4  # The step before and three of the four: the newest is there with the last call.


def test_what_best_says_of_itself_holds(path: Path, content: dict[str, Any]) -> None:
    """best.ckpt may be of a validation that a checkpoint before it does not know of."""
    run = RunFolder(path.parent.parent)
    WholeFiles().save_checkpoint(content, run.best)
    callback = Checkpoints(run, every_step(), Bleu("en"), steps=9, validate_every=9, resume=run.previous)
    callback.load_state_dict({"best": {"bleu": 0.5, "loss": 3.0, "step": 3}, "finished": False})
    assert callback.best == {"bleu": 1.0, "loss": 2.0, "step": 5}
    run.best.write_bytes(run.best.read_bytes()[:1000])
    callback.load_state_dict({"best": {}, "finished": False})  # No best is recorded: a new one will be written.
    with pytest.raises(UserError, match=r"best\.ckpt: not a whole checkpoint.*: start a new run"):
        callback.load_state_dict({"best": {"bleu": 0.5, "loss": 3.0, "step": 3}, "finished": False})


def test_a_flipped_bit_is_seen(path: Path) -> None:
    """torch reads on over wrong checksums."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(UserError, match="not a whole checkpoint"):
        load_progress(path)


def test_differences_are_named_as_on_the_command_line() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == ["a.c", "d", "e"]
