"""Bits of trained runs: against the definition, sentence by sentence, and the parts against the whole."""

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TINY, compose_config, run_script, teacher_forced_logits, train_config

from hourglass.analysis import likelihoods
from hourglass.analysis.bits import measure_bits
from hourglass.analysis.comparability import choose_blind
from hourglass.analysis.information import Information, read_information
from hourglass.corpora.corpus import load_corpus
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.pieces import EOS
from hourglass.errors import UserError
from hourglass.metrics.contrastive import read_contrast
from hourglass.metrics.likelihood import Pairs
from hourglass.models.checkpoint import load_trained
from hourglass.reports.bits import ABSOLUTE, report_bits
from hourglass.reports.document import Table
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.training.finished import FinishedRun

# Numbers of 3 to 5 digits, and runs of seconds.
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


def make(folder: Path, name: str, *overrides: str) -> FinishedRun:
    small = [word for word in SMALL if "encoder=blind" not in overrides or word != "encoder.hidden_size=16"]
    return train_run(folder / name, small, *overrides)


def train_run(path: Path, words: list[str], *overrides: str) -> FinishedRun:
    return FinishedRun.open(
        train_config(compose_config(*words, *overrides, f"cache={path.parent / 'cache'}", f"run_dir={path}")).path
    )


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, FinishedRun]:
    return {
        "blind": make(folder, "blind", *BLIND),
        "worse": make(folder, "worse", *BLIND, "optimizer.learning_rate=0.00001"),
        "none": make(folder, "none", "attention=none"),
        "fixed": make(folder, "fixed", "attention=fixed"),
        "plain": make(folder, "plain", "attention=luong_general"),
    }


def measure(
    blind: Sequence[FinishedRun], variants: dict[str, list[FinishedRun]], edges: Sequence[int] = (1, 4, 6)
) -> Information:
    """Measure the bits, with the first variant as the baseline."""
    return measure_bits(
        blind,
        variants,
        baseline=next(iter(variants)),
        edges=edges,
        resamples=1000,
        converged=0.01,
        blind_rates=[0.00001, 0.002],
    )


@pytest.fixture(scope="module")
def information(runs: dict[str, FinishedRun]) -> Information:
    variants = {name: [runs[name]] for name in ("none", "fixed", "plain")}
    return measure([runs["worse"], runs["blind"]], variants)


def plain_bits(run: FinishedRun, temperature: float, joined: int = 0) -> list[list[float]]:
    """Return the bits of each token of each test sentence, computed one sentence at a time.

    Args:
        run: whose model is used.
        temperature: divides the logits.
        joined: sentences that are joined to one input, none of which may end where the next begins; 0: one by one.
    """
    group = joined or 1
    trained = load_trained(run.folder.best)
    test = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["test"]
    sides = (
        [" ".join(test[side][first : first + group]) for first in range(0, len(test), group)]
        for side in ("source", "target")
    )
    rows = []
    for number, (source, target) in enumerate(zip(*sides, strict=True)):
        (ids,), (wanted,) = trained.vocabularies.source.encode([source]), trained.vocabularies.target.encode([target])
        logs = (teacher_forced_logits(trained.model, ids, wanted) / temperature).log_softmax(-1)
        if joined:
            before = 0
            for sentence in test["target"][number * group : (number + 1) * group]:
                logs[before] -= math.log(1 - math.exp(logs[before, EOS]))
                before += len(trained.vocabularies.target.encode([sentence])[0])
        rows.append([-float(step[token]) / math.log(2) for step, token in zip(logs, [*wanted, EOS], strict=True)])
    return rows


