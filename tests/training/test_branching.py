"""A run that starts from a shorter one is the run that it would be from its first weights."""

import shutil
from pathlib import Path

import pytest
from helpers import compose_config, curves, kill_at_step, make_run, weights

from hourglass.errors import UserError
from hourglass.models.checkpoint import read_checkpoint, write_checkpoint
from hourglass.runs.folder import RunFolder, write_config
from hourglass.training.branching import check_start_from
from hourglass.training.resuming import load_progress
from hourglass.training.settings import check_settings

LADDER = (
    "attention=luong_dot",
    "optimizer.decay=wsd",
    "optimizer.warmup=3",
    "trainer.select=loss",
    "trainer.test=false",
)


def rung(folder: Path, name: str, tokens: int, *words: str) -> RunFolder:
    """Train with a budget."""
    return make_run(folder / name, *LADDER, f"trainer.target_tokens={tokens}", f"cache={folder / 'cache'}", *words)


@pytest.mark.slow
def test_a_ladder_gives_the_weights_of_whole_runs(tmp_path: Path) -> None:
    """Of three rungs, the last with other validations, each from the one before."""
    first = rung(tmp_path, "first", 2000, "trainer.validations=2")
    second = rung(tmp_path, "second", 4000, "trainer.validations=5", f"start_from={first.path}")
    third = rung(tmp_path, "third", 8000, "trainer.validations=4", f"start_from={second.path}")
    whole = rung(tmp_path, "whole", 8000, "trainer.validations=4")
    own, expected = weights(third.last), weights(whole.last)
    assert own.keys() == expected.keys()
    assert all((own[name] == expected[name]).all() for name in expected)
    progress, wanted = load_progress(third.last), load_progress(whole.last)
    assert (progress.step, progress.target_tokens) == (wanted.step, wanted.target_tokens)
    # The curves, whose steps count from 0, go on where the rate of the rung before began to fall.
    losses, all_losses = curves(third, "train/loss"), curves(whole, "train/loss")
    stable = read_checkpoint(second.stable)["global_step"]
    assert losses == {step: loss for step, loss in all_losses.items() if step >= stable}
    assert stable > read_checkpoint(first.stable)["global_step"]
    assert 0 < len(losses) < len(all_losses)
    dev = {step: loss for step, loss in curves(whole, "dev/loss").items() if step >= stable}
    assert curves(third, "dev/loss") == dev
    assert progress.best["loss"] == min(dev.values())


@pytest.mark.more
@pytest.mark.slow
def test_a_rung_that_is_killed_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    first = rung(tmp_path, "first", 2000)
    words = (f"start_from={first.path}", "trainer.checkpoint_every=2", "if_exists=continue")
    expected = weights(rung(tmp_path, "second", 4000, *words).last)
    at = read_checkpoint(first.stable)["global_step"] + 5
    kill_at_step(at, lambda: rung(tmp_path, "killed", 4000, *words))
    shutil.rmtree(first.path)  # It is not needed any more.
    own = weights(rung(tmp_path, "killed", 4000, *words).last)
    assert all((own[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["optimizer.decay=sqrt"], ["optimizer.decay=sqrt", "wsd"]),
        (["optimizer.warmup=0.1"], ["optimizer.warmup=0.1", "number of steps"]),
        (["trainer.patience=2"], ["trainer.patience=2"]),
        (["trainer.scheduled_sampling=0.2"], ["trainer.scheduled_sampling=0.2"]),
        (["seed=5", "encoder.dropout=0.5"], ["encoder.dropout, seed"]),
        (["trainer.target_tokens=2000"], ["trainer.target_tokens=2000", "not smaller"]),
        (["start_from=nowhere"], ["start_from=nowhere: not a run folder"]),
    ],
)
def test_a_run_that_cannot_start_from_another_is_refused_by_name(
    tmp_path: Path, words: list[str], names: list[str]
) -> None:
    other = RunFolder(tmp_path / "other")
    write_config(other, compose_config(*LADDER, "trainer.target_tokens=2000"))
    other.stable.parent.mkdir()
    other.stable.touch()
    good = compose_config(*LADDER, "trainer.target_tokens=4000", f"start_from={other.path}", "trainer.keep=2")
    check_start_from(good, check_settings(good))
    config = compose_config(*LADDER, "trainer.target_tokens=4000", f"start_from={other.path}", *words)
    with pytest.raises(UserError) as error:
        check_start_from(config, check_settings(config))
    assert str(error.value).startswith("start_from=")
    assert all(name in str(error.value) for name in names)


def test_a_run_that_has_not_reached_its_decay_is_refused(tmp_path: Path) -> None:
    other = RunFolder(tmp_path)
    write_config(other, compose_config(*LADDER, "trainer.target_tokens=2000"))
    config = compose_config(*LADDER, "trainer.target_tokens=4000", f"start_from={tmp_path}")
    with pytest.raises(UserError, match="finish that run first"):
        check_start_from(config, check_settings(config))


@pytest.mark.more
@pytest.mark.slow
def test_a_run_on_another_corpus_is_refused(tmp_path: Path) -> None:
    first = rung(tmp_path, "first", 2000)
    content = read_checkpoint(first.stable)
    content["hourglass"]["corpus_digest"] = "another"
    write_checkpoint(content, first.stable)
    with pytest.raises(UserError, match="another corpus"):
        rung(tmp_path, "second", 4000, f"start_from={first.path}")
