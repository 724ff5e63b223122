"""A fingerprint changes with what decides a training, and with nothing else."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL, compose_config, curves, make_run

from hourglass.config.differences import changes
from hourglass.models.attention import GeneralAttention
from hourglass.training.fingerprint import Fingerprint
from hourglass.training.first_steps import STEPS, measure_fingerprint

WORDS = (*SMALL, "attention=luong_general", "trainer.log_every=1", "trainer.test=false")


def measure(folder: Path, *words: str) -> Fingerprint:
    return measure_fingerprint(compose_config(*WORDS, f"cache={folder / 'cache'}", *words))


def test_the_losses_are_those_of_the_training(tmp_path: Path) -> None:
    run = make_run(tmp_path, *WORDS[len(SMALL) :])
    losses = list(curves(run, "train/loss").values())[:STEPS]
    assert measure(tmp_path).train_losses == pytest.approx(losses, rel=1e-5)


@pytest.mark.more
@pytest.mark.slow
def test_it_is_the_same_again_and_whatever_is_only_drawn_or_scored(tmp_path: Path) -> None:
    first = measure(tmp_path)
    again = measure(
        tmp_path, "edges=[1, 3]", "trainer.pictures=1", "trainer.keep=3", "search.beam=2", "run_dir=elsewhere"
    )
    assert first == again
    assert first.digest == again.digest


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("word", ["decoder.dropout=0.3", "optimizer.decay=none", "trainer.select=loss", "seed=2"])
def test_it_differs_with_what_decides_the_training(tmp_path: Path, word: str) -> None:
    first, other = measure(tmp_path), measure(tmp_path, word)
    assert not first.holds(other)
    assert first.digest != other.digest


@pytest.mark.slow
def test_a_change_of_one_score_shows_in_its_variant_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    general, dot = measure(tmp_path), measure(tmp_path, "attention=luong_dot")
    plain = GeneralAttention.scores

    def altered(self: GeneralAttention, query: torch.Tensor, prepared: Any) -> torch.Tensor:
        return 1.01 * plain(self, query, prepared)

    monkeypatch.setattr(GeneralAttention, "scores", altered)
    assert not general.holds(measure(tmp_path))
    assert dot.holds(measure(tmp_path, "attention=luong_dot"))


def small(**values: Any) -> Fingerprint:
    fingerprint = Fingerprint({"encoder": {"cell": "lstm"}}, "c", "v", [1.0], [8.0, 7.0], {"a": 0.1, "b": 1e-6}, 6.5)
    return dataclasses.replace(fingerprint, **values)


def test_rounding_and_settings_of_later_versions_are_no_change() -> None:
    assert small().holds(small(train_losses=[8.00001, 7.0], dev_loss=6.50001))
    assert small().holds(small(settings={"encoder": {"cell": "lstm", "depth": 0}, "task": "translation"}))
    for other in (
        small(settings={"encoder": {"cell": "gru"}}),
        small(settings={"encoder": {}}),
        small(corpus="d"),
        small(vocabularies="w"),
        small(rates=[1.0, 1.0]),
        small(rates=[0.9999]),
        small(train_losses=[8.001, 7.0]),
        small(dev_loss=6.501),
        small(gradients={"a": 0.1, "b": 1.01e-6}),
        small(gradients={"a": 0.1}),
    ):
        assert not small().holds(other)


def test_a_run_with_the_same_fingerprint_may_lack_settings_of_later_versions() -> None:
    before = {"seed": 1, "encoder": {"cell": "lstm"}, "fingerprint": "x"}
    after = {"seed": 1, "encoder": {"cell": "lstm", "depth": 0}, "task": "t", "fingerprint": "x"}
    assert changes(before, after) == []
    assert changes(before, {**after, "seed": 2}) == ["seed"]
    assert changes({**before, "fingerprint": None}, {**after, "fingerprint": None}) == ["encoder.depth", "task"]
    assert changes(before, {**after, "fingerprint": "y"}) == ["encoder.depth", "fingerprint", "task"]
