"""Bits of trained runs: against the plain definition sentence by sentence, and the parts against the whole."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, compose_config

import train
from hourglass.bits import choose_blind, measure_bits
from hourglass.bits_report import aloud, write_bits
from hourglass.checkpoints import load_trained
from hourglass.corpus import load_corpus
from hourglass.errors import UserError
from hourglass.report import Picture, Table, to_html, to_markdown
from hourglass.runs import RunFolder, create_run, read_curves, read_json
from hourglass.settings import check_settings
from hourglass.tokenizer import BOS, EOS

# Numbers of 1 to 3 digits, and runs of seconds.
SMALL = (
    *TINY,
    "data=numbers",
    "data.train_pairs=300",
    "data.dev_pairs=30",
    "data.test_pairs=60",
    "data.shortest=3",
    "data.longest=5",
    "data.vocabulary_size=60",
    "encoder.hidden_size=16",
    "trainer.target_tokens=6000",
    "trainer.batch_tokens=200",
    "trainer.validations=5",
    "trainer.dev_sentences=12",
    "trainer.test=false",
    "trainer.select=loss",
    "trainer.log_every=1",
    "trainer.threads=1",
    "logger=csv",
    "search=greedy",
)
BLIND = ("encoder=blind", "attention=none")
pytestmark = pytest.mark.slow  # Some trainings, of seconds each.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bits")


def make(folder: Path, name: str, *overrides: str) -> RunFolder:
    small = [word for word in SMALL if "encoder=blind" not in overrides or word != "encoder.hidden_size=16"]
    words = [*small, *overrides, f"cache={folder / 'cache'}", f"run_dir={folder / name}"]
    config = compose_config(*words)
    job = train.Job(create_run(config["run_dir"], [], continues=False), config, check_settings(config))
    train.train(job)
    return job.run


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, RunFolder]:
    return {
        "blind": make(folder, "blind", *BLIND),
        "worse": make(folder, "worse", *BLIND, "optimizer.learning_rate=0.00001"),
        "none": make(folder, "none", "attention=none"),
        "plain": make(folder, "plain", "attention=luong_general", "optimizer.label_smoothing=0"),
    }


@pytest.fixture(scope="module")
def found(runs: dict[str, RunFolder]) -> dict[str, Any]:
    return measure_bits(
        choose_blind([runs["worse"], runs["blind"]]),
        {"none": [runs["none"]], "plain": [runs["plain"]]},
        baseline="none",
        edges=[1, 4, 6],
        resamples=1000,
        converged=0.01,
    )


def plain_bits(run: RunFolder, temperature: float) -> list[list[float]]:
    """Bits of each token of each test sentence, one sentence at a time."""
    trained = load_trained(run.best)
    test = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["test"]
    rows = []
    for source, target in zip(test["source"], test["target"], strict=True):
        ids = [*trained.vocabularies.source.encode([source])[0], EOS]
        wanted = [*trained.vocabularies.target.encode([target])[0], EOS]
        with torch.no_grad():
            logits = trained.model(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([[BOS, *wanted[:-1]]]))
        logs = (logits[0] / temperature).log_softmax(-1)
        rows.append([-float(step[token]) / math.log(2) for step, token in zip(logs, wanted, strict=True)])
    return rows


def test_bits_are_the_blind_models_less_the_variants(runs: dict[str, RunFolder], found: dict[str, Any]) -> None:
    blind = plain_bits(runs["blind"], found["blind"]["temperature"])
    assert found["blind"]["bits"] == pytest.approx(sum(map(sum, blind)) / 60, rel=1e-4)
    raw = sum(map(sum, plain_bits(runs["blind"], 1.0))) / 60
    assert found["blind"]["raw_bits"] == pytest.approx(raw, rel=1e-4)
    assert raw > found["blind"]["bits"]  # What smoothing costs.
    for name in ("none", "plain"):
        own = found["variants"][name]
        (temperature,) = own["temperatures"]
        assert (temperature == 1) == (name == "plain")  # Fitted where there was smoothing to undo.
        theirs = plain_bits(runs[name], temperature)
        saved = [sum(b) - sum(t) for b, t in zip(blind, theirs, strict=True)]
        assert own["bits"]["mean"] == pytest.approx(sum(saved) / 60, abs=1e-3)
        end = [b[-1] - t[-1] for b, t in zip(blind, theirs, strict=True)]
        assert own["end_bits"]["mean"] == pytest.approx(sum(end) / 60, abs=1e-3)
        first = [b[0] - t[0] for b, t in zip(blind, theirs, strict=True)]
        assert own["positions"][0]["mean"] == pytest.approx(sum(first) / 60, abs=1e-3)
        third = [b[i] - t[i] for b, t in zip(blind, theirs, strict=True) for i in (2, 3) if i < len(t) - 1]
        assert own["positions"][2]["mean"] == pytest.approx(sum(third) / len(third), abs=1e-3)


def test_a_difference_needs_no_blind_model(runs: dict[str, RunFolder], found: dict[str, Any]) -> None:
    """It is that of two likelihoods, and stays what it is when the yardstick is a worse one."""
    variants = found["variants"]
    none, plain = (plain_bits(runs[name], variants[name]["temperatures"][0]) for name in ("none", "plain"))
    value = (sum(map(sum, none)) - sum(map(sum, plain))) / 60
    assert variants["plain"]["difference"]["value"] == pytest.approx(value, abs=1e-3)
    worse = measure_bits(
        runs["worse"],
        {"none": [runs["none"]], "plain": [runs["plain"]]},
        baseline="none",
        edges=[1, 4, 6],
        resamples=1000,
        converged=0.01,
    )["variants"]["plain"]
    assert worse["bits"]["mean"] > variants["plain"]["bits"]["mean"] + 1
    assert worse["difference"]["value"] == pytest.approx(value, abs=1e-3)


def test_parts_add_up_to_the_whole(found: dict[str, Any]) -> None:
    sentences = [bucket["sentences"] for bucket in found["buckets"]]
    assert sum(sentences) == found["sentences"] == 60
    for name, own in found["variants"].items():
        by_length = sum(count * row["mean"] for count, row in zip(sentences, own["buckets"], strict=True) if row)
        assert by_length / 60 == pytest.approx(own["bits"]["mean"])
        # What there is less what is told; and the blind model's bits, less those, are told too.
        by_digits = sum(row["sentences"] * row["variants"][name]["mean"] for row in found["digits"]) / 60
        assert by_digits == pytest.approx(found["exact"] - (found["blind"]["bits"] - own["bits"]["mean"]))
    assert [row["digits"] for row in found["digits"]] == [3, 4, 5]
    assert found["digits"][0]["exact"] == pytest.approx(math.log2(3) + math.log2(900))


def test_the_best_of_several_blind_runs_is_the_yardstick(runs: dict[str, RunFolder]) -> None:
    assert choose_blind([runs["worse"], runs["blind"]]) == runs["blind"]
    assert choose_blind([runs["blind"], runs["worse"]]) == runs["blind"]


def test_what_cannot_be_subtracted_is_refused_by_name(runs: dict[str, RunFolder], folder: Path) -> None:
    with pytest.raises(UserError, match=r"none: a run of encoder=rnn sees its source"):
        choose_blind([runs["none"]])
    with pytest.raises(UserError, match="no blind run"):
        choose_blind([])
    another = make(folder, "another", "attention=none", "data.seed=5")
    smaller = make(folder, "smaller", "attention=none", "decoder.hidden_size=8")
    longer = make(folder, "longer", "attention=none", "trainer.target_tokens=9000")
    with pytest.raises(UserError, match=r"a blind run that was trained less would flatter the other"):
        measure_bits(runs["blind"], {"one": [longer]}, baseline="one", edges=[1], resamples=1000, converged=0.01)
    by_bleu = make(folder, "by_bleu", *BLIND, "trainer.select=bleu", "trainer.target_tokens=500")
    with pytest.raises(UserError, match=r"chosen by BLEU, .*: train it with trainer\.select=loss"):
        choose_blind([by_bleu])
    for run, what in ((another, "corpus"), (smaller, r"decoder\.hidden_size")):
        with pytest.raises(UserError, match=rf"{run.path.name}: another {what} than .*blind's"):
            measure_bits(runs["blind"], {"one": [run]}, baseline="one", edges=[1], resamples=1000, converged=0.01)


def test_learning_is_the_dev_curve_in_bits(runs: dict[str, RunFolder], found: dict[str, Any]) -> None:
    (curve,) = found["variants"]["none"]["learning"]
    config = load_trained(runs["none"].best).config
    dev = load_corpus(config["data"], Path(config["cache"])).splits["dev"]["target"][:12]
    pieces = load_trained(runs["none"].best).vocabularies.target.encode(dev)
    blind = read_json(runs["blind"].metrics)["dev"]["loss"]
    losses = [value for _, name, value in read_curves(runs["none"].curves) if name == "dev/loss"]
    a_sentence = sum(len(one) + 1 for one in pieces) / 12
    wanted = [(blind - loss) * a_sentence / math.log(2) for loss in losses]
    assert [bits for _, bits in curve] == pytest.approx(wanted)
    assert len(curve) == 5


def test_a_variant_that_carries_nothing_is_said_to(found: dict[str, Any]) -> None:
    text = aloud("numbers", json.loads(json.dumps(found)))
    assert "has to be told" in text
    nothing = json.loads(json.dumps(found))
    nothing["variants"]["none"]["bits"] = {"mean": -0.8, "interval": {"low": -1.0, "high": -0.6}}
    text = aloud("numbers", nothing)
    assert "(none), nothing measurable has come through (-0.8 bits [-1.00, -0.60])" in text
    assert "plateau" not in text
    assert "-0.8 bits fewer" not in text


def test_the_section_says_all_of_it(found: dict[str, Any]) -> None:
    found = json.loads(json.dumps(found))  # As the report reads it.
    blocks = write_bits("numbers", found)
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["none", "plain"]
    assert all(len(row) == len(table.head) for row in table.rows)
    pictures = [block.name for block in blocks if isinstance(block, Picture)]
    assert pictures == [
        f"numbers-bits-{of}" for of in ("difference", "by-digits", "by-length", "by-position", "learnt")
    ]
    text = to_markdown(blocks, "figures")
    assert f"{found['variants']['plain']['bits']['mean']:.1f} bits" in text
    assert "<svg" in to_html(blocks)
