"""Bits of trained runs: against the plain definition sentence by sentence, and the parts against the whole."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, TINY, compose_config

import train
from hourglass.analysis.bits import choose_blind, measure_bits
from hourglass.corpora.corpus import load_corpus
from hourglass.data.pieces import BOS, EOS
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.reports.bits import aloud, explanations, write_bits
from hourglass.reports.document import Picture, Table, to_html, to_markdown
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder, create_run
from hourglass.system.files import read_json
from hourglass.training.job import Job
from hourglass.training.settings import check_settings

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
PLAIN = "optimizer.label_smoothing=0"
BLIND = ("encoder=blind", "attention=none")
pytestmark = pytest.mark.slow  # Some trainings, of seconds each.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bits")


def make(folder: Path, name: str, *overrides: str) -> RunFolder:
    small = [word for word in SMALL if "encoder=blind" not in overrides or word != "encoder.hidden_size=16"]
    return made(folder / name, small, *overrides)


def made(path: Path, words: list[str], *overrides: str) -> RunFolder:
    config = compose_config(*words, *overrides, f"cache={path.parent / 'cache'}", f"run_dir={path}")
    job = Job(create_run(config["run_dir"], [], continues=False), config, check_settings(config))
    train.train(job)
    return job.run


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, RunFolder]:
    return {
        "blind": make(folder, "blind", *BLIND),
        "worse": make(folder, "worse", *BLIND, "optimizer.learning_rate=0.00001"),
        "none": make(folder, "none", "attention=none"),
        "plain": make(folder, "plain", "attention=luong_general", PLAIN),
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


def plain_bits(run: RunFolder, temperature: float, joined: int = 0) -> list[list[float]]:
    """Bits of each token of each test sentence, one at a time; or of so many joined, none ending where one begins."""
    group = joined or 1
    trained = load_trained(run.best)
    test = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["test"]
    sides = (
        [" ".join(test[side][first : first + group]) for first in range(0, len(test), group)]
        for side in ("source", "target")
    )
    rows = []
    for number, (source, target) in enumerate(zip(*sides, strict=True)):
        ids = [*trained.vocabularies.source.encode([source])[0], EOS]
        wanted = [*trained.vocabularies.target.encode([target])[0], EOS]
        with torch.no_grad():
            logits = trained.model(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([[BOS, *wanted[:-1]]]))
        logs = (logits[0] / temperature).log_softmax(-1)
        if joined:
            before = 0
            for one in test["target"][number * group : (number + 1) * group]:
                logs[before] -= math.log(1 - math.exp(logs[before, EOS]))
                before += len(trained.vocabularies.target.encode([one])[0])
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
    chosen = make(folder, "chosen", "attention=none", "trainer.select=bleu")
    wrong = ((another, "corpus"), (smaller, r"decoder\.hidden_size"), (chosen, r"trainer\.select"))
    for run, what in wrong:
        with pytest.raises(UserError, match=rf"{run.path.name}: another {what} than .*blind's"):
            measure_bits(runs["blind"], {"one": [run]}, baseline="one", edges=[1], resamples=1000, converged=0.01)


def test_joined_sentences_are_compared_with_the_same_ones_apart(folder: Path) -> None:
    words = [f"w{number}" for number in range(40)]
    for name, count, shift in (("train", 120, 0), ("dev", 12, 5), ("test", 10, 11)):
        rows = [" ".join(words[(shift + 7 * row + 3 * at) % 40] for at in range(2 + row % 5)) for row in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line} {name}{row}\n" for row, line in enumerate(rows)))
        (folder / f"{name}.de").write_text("".join(f"{name}{row} {line}\n" for row, line in enumerate(rows)))
    text = [f"data.{name}={folder / name}" for name in ("train", "dev", "test")]
    small = [word for word in SMALL if not word.startswith("data")]
    given = ["data=text", "data.source=de", "data.target=en", *text, "data.vocabulary_size=80", *small]
    runs = {
        "blind": made(folder / "text-blind", [word for word in given if word != "encoder.hidden_size=16"], *BLIND),
        "none": made(folder / "text-none", given, "attention=none"),
    }
    found = measure_bits(
        runs["blind"], {"none": [runs["none"]]}, baseline="none", edges=[1], resamples=1000, converged=0.01
    )
    own = found["variants"]["none"]
    bits = {}
    for count in (1, 2, 4):
        blind, none = (
            # Eight of ten sentences: whole groups of four; and no ends of sentence.
            sum(sum(row[:-1]) for row in plain_bits(runs[name], temperature, count)[: 8 // count]) / 8
            for name, temperature in (("blind", found["blind"]["temperature"]), ("none", own["temperatures"][0]))
        )
        bits[count] = blind - none
        joined = own["joined"][str(count)]
        assert found["blind"]["joined"][str(count)] == pytest.approx(blind, rel=1e-4)
        assert joined["mean"] == pytest.approx(bits[count], abs=1e-3)
        assert joined["gain"]["mean"] == pytest.approx(bits[count] - bits[1], abs=1e-3)
    (table,) = (block for block in write_bits("text", json.loads(json.dumps(found))) if isinstance(block, Table))
    assert f"{bits[2] - bits[1]:+.1f} " in " ".join(table.rows[0])


def test_runs_that_are_no_seeds_of_one_variant_are_refused(runs: dict[str, RunFolder], folder: Path) -> None:
    def measure(*variant: RunFolder) -> None:
        measure_bits(runs["blind"], {"one": variant}, baseline="one", edges=[1], resamples=1000, converged=0.01)

    with pytest.raises(UserError, match=r"plain: another attention, optimizer than .*none's: runs of one variant"):
        measure(runs["none"], make(folder, "second/plain", "attention=luong_general", "seed=2", PLAIN))
    with pytest.raises(UserError, match=r"none: seed 1, as .*none has: runs of one variant \(one\) are of several"):
        measure(runs["none"], runs["none"])
    once = make(folder, "once", "attention=none", "trainer.validations=1")
    with pytest.raises(UserError, match=r"once: convergence is judged from dev losses .* set trainer\.validations=5"):
        measure(once)


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


@pytest.fixture
def said(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, as the report reads it, and to be changed."""
    return dict(json.loads(json.dumps(found)))


