"""Checkpoints: complete in themselves, written whole, and never able to run code."""

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_config

from hourglass.assembly import build_model
from hourglass.checkpoints import differences, load_progress, load_trained, why_not
from hourglass.errors import UserError
from hourglass.saving import WholeFiles
from hourglass.tokenizer import TokenizerSettings, Vocabularies, train_vocabularies


def vocabularies(tmp_path: Path, text: list[str]) -> Vocabularies:
    import datasets

    rows = datasets.Dataset.from_dict({"source": text, "target": text})
    settings = TokenizerSettings(
        model="char",
        vocabulary_size=40,
        joint=True,
        character_coverage=1.0,
        byte_fallback=False,
        normalization="identity",
        lines=10,
    )
    return train_vocabularies(settings, rows, str(text), tmp_path / "cache")


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    own = vocabularies(tmp_path, ["abc de", "fgh"])
    config = tiny_config()
    model = build_model(config, own.source.size, own.target.size, joint=True)
    return {
        "state_dict": {f"model.{name}": weight for name, weight in model.state_dict().items()},
        "global_step": 7,
        "callbacks": {
            "Meter": {"target_tokens": 70, "seconds": 2.0},
            "Checkpoints": {"best": {"bleu": 1.0, "loss": 2.0, "step": 5}, "finished": False},
        },
        "hourglass": {"config": config, "vocabularies": own.state_dict(), "corpus_digest": "d"},
    }


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
    assert dataclasses.astuple(progress) == (7, 70, 2.0, {"bleu": 1.0, "loss": 2.0, "step": 5}, False)


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
    other = vocabularies(tmp_path, ["xyz"])
    config = content["hourglass"]["config"]
    assert why_not(path, config, own, "d") is None
    assert "a checkpoint of another tokenizer" in str(why_not(path, config, other, "d"))
    assert "a checkpoint of another corpus" in str(why_not(path, config, own, "e"))
    faster = {**config, "optimizer": {**config["optimizer"], "learning_rate": 9.0}}
    assert "other settings (optimizer.learning_rate)" in str(why_not(path, faster, own, "d"))
    # Where a run lies, and who tracks it, is not what it is.
    assert why_not(path, {**config, "run_dir": "elsewhere", "logger": {"name": "csv"}}, own, "d") is None
    # Vocabularies put by hand into a checkpoint do not fit its weights.
    swapped = {**content, "hourglass": {**content["hourglass"], "vocabularies": other.state_dict()}}
    WholeFiles().save_checkpoint(swapped, path)
    with pytest.raises(UserError, match="do not fit its own settings and vocabularies"):
        load_trained(path)


def test_a_write_that_fails_leaves_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(content: Any, stream: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        WholeFiles().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_differences_are_named_as_on_the_command_line() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == ["a.c", "d", "e"]