def test_bits_are_those_of_the_blind_model_minus_those_of_the_variant(
    runs: dict[str, FinishedRun], information: Information
) -> None:
    blind = plain_bits(runs["blind"], information.blind.temperature)
    assert information.blind.bits == pytest.approx(sum(map(sum, blind)) / 60, rel=1e-4)
    raw = sum(map(sum, plain_bits(runs["blind"], 1.0))) / 60
    assert information.blind.raw_bits == pytest.approx(raw, rel=1e-4)
    assert raw > information.blind.bits  # The cost of label smoothing.
    for name in ("none", "plain"):
        own = information.variants[name]
        (temperature,) = own.temperatures
        assert temperature != 1
        needed = plain_bits(runs[name], temperature)
        saved = [sum(b) - sum(n) for b, n in zip(blind, needed, strict=True)]
        assert own.bits.mean == pytest.approx(sum(saved) / 60, abs=1e-3)
        end = [b[-1] - n[-1] for b, n in zip(blind, needed, strict=True)]
        assert own.end_bits.mean == pytest.approx(sum(end) / 60, abs=1e-3)
        first, third = own.by_position[0], own.by_position[2]
        assert first is not None
        assert third is not None
        expected = [b[0] - n[0] for b, n in zip(blind, needed, strict=True)]
        assert first.mean == pytest.approx(sum(expected) / 60, abs=1e-3)
        expected = [b[i] - n[i] for b, n in zip(blind, needed, strict=True) for i in (2, 3) if i < len(n) - 1]
        assert third.mean == pytest.approx(sum(expected) / len(expected), abs=1e-3)


def test_a_difference_does_not_depend_on_the_blind_model(
    runs: dict[str, FinishedRun], information: Information
) -> None:
    """It is that of two likelihoods, whichever blind model the bits are counted from, and so is its curve."""
    variants = information.variants
    needed = {
        name: np.array([sum(row) for row in plain_bits(runs[name], own.temperatures[0])])
        for name, own in variants.items()
    }
    words = np.array(runs["none"].corpus.splits["test"]["source_words"][:], dtype=float)
    worse = measure([runs["worse"]], {name: [runs[name]] for name in variants})
    assert worse.variants["plain"].bits.mean > variants["plain"].bits.mean + 1
    pairs = [("fixed", "none"), ("plain", "none"), ("plain", "fixed")]
    for measured in (information, worse):
        assert [(each.variant, each.reference) for each in measured.all_contrasts] == pairs
        for contrast in measured.all_contrasts:
            saved = needed[contrast.reference] - needed[contrast.variant]
            assert contrast.difference.whole.value == pytest.approx(saved.mean(), abs=1e-3)
            assert contrast.difference.curve is not None
            slope, _ = np.polyfit(words, saved, 1, w=1 / np.sqrt(words))
            assert contrast.difference.curve.slope == pytest.approx(slope, abs=1e-3)
            by_length = [saved[(words >= low) & (words <= (high or 99))] for low, high in ((1, 3), (4, 5), (6, None))]
            for values, of_bucket in zip(by_length, contrast.difference.by_length, strict=True):
                assert (of_bucket is None) == (len(values) == 0)
                assert of_bucket is None or of_bucket.value == pytest.approx(values.mean(), abs=1e-3)
    assert information.all_contrasts[0].difference.curve == worse.all_contrasts[0].difference.curve
    assert variants["none"].difference is None


def test_seeds_count_in_curves(runs: dict[str, FinishedRun], folder: Path) -> None:
    """With several seeds a slope has an interval over these, too, and lies at the mean of the seeds' slopes."""
    second = make(folder, "second-none", "attention=none", "seed=2")
    one = measure([runs["blind"]], {"none": [runs["none"]], "plain": [runs["plain"]]}).variants["none"].saturation
    two = measure([runs["blind"]], {"none": [runs["none"], second], "plain": [runs["plain"]]}).variants
    assert one.slope_own_spread is None
    curve, difference = two["none"].saturation, two["plain"].difference
    assert curve.slope == pytest.approx(sum(two["none"].slopes) / 2)
    assert curve.slope_own_spread is not None
    assert curve.slope_interval is not None
    # A t of one degree of freedom, on half the distance of two seeds.
    first, other = two["none"].slopes
    assert curve.slope_own_spread.high - curve.slope > 12.7 * abs(first - other) / 2
    assert difference is not None
    assert difference.curve is not None
    assert difference.curve.slope_own_spread is None  # Of plain there is one seed.