def reads(mean: float, *seeds: float) -> dict[str, Any]:
    """A reading of so many bits, one either way."""
    spread = {"low": mean - 2, "high": mean + 2} if len(seeds) > 1 else None
    return {
        "mean": mean,
        "by_seed": seeds or [mean],
        "interval": {"low": mean - 1, "high": mean + 1},
        "own_spread": spread,
    }


def as_of_text(said: dict[str, Any]) -> None:
    """Make of it a corpus whose bits are not known exactly."""
    said["exact"] = None
    for own in said["variants"].values():
        own["exact_bits"] = None


def test_the_winner_is_who_did_best_on_dev(said: dict[str, Any]) -> None:
    variants = said["variants"]
    variants["other"] = json.loads(json.dumps(variants["plain"]))
    variants["other"]["bits"]["mean"] += 100
    variants["other"]["exact_bits"]["mean"] += 100
    for row in said["digits"]:
        row["variants"]["other"] = row["variants"]["plain"]
    variants["other"]["dev_loss"] = [loss + 0.1 for loss in variants["plain"]["dev_loss"]]
    assert "a decoder that may look back (plain)" in aloud("numbers", said)
    variants["other"]["dev_loss"] = [loss - 0.1 for loss in variants["plain"]["dev_loss"]]
    assert "a decoder that may look back (other)" in aloud("numbers", said)


def test_more_is_not_fewer(said: dict[str, Any]) -> None:
    said["variants"]["plain"]["difference"]["value"] = -0.8
    assert (
        "(plain) needs 0.8 bits more a sentence than one that is given one fixed vector at its start (none)"
        in aloud("numbers", said)
    )


