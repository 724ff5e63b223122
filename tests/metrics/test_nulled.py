"""Bits of models that read with and without source: against likelihoods of single pairs, and the parts."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ATTENTION_NAMES, SMALL, compose_config, run_script, teacher_forced_nats, tiny_model, train_config

from hourglass.analysis.information import read_information
from hourglass.analysis.likelihoods import read_likelihoods
from hourglass.analysis.nulled import NulledReading, read_nulled
from hourglass.data.pieces import EOS, FIXED_PIECES
from hourglass.errors import UserError
from hourglass.metrics.likelihood import Pairs, reference_nats
from hourglass.metrics.nulled import (
    ASSUMPTION,
    PointwiseInformation,
    check_nulled,
    pointwise_information,
    without_sources,
)
from hourglass.models.checkpoint import load_trained
from hourglass.models.encoder import Memory
from hourglass.models.seq2seq import Seq2Seq
from hourglass.training.finished import FinishedRun

RANDOM = np.random.default_rng(3)
PAIRS = Pairs(
    *([RANDOM.integers(FIXED_PIECES, 20, size=RANDOM.integers(1, 9)).tolist() for _ in range(12)] for _ in range(2))
)


def read(model: Seq2Seq, pairs: Pairs) -> PointwiseInformation:
    return pointwise_information(reference_nats(model, pairs), reference_nats(model, without_sources(pairs)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_bits_are_the_likelihoods_of_single_pairs_with_and_without_source(attention: str, reverse: bool) -> None:
    """For every attention, windows and positions among them, and for an encoder that reads the source backward."""
    model = tiny_model(attention, {"encoder.reverse_source": reverse})
    information = read(model, PAIRS)
    for bits, source, target in zip(information.tokens, PAIRS.sources, PAIRS.targets, strict=True):
        saved = teacher_forced_nats(model, [], target) - teacher_forced_nats(model, source, target)
        assert bits == pytest.approx(saved.numpy() / np.log(2), abs=1e-5)
    assert np.abs(information.sentences).sum() > 1e-2


def test_an_empty_source_is_end_of_sentence_alone_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[list[int]] = []
    encode = Seq2Seq.encode

    def record(self: Seq2Seq, source: torch.Tensor, lengths: torch.Tensor) -> Memory:
        sources.extend(source.tolist())
        assert lengths.tolist() == [1] * len(source)
        return encode(self, source, lengths)

    monkeypatch.setattr(Seq2Seq, "encode", record)
    reference_nats(tiny_model(), without_sources(PAIRS))
    assert sources == [[EOS]] * 12


def test_a_blind_model_has_no_bits() -> None:
    assert read(tiny_model("none", encoder="blind"), PAIRS).sentences == pytest.approx(np.zeros(12), abs=1e-6)


def test_parts_by_hand() -> None:
    """A piece of two words gives each the half; a word of two pieces has the bits of both; the end is no word."""
    information = PointwiseInformation([np.array([1.0, 4.0, -2.0, 0.5]), np.array([3.0, 0.25])])
    words = information.words([[range(0, 1), range(1, 3), range(2, 3)], [range(0, 1)]])
    assert [own.tolist() for own in words] == [[1.0, 2.0, 0.0], [3.0]]
    assert information.sentences.tolist() == [3.5, 3.25]
    assert information.ends.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="belongs to no word"):
        information.words([[range(0, 1), range(0), range(0, 1)], [range(0, 1)]])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        information.words([[range(0, 1)], [range(0, 1)]])


def test_a_run_that_has_read_all_its_sources_is_refused() -> None:
    check_nulled("runs/new", {"trainer": {"null_source": 0.1}})
    for trainer in ({"null_source": 0.0}, {}):  # The second is of an earlier version.
        with pytest.raises(UserError, match=r"^runs/old: trained with trainer\.null_source=0, so that [^\n]*$"):
            check_nulled("runs/old", {"trainer": trainer})


# ---- A run -----------------------------------------------------------------------------------------------------------

NUMBERS = (
    *(word for word in SMALL if not word.startswith("data")),
    *("data=numbers", "data.train_pairs=300", "data.dev_pairs=24", "data.test_pairs=70", "data.shortest=3"),
    *("data.longest=6", "data.vocabulary_size=60", "trainer.test=false", "trainer.select=loss", "edges=[1,5,9]"),
    "trainer.null_source=0.3",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("nulled")
    words = (*NUMBERS, "attention=luong_general", "optimizer.label_smoothing=0")
    made = train_config(compose_config(*words, f"cache={folder / 'cache'}", f"run_dir={folder / 'run'}"))
    return FinishedRun.open(made.path)


@pytest.fixture(scope="module")
def reading(run: FinishedRun) -> NulledReading:
    return read_nulled(run)


@pytest.mark.slow
def test_words_of_a_run_are_those_of_its_references_and_add_up(run: FinishedRun, reading: NulledReading) -> None:
    trained, test = load_trained(run.folder.best), run.corpus.splits["test"]
    assert reading.share == 0.3
    assert reading.temperatures == (1.0, 1.0)
    assert len(reading.sentences) == 70
    for row, name, source, target in zip(reading.sentences, test["id"], test["source"], test["target"], strict=True):
        assert (row.id, row.source_words, row.words) == (name, len(source.split()), target.split())
        (ids,), (wanted,) = trained.vocabularies.source.encode([source]), trained.vocabularies.target.encode([target])
        saved = teacher_forced_nats(trained.model, [], wanted) - teacher_forced_nats(trained.model, ids, wanted)
        bits = (saved / np.log(2)).tolist()
        assert row.total == pytest.approx(sum(bits), abs=1e-3)
        assert row.end_bits == pytest.approx(bits[-1], abs=1e-4)
        # A piece begins a word where it is spelt with U+2581; no piece has two words here.
        starts = np.cumsum([piece.startswith("\u2581") for piece in trained.vocabularies.target.pieces(wanted)]) - 1
        assert row.bits == pytest.approx(np.bincount(starts, bits[:-1]), abs=1e-4)


@pytest.mark.more
@pytest.mark.slow
def test_each_side_has_the_temperature_that_is_best_on_dev(tmp_path: Path) -> None:
    words = (*NUMBERS, "attention=none", "optimizer.label_smoothing=0.3", "optimizer.learning_rate=0.02")
    made = train_config(compose_config(*words, f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"))
    smoothed = FinishedRun.open(made.path)
    reading = read_nulled(smoothed)
    trained, splits = smoothed.trained, smoothed.corpus.splits
    dev, test = (
        Pairs.encode(trained.vocabularies, splits[name]["source"][:], splits[name]["target"][:])
        for name in ("dev", "test")
    )

    def bits(pairs: Pairs, temperature: float) -> float:
        return sum(values.sum() for values in reference_nats(trained.model, pairs, temperature=temperature)) / np.log(2)

    for pairs, best in zip((dev, without_sources(dev)), reading.temperatures, strict=True):
        assert bits(pairs, best) < min(bits(pairs, 0.98 * best), bits(pairs, 1.02 * best))
    expected = bits(without_sources(test), reading.temperatures[1]) - bits(test, reading.temperatures[0])
    assert sum(row.total for row in reading.sentences) == pytest.approx(expected, rel=1e-3, abs=0.1)


@pytest.mark.more
@pytest.mark.slow
def test_the_command_prints_and_writes_the_bits(run: FinishedRun, reading: NulledReading, tmp_path: Path) -> None:
    done = run_script("pipelines/nulled.py", str(run.path), "sentences=2", f"out={tmp_path / 'words'}")
    assert done.returncode == 0, done.stderr
    total = np.mean([row.total for row in reading.sentences])
    assert re.search(rf"^{re.escape(str(run.path))}: {total:.2f} \[.*\] bits per sentence, ", done.stdout)
    printed = [line.split() for line in done.stdout.splitlines() if re.match(r" +[\d+-]+ words", line)]
    inside = [row.total for row in reading.sentences if 5 <= row.source_words <= 8]
    assert f"{np.mean(inside):.2f}" in next(line for line in printed if line[0] == "5-8")
    for at in (0, 35):
        row = reading.sentences[at]
        shown = " ".join(f"{word} ({bits:.1f})" for word, bits in zip(row.words, row.bits, strict=True))
        assert f"  {row.id}: {shown} (end of sentence {row.end_bits:.1f})\n" in done.stdout
    head, *lines = (tmp_path / "words" / "run.tsv").read_text().splitlines()
    assert head.split("\t") == ["id", "position", "word", "bits"]
    assert len(lines) == sum(len(row.words) + 1 for row in reading.sentences)
    assert lines[0].split("\t")[:3] == [reading.sentences[0].id, "1", reading.sentences[0].words[0]]
    written = sum(float(line.split("\t")[3]) for line in lines) / len(reading.sentences)
    assert written == pytest.approx(total, abs=1e-2)


@pytest.mark.more
@pytest.mark.slow
def test_bits_of_a_comparison_are_those_of_the_reading(
    run: FinishedRun, reading: NulledReading, tmp_path: Path
) -> None:
    words = [word for word in NUMBERS if not word.startswith(("encoder.hidden", "trainer.null"))]
    words += ["encoder=blind", "attention=none", "optimizer.label_smoothing=0", f"run_dir={tmp_path / 'blind'}"]
    made = train_config(compose_config(*words, f"cache={run.config['cache']}"))
    done = run_script("pipelines/bits.py", str(made.path), str(run.path), f"out={tmp_path / 'bits'}")
    assert done.returncode == 0, done.stderr
    own = read_information(tmp_path / "bits" / "information.json", "x").variants["luong_general"].nulled
    assert own is not None
    rows = reading.sentences
    assert own.share == 0.3
    assert own.bits.mean == pytest.approx(np.mean([row.total for row in rows]), abs=1e-4)
    words_of_all = sum(len(row.words) for row in rows)
    assert own.word_bits.mean == pytest.approx(sum(row.bits.sum() for row in rows) / words_of_all, abs=1e-4)
    for bucket, (low, high) in zip(own.by_length, ((1, 4), (5, 8), (9, 99)), strict=True):
        inside = [row.total for row in rows if low <= row.source_words <= high]
        assert (bucket is None) == (not inside)
        assert bucket is None or bucket.mean == pytest.approx(np.mean(inside), abs=1e-4)
    assert f"  source nulled (trainer.null_source=0.3): {own.bits.mean:.2f} bits per sentence [" in done.stdout
    assert ASSUMPTION in done.stdout


@pytest.mark.slow
def test_a_run_without_nulled_sources_has_no_such_bits(run: FinishedRun, tmp_path: Path) -> None:
    words = [word for word in NUMBERS if not word.startswith("trainer.null")]
    words += ["attention=none", f"cache={run.config['cache']}", f"run_dir={tmp_path / 'plain'}"]
    plain = FinishedRun.open(train_config(compose_config(*words)).path)
    assert read_likelihoods(plain, plain.prepared).pointwise is None
    with pytest.raises(UserError, match=r"/plain: trained with trainer\.null_source=0"):
        read_nulled(plain)
