"""A run with a frozen encoder trains a decoder on the encoder of another run, which does not move."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import compose_config, kill_at_step, make_run, weights

from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.batches import Part
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained, read_checkpoint, write_checkpoint
from hourglass.models.encoder import Memory, RecurrentEncoder
from hourglass.runs.folder import RunFolder, write_config
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import check_frozen_encoder

OTHER = ("attention=none", "trainer.target_tokens=1000", "trainer.validations=2", "trainer.test=false")
OWN = ("attention=fixed", "trainer.target_tokens=1000", "trainer.validations=2", "trainer.test=false")


def other_run(folder: Path, *words: str) -> RunFolder:
    return make_run(folder / "other", *OTHER, f"cache={folder / 'cache'}", *words)


def own_run(folder: Path, other: RunFolder, name: str = "own", *words: str) -> RunFolder:
    return make_run(folder / name, *OWN, f"cache={folder / 'cache'}", f"frozen_encoder={other.path}", *words)


@pytest.mark.parametrize(
    "words",
    [
        (),
        pytest.param(("decoder.tie=output", "optimizer=sgd"), marks=[pytest.mark.slow, pytest.mark.more]),
        pytest.param(("seed=2", "init_range=0.1"), marks=[pytest.mark.slow, pytest.mark.more]),
    ],
)
def test_the_encoder_is_that_of_the_other_run_and_the_rest_is_trained(tmp_path: Path, words: tuple[str, ...]) -> None:
    other = other_run(tmp_path, *(word for word in words if word.startswith("decoder")))
    own = own_run(tmp_path, other, "own", *words)
    before, after, best = weights(other.best), weights(own.last), weights(own.best)
    frozen = {name for name in before if name.startswith("encoder.")}
    standardised = {"encoder.summarise.weight", "encoder.summarise.bias"}
    assert {"encoder.embedding.weight", *standardised} < frozen
    for name in frozen:
        assert torch.equal(before[name], after[name]) == (name not in standardised)
        assert torch.equal(after[name], best[name])
    # With decoder.tie=all, the target embedding was the source's in the other run: here it is a fresh one.
    assert not torch.equal(after["embedding.weight"], after["encoder.embedding.weight"])
    assert torch.equal(after["output.weight"], after["embedding.weight"])
    model = load_trained(own.best).model
    assert torch.equal(model.state_dict()["encoder.embedding.weight"], before["encoder.embedding.weight"])
    assert model.encoder.embedding is not model.embedding


def test_the_vector_is_that_of_the_other_run_in_other_units(tmp_path: Path) -> None:
    """Each component has mean 0 and standard deviation 1 over training, and is a linear map of what it was."""
    other = other_run(tmp_path, "trainer.target_tokens=200", "trainer.validations=1")
    own = own_run(tmp_path, other, "own", "trainer.target_tokens=200", "trainer.validations=1")
    train = FinishedRun.open(own.path).prepared.splits["train"]
    rows = evenly_spaced(len(train), 2000)
    batch = train[Part(np.array(rows), step_tokens=0)]
    with torch.no_grad():
        mine, theirs = (
            load_trained(run.best).model.encode(batch.source, batch.source_lengths).summary.double().numpy()
            for run in (own, other)
        )
    assert abs(theirs.std(0) - 1).max() > 0.1
    assert mine.mean(0) == pytest.approx(0, abs=1e-4)
    assert mine.std(0) == pytest.approx(1, abs=1e-4)
    for component in range(mine.shape[1]):
        slope, start = np.polyfit(theirs[:, component], mine[:, component], 1)
        assert mine[:, component] == pytest.approx(slope * theirs[:, component] + start, abs=1e-3)
        assert slope > 0


@pytest.mark.slow
def test_all_other_weights_move(tmp_path: Path) -> None:
    other = other_run(tmp_path)
    short = own_run(tmp_path, other, "short", "trainer.target_tokens=200", "trainer.validations=1")
    own = own_run(tmp_path, other)
    before, after = weights(short.last), weights(own.last)
    still = {name for name in after if torch.equal(before[name], after[name])}
    assert still == {name for name in after if name.startswith("encoder.")}


@pytest.mark.more
@pytest.mark.slow
def test_the_encoder_is_in_evaluation_mode_in_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = other_run(tmp_path, "encoder.dropout=0.5")
    modes: list[tuple[bool, bool]] = []
    forward = RecurrentEncoder.forward

    def watched(self: RecurrentEncoder, source: torch.Tensor, lengths: torch.Tensor) -> Memory:
        memory = forward(self, source, lengths)
        modes.append((self.training or self.dropout.training, memory.summary.requires_grad))
        with torch.random.fork_rng(), torch.no_grad():  # Without dropout, there is nothing to draw.
            torch.testing.assert_close(forward(self, source, lengths).summary, memory.summary)
        return memory

    monkeypatch.setattr(RecurrentEncoder, "forward", watched)
    own_run(tmp_path, other, "own", "encoder.dropout=0.5")
    assert len(modes) > 10
    assert not any(mode or gradient for mode, gradient in modes)


@pytest.mark.more
@pytest.mark.slow
def test_a_killed_run_goes_on_without_the_other(tmp_path: Path) -> None:
    other = other_run(tmp_path)
    words = ("trainer.checkpoint_every=2", "if_exists=continue")
    expected = weights(own_run(tmp_path, other, "whole", *words).last)
    kill_at_step(6, lambda: own_run(tmp_path, other, "killed", *words))
    shutil.rmtree(other.path)
    own = weights(own_run(tmp_path, other, "killed", *words).last)
    assert all(torch.equal(own[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["encoder.hidden_size=64", "encoder.reverse_source=true"], ["hidden_size=256 encoder.reverse_source=false"]),
        (["encoder=blind", "attention=none"], ["encoder=blind", "no weights"]),
        (["frozen_encoder=nowhere"], ["frozen_encoder=nowhere: not a run folder"]),
        (["data.clauses=1"], ["another corpus or vocabulary: set data.clauses=3"]),
        (["data.vocabulary_size=500", "tokenizer.model=char"], ["set data.vocabulary_size=4000 tokenizer.model="]),
        (["data=numbers"], ["another corpus or vocabulary: set data=kjv_web"]),
    ],
)
def test_another_encoder_is_refused_by_name(tmp_path: Path, words: list[str], names: list[str]) -> None:
    other = RunFolder(tmp_path / "other")
    write_config(other, compose_config("attention=none"))
    for file in (other.best, other.metrics):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    check_frozen_encoder(compose_config("attention=fixed", f"frozen_encoder={other.path}", "data.curriculum=0.5"))
    with pytest.raises(UserError) as error:
        check_frozen_encoder(compose_config("attention=fixed", f"frozen_encoder={other.path}", *words))
    assert str(error.value).startswith("frozen_encoder=")
    assert all(name in str(error.value) for name in names)
    other.metrics.unlink()
    with pytest.raises(UserError, match="not finished"):
        check_frozen_encoder(compose_config("attention=fixed", f"frozen_encoder={other.path}"))


def test_a_refusal_of_another_kind_of_encoder_can_be_followed(tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    write_config(other, compose_config("attention=none", "encoder=transformer", "encoder.heads=2", "encoder.dropout=0"))
    for file in (other.best, other.metrics):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    words = ["attention=fixed", f"frozen_encoder={other.path}"]
    with pytest.raises(UserError) as error:
        check_frozen_encoder(compose_config(*words))
    advice = str(error.value).partition(": set ")[2].split()
    assert advice[0] == "encoder=transformer"
    check_frozen_encoder(compose_config(*words, *advice))


@pytest.mark.more
@pytest.mark.slow
def test_an_encoder_of_another_corpus_or_shape_is_refused(tmp_path: Path) -> None:
    other = other_run(tmp_path, "attention=luong_dot", "decoder.start=zero")
    with pytest.raises(UserError, match=r"its encoder has other weights.*summarise.*decoder.start"):
        own_run(tmp_path, other)
    content = read_checkpoint(other.best)
    content["hourglass"]["corpus_digest"] = "another"
    write_checkpoint(content, other.best)
    with pytest.raises(UserError, match="another corpus"):
        own_run(tmp_path, other, "second")