def test_other_seeds_of_the_blind_decoder_are_measured_as_it_is(
    runs: dict[str, FinishedRun], information: Information, folder: Path
) -> None:
    """A seed that was not chosen needs what it needs as the blind decoder; another learning rate is no seed of it."""
    assert information.blind.other_seeds == []  # `worse` has another rate.
    second = make(folder, "second-blind", *BLIND, "seed=2")
    both, variants = [runs["blind"], second], {"none": [runs["none"]]}
    chosen = choose_blind(both)
    (other,) = [run for run in both if run is not chosen]
    measured = measure([*both, runs["worse"]], variants).blind
    assert measured.run == chosen.path.name
    assert measured.other_seeds == [measure([other], variants).blind.bits]
    assert measured.other_seeds != [measured.bits]
    printed = run_script("pipelines/bits.py", f"{chosen.path},{other.path}", str(runs["none"].path))
    assert f"its other seeds, which are worse on dev, need {measured.other_seeds[0]:.2f} bits" in printed.stdout


@pytest.mark.more
def test_without_label_smoothing_there_is_no_temperature(folder: Path) -> None:
    runs = [make(folder, "plain-blind", *BLIND, PLAIN), make(folder, "plain-none", "attention=none", PLAIN)]
    information = measure(runs[:1], {"none": [runs[1]]})
    assert information.blind.temperature == 1
    assert information.blind.bits == information.blind.raw_bits
    assert information.variants["none"].temperatures == [1]


def test_bits_are_measured_from_what_is_kept_of_runs(
    runs: dict[str, FinishedRun], information: Information, tmp_path: Path
) -> None:
    """Without a checkpoint, as in a fresh clone."""
    kept = {}
    for name, run in runs.items():
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        for file in (run.folder.config, run.folder.curves, run.folder.metrics):
            shutil.copy(file, folder.path)
        likelihoods.keep_likelihoods(folder.likelihoods, likelihoods.read_likelihoods(run, run.prepared))
        kept[name] = FinishedRun.open(folder.path)
    again = measure([kept["worse"], kept["blind"]], {name: [kept[name]] for name in ("none", "fixed", "plain")})
    assert again.blind.bits == pytest.approx(information.blind.bits)
    for name, own in information.variants.items():
        same = again.variants[name]
        assert same.bits.interval == pytest.approx(own.bits.interval)
        for first, second in ((same.bits, own.bits), (same.raw_bits, own.raw_bits), (same.end_bits, own.end_bits)):
            assert first.mean == pytest.approx(second.mean, abs=1e-5)
        assert same.learning == own.learning
    contrast, same_contrast = information.all_contrasts[0].difference, again.all_contrasts[0].difference
    assert same_contrast.whole.value == pytest.approx(contrast.whole.value, abs=1e-5)


def test_parts_add_up_to_the_whole(information: Information) -> None:
    sentences = [bucket.sentences for bucket in information.lengths]
    assert sum(sentences) == information.sentences == 60
    assert information.digits is not None
    assert information.exact_bits is not None
    for name, own in information.variants.items():
        by_length = sum(
            count * bits.mean for count, bits in zip(sentences, own.by_length, strict=True) if bits is not None
        )
        assert by_length / 60 == pytest.approx(own.bits.mean)
        # Known information minus the bits that are needed; these are the blind model's minus those that are saved.
        by_digits = sum(bucket.sentences * bucket.variants[name].mean for bucket in information.digits) / 60
        needed = information.blind.bits - own.bits.mean
        assert by_digits == pytest.approx(information.exact_bits - needed)
        assert own.exact_bits is not None
        assert own.exact_bits.mean == pytest.approx(by_digits)
    assert [bucket.digits for bucket in information.digits] == [3, 4, 5]
    assert information.digits[0].exact_bits == pytest.approx(math.log2(3) + math.log2(900))


