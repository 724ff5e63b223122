"""Probes of the vector of a run, and a fresh decoder on its frozen encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import compose_config, make_run, run_script, teacher_forced_nats, tiny_model, weights
from num2words import num2words

from hourglass.analysis.bits import find_frozen, owners_of_encoders
from hourglass.analysis.explorer import explore
from hourglass.analysis.frozen import check_joint, fresh_config, read_frozen, train_fresh
from hourglass.analysis.probes import (
    AT_POSITION,
    ask,
    check_probed,
    drawn_numbers,
    random_model,
    read_probes,
    read_vectors,
)
from hourglass.corpora.corpus import check_recipe
from hourglass.data.pieces import EOS
from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder, write_config
from hourglass.training.finished import FinishedRun

WORDS = (
    "data.train_pairs=800",
    "data.shortest=3",
    "optimizer.label_smoothing=0",
    "trainer.test=false",
    "trainer.validations=2",
)


def test_a_frozen_encoder_is_known_by_its_run() -> None:
    def run_of(name: str, encoder: str | None = None) -> FinishedRun:
        return FinishedRun(RunFolder(Path("runs") / name), {"frozen_encoder": encoder} if encoder else {})

    none, others = [run_of("none-1"), run_of("none-2")], [run_of("fixed-1")]
    fresh = [run_of("a", "runs/none-1"), run_of("b", str(Path("runs/none-2").resolve()))]
    assert find_frozen({"none": none, "fixed": others, "fresh": fresh}) == {"fresh": "none"}
    assert find_frozen({"fixed": others, "fresh": fresh}) == {"fresh": "none-1"}  # That run is not compared.
    mixed = [fresh[0], run_of("c", "runs/fixed-1")]
    with pytest.raises(UserError, match="mixed: its seeds have the frozen encoders of fixed and none"):
        find_frozen({"none": none, "fixed": others, "mixed": mixed})


def test_a_fresh_decoder_is_compared_with_the_own_decoders_of_its_encoders(tmp_path: Path) -> None:
    def run_of(name: str, **config: Any) -> FinishedRun:
        return FinishedRun(RunFolder(tmp_path / name), config)

    owners = [run_of(f"none-{seed}", seed=seed) for seed in (1, 2, 3)]
    fresh = run_of("fresh", seed=7, frozen_encoder=str(tmp_path / "none-2"))
    assert owners_of_encoders([fresh], owners) == [owners[1]]
    # A copy elsewhere has the seed of the run that it is of.
    kept = tmp_path / "models" / "none"
    kept.mkdir(parents=True)
    write_config(RunFolder(kept), compose_config("seed=3"))
    assert owners_of_encoders([run_of("a", seed=1, frozen_encoder=str(kept))], owners) == [owners[2]]
    # Nothing is known of one that is gone.
    assert owners_of_encoders([run_of("b", seed=1, frozen_encoder=str(tmp_path / "gone"))], owners) == owners


def test_questions_have_the_answers_that_the_sentences_have() -> None:
    draws = np.random.default_rng(1)
    items = [[f"w{draws.integers(100)}" for _ in range(draws.integers(1, 6))] for _ in range(2000)]
    items = [[*item, "always"] for item in items]
    number, has, first, fourth = ask(items, "word", [1, 4, 7])
    assert [question.name for question in (number, has, first, fourth)] == [
        *("number of words", "which of 50 words", "word 1", "word 4"),
    ]
    for row, item in enumerate(items):
        assert number.labels[row, 0] == len(item) - 2  # From 2 words.
    assert number.classes == 5
    counts = {f"w{word}": sum(f"w{word}" in item for item in items) for word in range(100)}
    assert sorted(has.labels.sum(0).tolist(), reverse=True) == sorted(counts.values(), reverse=True)[:50]
    assert has.classes == 2
    # A label at a position stands for one word, the last for all others; the same word has the same label.
    for question, position in ((first, 1), (fourth, 4)):
        assert question.rows.tolist() == [row for row, item in enumerate(items) if len(item) >= position]
        words: dict[int, set[str]] = {}
        for row, label in zip(question.rows.tolist(), question.labels[:, 0].tolist(), strict=True):
            words.setdefault(label, set()).add(items[row][position - 1])
        assert question.classes == len(words) == AT_POSITION + 1
        assert [len(own) for label, own in words.items() if label < AT_POSITION] == [1] * AT_POSITION
        assert not words[AT_POSITION] & set().union(*(own for label, own in words.items() if label < AT_POSITION))


def test_a_question_that_hardly_a_sentence_can_answer_is_not_asked() -> None:
    items = [["a", "b"]] * 600 + [["c", "b", "d"]] * 400
    names = [question.name for question in ask(items, "word", [1, 2, 3])]
    assert names == ["number of words", "which of 2 words", "word 1"]  # The second is always b; 400 have a third.


def test_vectors_are_those_of_each_source_alone() -> None:
    model = tiny_model("none").float()
    ids = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5]]
    vectors = read_vectors(model, ids)
    for row, source in enumerate(ids):
        alone = model.encode(torch.tensor([[*source, EOS]]), torch.tensor([len(source) + 1])).summary[0]
        torch.testing.assert_close(vectors[row], alone)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("probes")
    return FinishedRun.open(make_run(folder, *WORDS, "attention=none").path)


@pytest.fixture(scope="module")
def joint(run: FinishedRun) -> FinishedRun:
    folder = run.path.parent
    return FinishedRun.open(make_run(folder, *WORDS, "attention=fixed").path)


@pytest.mark.more
@pytest.mark.slow
def test_random_weights_are_those_before_training(run: FinishedRun) -> None:
    own, again, trained = random_model(run), random_model(run), run.trained.model
    for first, second, other in zip(own.parameters(), again.parameters(), trained.parameters(), strict=True):
        assert torch.equal(first, second)
        assert first.shape == other.shape
    assert not torch.equal(own.encoder.embedding.weight, trained.encoder.embedding.weight)  # type: ignore[union-attr, arg-type]
    # Not of the dropout of training.
    assert not own.training
    result = read_probes(run, 500, [1, 2])
    assert [code.question for code in result.codes][-2:] == ["word 1", "word 2"]
    assert all(code.sentences == 500 for code in result.codes if code.question == "word 1")
    assert result.width == 8
    assert result.codes[0].question == "number of words"
    assert result.codes[0].classes == 4  # Of 3 to 6, which follow each other in the corpus.
    assert result.codes[0].saved == pytest.approx(result.codes[0].shuffled - result.codes[0].trained)


def needed(run: FinishedRun) -> np.ndarray:
    """Return the bits of each test sentence, one at a time."""
    split, vocabularies = run.corpus.splits["test"], run.trained.vocabularies
    sides = vocabularies.source.encode(split["source"][:]), vocabularies.target.encode(split["target"][:])
    pairs = zip(*sides, strict=True)
    return np.array([float(teacher_forced_nats(run.trained.model, *pair).sum()) / np.log(2) for pair in pairs])


@pytest.mark.slow
def test_the_fresh_decoder_has_the_encoder_and_settings_of_the_run(run: FinishedRun, joint: FinishedRun) -> None:
    fresh = train_fresh(run)
    assert fresh.path.name == "none-frozen"
    assert fresh.config["decoder"]["query"] == joint.config["decoder"]["query"] == "previous"
    changed = {key for key in fresh.config if fresh.config[key] != run.config.get(key)}
    assert changed == {"attention", "decoder", "frozen_encoder", "run_dir"}
    before, after = weights(run.folder.best), weights(fresh.folder.best)
    moved = {name for name in before if name.startswith("encoder.") and not torch.equal(before[name], after[name])}
    assert moved == {"encoder.summarise.weight", "encoder.summarise.bias"}  # Its vector is standardised.
    at = fresh.folder.metrics.stat().st_mtime_ns
    assert train_fresh(run).folder.metrics.stat().st_mtime_ns == at  # Not trained again.
    reading = read_frozen(run, fresh, joint, 200)
    own, by_fresh, by_joint = map(needed, (run, fresh, joint))
    assert reading.own_bits.mean == pytest.approx(own.mean(), rel=1e-5)
    assert reading.unused.value == pytest.approx((own - by_fresh).mean(), rel=1e-3, abs=1e-4)
    assert reading.lacking is not None
    assert reading.lacking.value == pytest.approx((by_fresh - by_joint).mean(), rel=1e-3, abs=1e-4)
    with pytest.raises(UserError, match=r"joint=.*not a run of attention=fixed"):
        check_joint(run, run)
    with pytest.raises(UserError, match=r"joint=.*not a run of attention=fixed"):
        check_joint(run, fresh)


@pytest.mark.more
@pytest.mark.slow
def test_the_command_prints_and_writes_what_the_encoder_has_put_in(
    run: FinishedRun, joint: FinishedRun, tmp_path: Path
) -> None:
    words = [str(run.path), "fresh=true", f"joint={joint.path}", "sentences=500", "positions=[1]"]
    done = run_script("pipelines/probes.py", *words, f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "probes.json").read_text())
    (frozen,) = written["frozen"]
    assert f"{frozen['unused']['value']:.2f} bits" in done.stdout
    assert "were in the vector and unused" in done.stdout
    assert "were lost by the encoder" in done.stdout
    assert "| word 1 | 500 |" in done.stdout
    assert "word 1" in (tmp_path / "report.html").read_text()
    wrong = run_script("pipelines/probes.py", str(run.path), f"joint={joint.path}")
    assert wrong.stderr.startswith("error: joint=")
    # The decoder's state, of the same run; the explorer finds the probes.
    done = run_script("pipelines/probes.py", str(run.path), "state=true", "sentences=500", "positions=[1]")
    assert done.returncode == 0, done.stderr
    assert "| before the first |" in done.stdout
    page = tmp_path / "page.html"
    explore([str(run.path)], 2, page)
    assert '"probe":{"sentences":500' in page.read_text(encoding="utf-8")
    wrong = run_script("pipelines/probes.py", str(run.path), "state=true", "fresh=true")
    assert wrong.stderr.startswith("error: state=true probes the decoder's state, and fresh=true is of the vector")


@pytest.mark.slow
def test_a_run_without_a_vector_is_refused(run: FinishedRun) -> None:
    zero = FinishedRun(run.folder, {**run.config, "decoder": {**run.config["decoder"], "start": "zero"}})
    with pytest.raises(UserError, match="there is none to probe"):
        check_probed(zero)
    with pytest.raises(UserError, match=r"^sentences=200: probes need 500 or more"):
        read_probes(run, 200, [1])
    blind = FinishedRun(run.folder, {**run.config, "encoder": {"name": "blind"}})
    for check in (check_probed, fresh_config):
        with pytest.raises(UserError, match="has no vector to probe"):
            check(blind)


def test_the_digits_of_a_number_are_those_that_its_words_write() -> None:
    words = ("data=numbers", "data.train_pairs=50", "data.dev_pairs=4", "data.test_pairs=4", "data.longest=6")
    config = compose_config(*words)
    numbers = drawn_numbers(config)
    _, recipe = check_recipe(config["data"])
    pairs = list(recipe.pairs("train"))
    assert len(numbers) == len(pairs) == 50
    for pair in pairs:
        assert num2words(int(numbers[pair.id]), lang=config["data"]["source"]) == pair.source
