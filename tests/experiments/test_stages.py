"""Ablations beside the default one: their settings, the search for a dropout, and the order of their stages."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, finished_metrics, run_script, write_multi30k

from hourglass.analysis.evaluation import SCHEMA_VERSION, Candidate, Tuning
from hourglass.config.differences import changes
from hourglass.errors import UserError
from hourglass.experiments import rate_search, stages
from hourglass.experiments.ablation import Ablation, TuneSettings, Variant, load_ablation, read_stage
from hourglass.experiments.remaining import remaining_training
from hourglass.experiments.stages import run_stages
from hourglass.experiments.tuning import tune_variant
from hourglass.runs.folder import RunFolder, write_config
from hourglass.system.files import write_json
from hourglass.system.records import write_record
from hourglass.training.fingerprint import FINGERPRINT_VERSION, Fingerprint
from hourglass.training.settings import check_settings

NAMES = sorted(file.stem for file in (ROOT / "conf" / "ablation").glob("*.yaml"))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with made raw files of Multi30k."""
    folder = tmp_path / "raw"
    write_multi30k(folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Ablation]:
    """Return a function that loads an ablation, with fingerprints and searches in a folder of the test."""

    def load(name: str, *words: str, search: Sequence[str] = ()) -> Ablation:
        (tmp_path / "conf").symlink_to(ROOT / "conf")
        ablation = load_ablation(tmp_path, name, words)
        for corpus in ablation.corpora:
            for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
                made = Fingerprint({"seed": 1}, "c", "v", [1.0], [8.0, 7.0], {"w": 0.1}, 6.5)
                ablation.fingerprint_file(variant).parent.mkdir(parents=True, exist_ok=True)
                write_record(ablation.fingerprint_file(variant), made, FINGERPRINT_VERSION)
                if search:
                    found = Tuning(list(search), [Candidate(list(search), 1.0, 100, 1.0)])
                    write_record(ablation.tuning_file(variant), found, SCHEMA_VERSION)
        return ablation

    return load


@pytest.mark.parametrize("name", NAMES)
def test_the_runs_of_every_ablation_compose(name: str, raw: Path) -> None:
    """Also those of variants and corpora that wait; the first of each kind of corpus is enough for its variants."""
    ablation = load_ablation(name=name, words=[f"data.folder={raw}"] if name == "multi30k" else [])
    for corpus, settings in ablation.corpora.items():
        for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
            if variant.name == "frozen":  # Needs a trained model.
                continue
            check_settings(ablation.compose(ablation.overrides(variant, 1, settings.budgets[-1])))