def test_the_best_of_several_blind_runs_is_chosen(runs: dict[str, FinishedRun]) -> None:
    assert choose_blind([runs["worse"], runs["blind"]]) is runs["blind"]
    assert choose_blind([runs["blind"], runs["worse"]]) is runs["blind"]


@pytest.mark.more
def test_runs_that_cannot_be_compared_are_refused_by_name(runs: dict[str, FinishedRun], folder: Path) -> None:
    with pytest.raises(UserError, match=r"none: a run of encoder=rnn sees its source"):
        choose_blind([runs["none"]])
    with pytest.raises(UserError, match="no blind run"):
        choose_blind([])
    another = make(folder, "another", "attention=none", "data.seed=5")
    smaller = make(folder, "smaller", "attention=none", "decoder.hidden_size=8")
    longer = make(folder, "longer", "attention=none", "trainer.target_tokens=9000")
    with pytest.raises(UserError, match=r"a blind run that was trained less would flatter the other"):
        measure([runs["blind"]], {"one": [longer]})
    recut = make(folder, "recut", "attention=none", "tokenizer=char")
    by_bleu = make(folder, "by_bleu", *BLIND, "trainer.select=bleu", "trainer.target_tokens=500")
    with pytest.raises(UserError, match=r"selected by BLEU, .*: train it with trainer\.select=loss"):
        choose_blind([by_bleu])
    selected = make(folder, "selected", "attention=none", "trainer.select=bleu")
    unsmoothed = make(folder, "unsmoothed", "attention=none", PLAIN)
    for run, option in (
        (another, "corpus"),
        (recut, "tokenizer"),
        (smaller, r"decoder\.hidden_size"),
        (selected, r"trainer\.select"),
        (unsmoothed, r"optimizer\.label_smoothing"),
    ):
        with pytest.raises(UserError, match=rf"{run.path.name}: another {option} than .*blind's"):
            measure([runs["blind"]], {"one": [run]})