def test_who_has_no_choice_is_not_said_to_look_back(said: dict[str, Any]) -> None:
    """Whatever it is called: two runs of one attention go by their paths."""
    variants = said["variants"]
    said["variants"] = {"runs/A": variants["none"], "runs/B": {**variants["plain"], "attention": "none"}}
    said["baseline"] = "runs/A"
    for row in said["digits"]:
        row["variants"] = {"runs/A": row["variants"]["none"], "runs/B": row["variants"]["plain"]}
    text = aloud("numbers", said)
    assert "may look back" not in text
    assert "one fixed vector at its start (runs/B)" in text
    assert write_bits("numbers", said)


@pytest.mark.parametrize(
    ("saturation", "words"),
    [
        (
            {"plateau": None, "slope": -0.4},
            r"no plateau can be shown below 9 words; .* it is -0\.40 bits \[-1\.00, 1\.00\] \(over test sentences\)",
        ),
        (
            {"plateau": 12.0, "flat": True},
            r"same at all lengths seen, from 2 words to 9: 12\.0 bits, between -1\.0 and 1\.0 \(95 %, .*\), to which",
        ),
        (
            {"plateau": 12.0, "flat": False},
            r"flattens at 12\.0 bits, between -1\.0 and 1\.0 \(95 %, over test sentences\) as sent",
        ),
    ],
)
def test_a_plateau_is_put_in_words(said: dict[str, Any], saturation: dict[str, Any], words: str) -> None:
    one = {"low": -1.0, "high": 1.0}
    own = said["variants"]["none"]
    own["exact_bits"] = reads(5.0)
    own["saturation"] |= {"slope_interval": one, "plateau_interval": one, "shortest": 2.0, "longest": 9.0, **saturation}
    assert re.search(words, aloud("numbers", said))


def test_convergence_is_said_of_each(said: dict[str, Any]) -> None:
    for own in said["variants"].values():
        own["converged"] = [True]
    said["blind"] |= {"converged": False, "last_fifth_bits": 3.21}
    assert "blind decoder: the last fifth" not in aloud("numbers", said)  # Its bits are not what is read there.
    as_of_text(said)
    text = aloud("numbers", said)
    assert "Nor had the blind decoder: the last fifth of its budget still saved it 3.2 bits a sentence" in text
    assert "more training may raise" not in text


def test_how_sure_is_said(said: dict[str, Any]) -> None:
    """With several trainings their spread counts, and each is named."""
    as_of_text(said)
    said["blind"]["converged"] = True
    own = said["variants"]["none"]
    own["bits"] = reads(5.0)
    alone = "has to be told 5.0 bits fewer, between 4.0 and 6.0 (95 %, over test sentences; another training may differ"
    assert alone in aloud("numbers", said)
    own["bits"] = reads(5.0, 4.5, 5.5)
    assert (
        "fewer, between 3.0 and 7.0 (95 %, over test sentences and trainings; its trainings alone 4.5, 5.5)"
    ) in aloud("numbers", said)


def test_what_there_is_is_counted_without_the_blind_decoder(
    said: dict[str, Any], runs: dict[str, RunFolder], found: dict[str, Any]
) -> None:
    plain = found["variants"]["plain"]
    told = sum(map(sum, plain_bits(runs["plain"], plain["temperatures"][0]))) / 60
    assert plain["exact_bits"]["mean"] == pytest.approx(found["exact"] - told, abs=1e-3)
    said["variants"]["plain"]["exact_bits"] = reads(30.0)
    assert "plain has read 30.0 of these bits, between 29.0 and 31.0" in aloud("numbers", said)