def test_multi30k_joins_captions_of_all_test_sets_and_keeps_no_sentence(raw: Path) -> None:
    ablation = load_ablation(name="multi30k", words=[f"data.folder={raw}"])
    config = ablation.compose(ablation.overrides(Variant("multi30k", "none"), 2, 1000))
    data = config["data"]
    assert (data["source"], data["target"], data["captions"]) == ("de", "en", 3)
    assert data["folder"] == str(raw)
    assert data["test"] == ["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]
    assert ablation.settings.examples == 0
    assert not ablation.corpora["multi30k"].models
    # Not in the folder that git keeps.
    assert ablation.results_folder.relative_to(ROOT).parts[0] == "pipeline"
    assert len(ablation.corpora["multi30k"].seeds) == 3
    assert ablation.corpora["multi30k"].budgets[-1] == 8_000_000
    with pytest.raises(UserError, match=r"data.test=.*the hub does not have it: set data.folder=PATH"):
        check_settings(
            load_ablation(name="multi30k").compose(
                ["data=multi30k", *load_ablation(name="multi30k").corpora["multi30k"].overrides]
            )
        )


def test_whole_schedules_differ_from_the_ladder_in_their_decay_alone(copy: Callable[..., Ablation]) -> None:
    whole, ladder = copy("schedules", search=["optimizer.learning_rate=0.002"]), load_ablation()
    assert whole.tune == ladder.tune
    (corpus,) = whole.corpora
    ours, theirs = whole.corpora[corpus], ladder.corpora[corpus]
    assert set(ours.budgets) < set(theirs.budgets)
    assert (ours.edges, ours.tune_tokens, ours.seeds) == (theirs.edges, theirs.tune_tokens, theirs.seeds[:1])
    for variant in [*whole.variants(corpus), whole.blind(corpus)]:
        assert (whole.is_branching(variant), ladder.is_branching(variant)) == (False, True)
        configs = [whole.compose(words) for words in whole.ladder(variant, 1)]
        assert [config["start_from"] for config in configs] == [None] * len(ours.budgets)
        for budget, config in zip(ours.budgets, configs, strict=True):
            rung = ladder.compose(ladder.overrides(variant, 1, budget))
            differing = {*changes(rung, config)} - {"fingerprint"}
            assert differing == {"optimizer.decay"}


def test_whole_schedules_share_no_tokens(copy: Callable[..., Ablation]) -> None:
    ablation = copy("schedules")
    (settings,) = ablation.corpora.values()
    searches = 3 * len(ablation.tune.learning_rates) * settings.tune_tokens
    assert remaining_training(ablation).left == searches + 3 * sum(settings.budgets)


def test_a_stage_reads_its_ablation_from_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tune.py", "multi30k", "none", "conf=multi30k", "data.folder=/a b"])
    ablation, *words = read_stage("CORPUS", "VARIANT")
    assert words == ["multi30k", "none"]
    assert ablation.name == "multi30k"
    assert ablation.corpora["multi30k"].overrides[-1] == "data.folder=/a b"
    assert ablation.stage_words == ["conf=multi30k", "data.folder=/a b"]
    assert ablation.remedy.endswith("pipelines/ablate.py multi30k 'data.folder=/a b'")
    monkeypatch.setattr(sys, "argv", ["tune.py", "kjv_web", "none"])
    ablation, *words = read_stage("CORPUS", "VARIANT")
    assert (ablation, words, ablation.remedy) == (load_ablation(), ["kjv_web", "none"], "dvc repro")
    for argv, message in (
        (["kjv_web", "none", "conf=nothing"], r"ablation nothing: no file conf/ablation/nothing.yaml; choose from"),
        (["kjv_web"], r"VARIANT: not given; usage: .*\[conf=NAME\]"),
        (["kjv_web", "none", "more"], "more: one word too many"),
    ):
        monkeypatch.setattr(sys, "argv", ["tune.py", *argv])
        with pytest.raises(UserError, match=message):
            read_stage("CORPUS", "VARIANT")


@pytest.mark.parametrize("name", ["none", "blind"])
def test_the_dropout_is_searched_with_the_best_rate(
    name: str, copy: Callable[..., Ablation], raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses by hand: the rates' are lower, for all that, as a dropout of another budget does not compare with them."""
    ablation = copy("multi30k", f"data.folder={raw}")
    variant = ablation.variant("multi30k", name)
    trained: list[tuple[int, float, float]] = []

    def train(overrides: list[str], output: Any = None) -> None:
        config = ablation.compose(overrides)
        rate, dropout = config["optimizer"]["learning_rate"], config["decoder"]["dropout"]
        assert config["encoder"].get("dropout", dropout) == dropout
        trained.append((config["trainer"]["target_tokens"], rate, dropout))
        searched = config["trainer"]["target_tokens"] == ablation.tune.dropout_tokens
        loss = 5 + abs(dropout - 0.2) if searched else 1 + abs(rate - 0.002)
        run = RunFolder(Path(config["run_dir"]))
        write_config(run, config)
        run.best.parent.mkdir(parents=True, exist_ok=True)
        run.best.touch()
        write_json(run.metrics, finished_metrics(dev={"loss": loss, "bleu": 5.0, "step": 9}))

    monkeypatch.setattr(rate_search, "run_training", train)
    whole = remaining_training(ablation)
    tuning = tune_variant(ablation, variant)
    assert trained == [
        *((400_000, rate, 0.1) for rate in (0.001, 0.002, 0.004)),
        *((4_000_000, 0.002, dropout) for dropout in (0.1, 0.2, 0.4)),
    ]
    dropouts = ["decoder.dropout=0.2"] if name == "blind" else ["encoder.dropout=0.2", "decoder.dropout=0.2"]
    assert tuning.chosen == ["optimizer.learning_rate=0.002", *dropouts]
    assert (tuning.learning_rate, tuning.dropout, tuning.edge) == (0.002, 0.2, None)
    assert ablation.chosen(variant) == tuning.chosen
    rung = ablation.compose(ablation.ladder(variant, 3)[-1])
    assert (rung["decoder"]["dropout"], rung["trainer"]["target_tokens"]) == (0.2, 8_000_000)
    # What is left: a search the less.
    assert whole.left - remaining_training(ablation).left == 3 * 400_000 + 3 * 4_000_000
    write_record(ablation.tuning_file(variant), Tuning(tuning.chosen[:1], tuning.candidates), SCHEMA_VERSION)
    with pytest.raises(UserError, match=r"no candidate of the search: run .*ablate.py multi30k"):
        ablation.chosen(variant)


@pytest.mark.parametrize("words", [["pipelines/ablate.py", "{}"], ["pipelines/schedules.py", "conf={}"]])
def test_a_command_of_another_ablation_neither_takes_nor_offers_the_default(words: list[str]) -> None:
    script, operand = words
    others = ", ".join(name for name in NAMES if name != "default")
    for name, message in (
        ("nosuch", f"ablation nosuch: no file conf/ablation/nosuch.yaml; choose from {others}\n"),
        ("default", "conf=default: "),
    ):
        done = run_script(script, operand.format(name))
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {message}")


def test_a_search_for_a_dropout_needs_a_budget() -> None:
    with pytest.raises(UserError, match="set both, or leave both out"):
        TuneSettings([0.002], [0.1])


def test_stages_run_in_their_order_and_what_is_kept_is_not_kept_again(
    copy: Callable[..., Ablation], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ablation = copy("schedules")
    ablation = replace(ablation, corpora={"kjv_web": replace(ablation.corpora["kjv_web"], seeds=[1, 2])})
    run: list[tuple[str, ...]] = []

    def stage(script: str, words: Sequence[str], output: Any = None) -> None:
        name = Path(script).stem
        assert Path(script).is_file()
        assert words[-1] == "conf=schedules"
        run.append((name, *words[:-1]))
        if name in ("train_variant", "keep_runs"):
            variant, seed = ablation.variant("kjv_web", words[1]), int(words[2])
            for budget in ablation.corpora["kjv_web"].budgets:
                place = ablation.rung if name == "train_variant" else ablation.kept
                write_json(place(variant, seed, budget).metrics, finished_metrics(seed=seed))

    monkeypatch.setattr(stages, "run_stage", stage)
    run_stages(ablation, 1)
    trained = [(name, seed) for seed in ("1", "2") for name in ("fixed", "luong_general", "blind")]
    expected: list[tuple[str, ...]] = [("prepare", "kjv_web"), ("fingerprint", "kjv_web")]
    expected += [("tune", "kjv_web", name) for name in ("fixed", "luong_general", "blind")]
    for name, seed in trained:
        scripts = ("train_blind",) if name == "blind" else ("train_variant", "translate_variant", "keep_runs")
        words = ("kjv_web", seed) if name == "blind" else ("kjv_web", name, seed)
        expected += [(script, *words) for script in scripts]
    expected += [("evaluate", "kjv_web"), ("information", "kjv_web"), ("climb_ladder", "kjv_web"), ("report",)]
    assert run == expected
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("; now: ")[2].split()[0] for line in lines if "; now: " in line] == [own[0] for own in run]
    assert lines[0].startswith("left to train, in all: 21.6 of 21.6 million target tokens")

    run.clear()
    run_stages(ablation, 1)
    assert {own[0] for own in run} == {own[0] for own in expected} - {"translate_variant", "keep_runs"}
    write_json(ablation.rung(ablation.variant("kjv_web", "fixed"), 2, 1_000_000).metrics, finished_metrics(seed=9))
    run.clear()
    with monkeypatch.context() as patch:  # Trained anew.
        patch.setattr(stages, "run_stage", lambda script, words, output=None: run.append((Path(script).stem, *words)))
        run_stages(ablation, 1)
    assert [own[1:4] for own in run if own[0] == "keep_runs"] == [("kjv_web", "fixed", "2")]