def test_the_temperature_is_fitted_on_dev(runs: dict[str, FinishedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def record(model: Any, pairs: Pairs) -> float:
        fitted.append(pairs)
        return 1.0

    monkeypatch.setattr(likelihoods, "fit_temperature", record)
    run = runs["none"]
    assert run.config["optimizer"]["label_smoothing"] > 0
    likelihoods.read_likelihoods(run, run.prepared)
    dev = run.corpus.splits["dev"]
    vocabularies = run.trained.vocabularies
    assert [(p.sources, p.targets) for p in fitted] == [
        (
            vocabularies.source.encode(dev["source"][:]),
            vocabularies.target.encode(dev["target"][:]),
        )
    ]


@pytest.mark.more
def test_joined_sentences_are_compared_with_the_same_ones_read_one_by_one(folder: Path) -> None:
    words = [f"w{number}" for number in range(40)]
    for name, count, shift in (("train", 120, 0), ("dev", 12, 5), ("test", 10, 11)):
        rows = [" ".join(words[(shift + 7 * row + 3 * at) % 40] for at in range(2 + row % 5)) for row in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line} {name}{row}\n" for row, line in enumerate(rows)))
        (folder / f"{name}.de").write_text("".join(f"{name}{row} {line}\n" for row, line in enumerate(rows)))
    text = [f"data.{name}={folder / name}" for name in ("train", "dev", "test")]
    small = [word for word in SMALL if not word.startswith("data")]
    overrides = ["data=text", "data.source=de", "data.target=en", *text, "data.vocabulary_size=80", *small]
    runs = {
        "blind": train_run(
            folder / "text-blind", [word for word in overrides if word != "encoder.hidden_size=16"], *BLIND
        ),
        "none": train_run(folder / "text-none", overrides, "attention=none"),
    }
    information = measure([runs["blind"]], {"none": [runs["none"]]}, edges=[1])
    assert information.digits is None
    assert information.exact_bits is None
    own = information.variants["none"]
    bits = {}
    for count in (1, 2, 4):
        blind, none = (
            # Eight of ten sentences: whole groups of four; and no ends of sentence.
            sum(sum(row[:-1]) for row in plain_bits(runs[name], temperature, count)[: 8 // count]) / 8
            for name, temperature in (("blind", information.blind.temperature), ("none", own.temperatures[0]))
        )
        bits[count] = blind - none
        assert information.blind.joined[count] == pytest.approx(blind, rel=1e-4)
        assert own.joined[count].bits.mean == pytest.approx(bits[count], abs=1e-3)
        assert own.joined[count].gain.mean == pytest.approx(bits[count] - bits[1], abs=1e-3)
    (table,) = (block for block in report_bits(information) if isinstance(block, Table))  # One variant: no differences.
    assert f"{bits[2] - bits[1]:+.1f} " in " ".join(table.rows[0])


@pytest.mark.more
def test_runs_that_are_not_seeds_of_one_variant_are_refused(runs: dict[str, FinishedRun], folder: Path) -> None:
    second = make(folder, "second/plain", "attention=luong_general", "seed=2", "optimizer.warmup=0.2")
    with pytest.raises(UserError, match=r"plain: another attention, optimizer than .*none's: runs of one variant"):
        measure([runs["blind"]], {"one": [runs["none"], second]})
    with pytest.raises(UserError, match=r"none: seed 1, as .*none has: runs of one variant \(one\) need different"):
        measure([runs["blind"]], {"one": [runs["none"], runs["none"]]})
    once = make(folder, "once", "attention=none", "trainer.validations=1")
    with pytest.raises(UserError, match=r"once: convergence is judged from dev losses .* set trainer\.validations=5"):
        measure([runs["blind"]], {"one": [once]})


def test_learning_is_the_dev_curve_in_bits(runs: dict[str, FinishedRun], information: Information) -> None:
    (curve,) = information.variants["none"].learning
    trained = load_trained(runs["none"].folder.best)
    dev = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["dev"]["target"][:]
    dev = [dev[row] for row in evenly_spaced(30, 12)]
    pieces = trained.vocabularies.target.encode(dev)
    blind, none = (
        [value for _, name, value in read_curves(runs[name].folder.curves) if name == "dev/loss"]
        for name in ("blind", "none")
    )
    per_sentence = sum(len(ids) + 1 for ids in pieces) / 12
    # Both have read the same batches, so that validations of one number are of the same tokens.
    expected = [(b - n) * per_sentence / math.log(2) for b, n in zip(blind, none, strict=True)]
    assert [point.bits for point in curve] == pytest.approx(expected)
    assert [point.target_tokens for point in curve] == [point.target_tokens for point in information.blind.learning]
    assert [point.bits for point in information.blind.learning] == pytest.approx(
        [loss * per_sentence / math.log(2) for loss in blind]
    )
    assert len(curve) == 5


def test_known_information_needs_no_blind_decoder(runs: dict[str, FinishedRun], information: Information) -> None:
    plain = information.variants["plain"]
    needed = sum(map(sum, plain_bits(runs["plain"], plain.temperatures[0]))) / 60
    assert information.exact_bits is not None
    assert plain.exact_bits is not None
    assert plain.exact_bits.mean == pytest.approx(information.exact_bits - needed, abs=1e-3)


def test_the_command_prints_and_writes_its_result(
    runs: dict[str, FinishedRun], information: Information, tmp_path: Path
) -> None:
    paths = [
        f"{runs['worse'].path},{runs['blind'].path}",
        *(str(runs[name].path) for name in ("none", "fixed", "plain")),
    ]
    done = run_script("pipelines/bits.py", *paths, f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    difference = information.variants["plain"].difference
    assert difference is not None
    # Named by attention; before what rests on the blind decoder.
    against_none = done.stdout.index(f"\n  luong_general less none: {difference.whole.value:+.2f} [")
    against_fixed = done.stdout.index("\n  luong_general less fixed: ")
    assert against_none < against_fixed < done.stdout.index(ABSOLUTE) < done.stdout.index("blind model: ")
    assert "learning rate is the highest that was tried (1e-05, 0.002)" in done.stdout
    assert "whether converged cannot be told" in done.stdout  # Of trainings of seconds.
    # All readings of a variant in one line, and what each assumes in a line of its own.
    head, none = re.search(r"all readings side by side, bits per sentence:\n(.*)\n  none (.*)\n", done.stdout).groups()  # type: ignore[union-attr]
    assert head.split("  ")[-1].strip() == "less the blind decoder"
    assert f"{information.variants['none'].bits.mean:.2f} [" in none
    assert f"\n{ABSOLUTE}\n" in done.stdout
    assert f"none: {information.variants['none'].bits.mean:.2f} bits per sentence" in done.stdout
    assert done.stdout.endswith(f"written: {tmp_path}/report.html\n")
    written = read_information(tmp_path / "information.json", "x")
    assert written.blind == information.blind
    for name, attention in (("none", "none"), ("plain", "luong_general")):  # Intervals differ: the command draws more.
        own, expected = written.variants[attention], information.variants[name]
        assert own.bits.by_seed == expected.bits.by_seed
        assert own.learning == expected.learning
    report = (tmp_path / "report.md").read_text()
    assert "figures/numbers-bits-by-length.svg" in report
    commit = read_json(runs["none"].folder.metrics)["commit"][:12]
    assert re.search(rf"none: seed 1, [\d,]+ target tokens, commit {commit}", report)
    # From the result alone, the same report.
    (tmp_path / "report.md").unlink()
    again = run_script("pipelines/bits.py", f"out={tmp_path}")
    assert again.stdout == f"written: {tmp_path}/report.html\n"
    assert (tmp_path / "report.md").read_text() == report
    single = run_script("pipelines/bits.py", paths[1])
    assert single.returncode == 1
    assert single.stderr.startswith("error: run: no runs to measure; usage: python pipelines/bits.py BLIND RUN")


@pytest.mark.more
def test_the_contrastive_bound_is_measured_where_it_is_asked_for(runs: dict[str, FinishedRun], tmp_path: Path) -> None:
    """None in `information`, which does not ask; for a blind decoder nothing, whatever the sources."""
    paths = [str(runs[name].path) for name in ("blind", "plain", "blind")]
    done = run_script("pipelines/bits.py", *paths, "contrastive=16", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    variants = read_information(tmp_path / "information.json", "x").variants
    own, nothing = (variants[attention].contrastive for attention in ("luong_general", "none"))
    trained = load_trained(runs["plain"].folder.best)
    test = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["test"]
    pairs = Pairs.encode(trained.vocabularies, test["source"], test["target"])
    (temperature,) = variants["luong_general"].temperatures  # Trained with label smoothing.
    reading = read_contrast(trained.model, pairs, sources=16, temperature=temperature)
    assert own is not None
    assert own.bits.mean == pytest.approx(reading.bits.mean())
    assert (own.cap, own.sentences, own.classes) == (4, 60, len(reading.classes))
    assert f"  contrastive: at least {reading.mean:.2f} bits [" in done.stdout
    assert "; at most 4.00, as 16 test sources are compared; 60 sentences; " in done.stdout
    assert nothing is not None
    assert nothing.bits.by_seed == [0]
    assert "  contrastive: at least 0.00 bits [0.00, 0.00], " in done.stdout
    alone = run_script("pipelines/bits.py", *paths, "contrastive=1")
    assert (alone.returncode, alone.stdout) == (1, "")
    assert alone.stderr.startswith("error: contrastive=1: ")


def test_a_result_of_another_version_is_refused_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "information.json").write_text('{"schema_version": 0}')
    refused = run_script("pipelines/bits.py", f"out={tmp_path}")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(
        f"error: {tmp_path}/information.json: schema_version is 0, and this version of Hourglass reads"
    )
    assert ": run python pipelines/bits.py BLIND" in line