@pytest.mark.parametrize(
    ("value", "low", "high", "learnt", "verdict"),
    [
        (2.0, 1.0, 3.0, True, "a decoder that saw its own once did not use it"),
        (2.0, 1.0, 3.0, False, "as none had not converged, lost by the decoder and not learnt yet cannot be told"),
        (2.0, -1.0, 3.0, True, "is not shown"),
        (-2.0, -3.0, -1.0, False, "forgetting is not what is missing"),
    ],
)
def test_forgetting_is_told_from_what_fixed_reads(  # noqa: PLR0917
    said: dict[str, Any], value: float, low: float, high: float, learnt: bool, verdict: str
) -> None:
    assert "it takes fixed held against none" in explanations(said)
    said["variants"]["none"]["converged"] = [learnt]
    fixed = said["variants"]["plain"]
    fixed["attention"] = "fixed"
    fixed["difference"] |= {
        "value": value,
        "trained": {"low": low, "high": high},
        "architecture": None,
        "own_spread": None,
    }
    fixed["exact_bits"] = reads(9.0)
    assert verdict in explanations(said)
    fixed["exact_bits"] = reads(0.5)
    assert "it has read nothing itself" in explanations(said)


def test_without_one_that_looks_back_the_difference_still_comes_first(said: dict[str, Any]) -> None:
    said["variants"]["plain"]["attention"] = "fixed"
    said["variants"]["plain"]["difference"]["value"] = 2.0
    wanted = (
        "On numbers one that reads a fixed vector at each step (plain) needs 2.0 bits fewer a sentence than one that"
    )
    assert aloud("numbers", said).startswith(wanted)


def test_a_variant_that_carries_nothing_is_said_to(said: dict[str, Any]) -> None:
    own = said["variants"]["none"]
    own["exact_bits"] = reads(5.0)
    assert "start (none) has read 5.0 of these bits" in aloud("numbers", said)
    own["exact_bits"] = reads(-0.8)
    text = aloud("numbers", said)
    assert "(none), nothing that could be told from nothing has come through (-0.8 bits, between -1.8 and 0.2" in text
    assert "plateau" not in text
    assert "-0.8 of these" not in text


def test_what_a_blind_decoder_may_still_learn_is_nothing_yet(said: dict[str, Any]) -> None:
    as_of_text(said)
    own = said["variants"]["none"]
    own["bits"] = reads(5.0)
    said["blind"] |= {"converged": False, "last_fifth_bits": 3.9}
    assert "(none) has to be told 5.0 bits fewer" in aloud("numbers", said)
    said["blind"]["last_fifth_bits"] = 4.1  # Above the interval's lower end.
    assert "(none), nothing that could be told from nothing has come through (5.0 bits" in aloud("numbers", said)


def test_the_section_says_all_of_it(said: dict[str, Any]) -> None:
    found = said
    blocks = write_bits("numbers", found)
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["none", "plain"]
    assert all(len(row) == len(table.head) for row in table.rows)
    pictures = [block.name for block in blocks if isinstance(block, Picture)]
    assert pictures == [
        f"numbers-bits-{of}" for of in ("difference", "by-digits", "by-length", "by-position", "learnt")
    ]
    assert f"{found['variants']['plain']['bits']['mean']:.2f} | [" in to_markdown(blocks, "figures")
    assert "<svg" in to_html(blocks)


def test_the_command_prints_and_writes_what_it_finds(
    runs: dict[str, RunFolder], found: dict[str, Any], tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "pipelines" / "bits.py")]
    paths = [f"{runs['worse'].path},{runs['blind'].path}", str(runs["none"].path), str(runs["plain"].path)]
    done = subprocess.run([*command, *paths, f"out={tmp_path}"], capture_output=True, text=True, check=True)
    # Known by their attentions.
    assert f"\n  luong_general: {found['variants']['plain']['difference']['value']:+.2f} [" in done.stdout
    assert f"none: {found['variants']['none']['bits']['mean']:.2f} bits a sentence" in done.stdout
    assert done.stdout.endswith(f"written: {tmp_path}/report.html\n")
    assert read_json(tmp_path / "information.json")["blind"] == found["blind"]
    report = (tmp_path / "report.md").read_text()
    assert "figures/numbers-bits-by-length.svg" in report
    commit = read_json(runs["none"].metrics)["commit"][:12]
    assert re.search(rf"none: seed 1, [\d,]+ target tokens, commit {commit}", report)
    alone = subprocess.run([*command, paths[1]], capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert alone.stderr.startswith("error: usage: python pipelines/bits.py BLIND_RUN[,BLIND_RUN ...] RUN")
