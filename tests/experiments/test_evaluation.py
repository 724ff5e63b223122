"""The evaluation and the report of an ablation whose runs are made up, so that every number in it is known."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT, make_run
from sacrebleu.metrics import BLEU

from hourglass.analysis.comparing import compare_runs
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, AblationSettings, CorpusSettings, TuneSettings
from hourglass.experiments.evaluation import evaluate
from hourglass.metrics.significance import bleu_quantity, compare, draw, pool
from hourglass.reports.ablation import Made, write_report
from hourglass.reports.document import Picture, Table, to_csv, to_html, to_latex, to_markdown
from hourglass.runs.curves import Point, append_points
from hourglass.runs.folder import write_config
from hourglass.runs.translations import read_translations, write_translations
from hourglass.system.files import write_json

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LOSSES = {
    "none": [3.0, 2.0, 1.5, 1.2, 1.195],
    "luong_general": [2.0, 1.0, 0.5, 0.4, 0.399],
    "luong_dot": [2.0, 1.0, 0.6, 0.5, 0.3],
}


def sentences() -> list[str]:
    choose = random.Random(0)
    return [" ".join(choose.choices(WORDS, k=1 + index % 20)) for index in range(120)]


def spoilt(text: str, share: float, choose: random.Random) -> str:
    return " ".join(choose.choice(WORDS) if choose.random() < share else word for word in text.split())


@pytest.fixture
def ablation(tmp_path: Path) -> Ablation:
    """An ablation of three variants and two seeds, whose runs need no training: `none` gets worse with length."""
    settings = AblationSettings(
        trainer="cpu",
        baseline="none",
        validations=5,
        resamples=1000,
        floor=5.0,
        converged=0.01,
        examples=3,
        corpora=["numbers"],
    )
    corpus = CorpusSettings(
        attentions=["none", "luong_general", "luong_dot"],
        seeds=[1, 2],
        target_tokens=1000,
        tune_tokens=100,
        edges=[1, 6, 11],
    )
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    made = Ablation(settings, TuneSettings([0.001], []), {"numbers": corpus}, tmp_path)
    facts = {
        "source": "en",
        "target": "fr",
        "pairs": {"train": 10, "dev": 5, "test": 120},
        "dropped": {"leak": 1, "empty": 0, "too long": 0},
        "leaks_removed": True,
        "digest": "d" * 64,
        "leaks": 0,
        "tokenizer": {"digest": "t" * 64, "pieces": 50},
    }
    write_json(made.results("numbers") / "corpus.json", facts)
    for variant in made.variants("numbers"):
        candidate = {
            "overrides": ["optimizer.learning_rate=0.001"],
            "dev_loss": 1.0,
            "target_tokens": 100,
            "seconds": 60.0,
        }
        write_json(made.tuned(variant), {"chosen": candidate["overrides"], "candidates": [candidate]})
        for seed in (1, 2):
            choose = random.Random(seed)
            rows = []
            for index, text in enumerate(sentences()):
                share = 0.04 * len(text.split()) if variant.attention == "none" else 0.1
                rows.append((f"t{index}", text, text, spoilt(text, share, choose)))
            write_translations(made.translations(variant, seed, "test"), rows)
            run = made.run(variant, seed)
            write_config(run, made.compose(made.overrides(variant, seed, 1000)))
            losses = LOSSES[variant.attention]
            curves = [f"{20 * i + 19},dev/loss,{loss}\n{20 * i + 19},dev/bleu,{i}" for i, loss in enumerate(losses)]
            tokens = [f"{step},train/target_tokens,{10 * (step + 1)}" for step in range(100)]
            run.curves.write_text("\n".join(["step,name,value", *tokens, *curves, ""]))
            write_json(
                run.metrics,
                {
                    "corpus": facts,
                    "seed": seed,
                    "parameters": 1234,
                    "train_target_tokens": 1000,
                    "train_target_tokens_per_second": 10.0,
                    "train_seconds": 100.0,
                    "commit": "c" * 40,
                    "dirty": False,
                    "tokenizer_digest": "t" * 64,
                    "dev": {"loss": losses[-1], "bleu": 4.0, "step": 100},
                    "machine": {"gpu": None, "processor": "a processor", "threads": 2, "torch": "2"},
                },
            )
    return made


@pytest.fixture
def found(ablation: Ablation) -> dict[str, Any]:
    """The evaluation, as JSON gives it back."""
    return json.loads(json.dumps(evaluate(ablation, "numbers")))


def test_scores_are_sacrebleus(ablation: Ablation, found: dict[str, Any]) -> None:
    references = sentences()
    for variant in ablation.variants("numbers"):
        own = found["variants"][variant.attention]
        by_seed = []
        for seed in (1, 2):
            with ablation.translations(variant, seed, "test").open() as file:
                outputs = [row["hypothesis"] for row in csv.DictReader(file, delimiter="\t")]
            by_seed.append(BLEU().corpus_score(outputs, [references]).score)
            chosen = [i for i, text in enumerate(references) if 6 <= len(text.split()) <= 10]
            inside = BLEU().corpus_score([outputs[i] for i in chosen], [[references[i] for i in chosen]]).score
            if seed == 1:
                first = inside
        assert own["bleu_by_seed"] == pytest.approx(by_seed)
        assert own["bleu"]["mean"] == pytest.approx(np.mean(by_seed))
        assert own["bleu"]["spread"] == pytest.approx(np.std(by_seed, ddof=1))
        assert own["buckets"][1]["bleu"]["mean"] == pytest.approx((first + inside) / 2)
        assert own["copy_bleu"] == pytest.approx(100)
    assert [bucket["source_words"] for bucket in found["buckets"]] == [[1, 5], [6, 10], [11, None]]
    assert sum(bucket["sentences"] for bucket in found["buckets"]) == found["sentences"] == 120


def test_the_difference_is_that_of_the_paired_bootstrap(ablation: Ablation, found: dict[str, Any]) -> None:
    from hourglass.metrics.scoring import bleu_statistics

    counts = draw(120, 1000)
    quantities = {}
    for variant in ablation.variants("numbers"):
        statistics = []
        for seed in (1, 2):
            lines = ablation.translations(variant, seed, "test").read_text().splitlines()[1:]
            statistics.append(bleu_statistics([line.split("\t")[3] for line in lines], sentences(), "fr"))
        quantities[variant.attention] = bleu_quantity(statistics, counts)
    expected = compare(quantities["luong_general"], quantities["none"], pool(list(quantities.values())))
    difference = found["variants"]["luong_general"]["difference"]
    assert difference["value"] == pytest.approx(expected.value)
    assert expected.trained is not None
    assert difference["trained"]["low"] == pytest.approx(expected.trained.low)
    assert expected.architecture is not None
    assert difference["architecture"]["high"] == pytest.approx(expected.architecture.high)
    assert "difference" not in found["variants"]["none"]


def test_verdicts(found: dict[str, Any]) -> None:
    variants = found["variants"]
    assert all(one["converged"] for one in variants["none"]["convergence"])
    assert not any(one["converged"] for one in variants["luong_dot"]["convergence"])
    assert variants["luong_dot"]["convergence"][0]["gain_of_last_fifth"] == pytest.approx((0.5 - 0.3) / 0.5)
    # `none` gets worse with length and the others do not: the gap grows.
    assert found["slopes"]["luong_general"]["value"] > 5
    assert found["slopes"]["luong_general"]["trained"]["low"] > 0
    pairs = {(pair["one"], pair["other"]): pair for pair in found["pairs"]}
    assert pairs["luong_general", "luong_dot"]["differ_in"] == ["score"]
    assert "difference" in pairs["luong_general", "luong_dot"]
    assert set(pairs["none", "luong_dot"]["differ_in"]) == {"score", "context width"}
    assert "difference" not in pairs["none", "luong_dot"]
    lengths = [example["source_words"] for example in found["examples"]]
    assert len(lengths) == 3
    assert lengths == sorted(lengths)


def test_a_slope_is_refused_where_the_baseline_has_not_learnt(ablation: Ablation) -> None:
    for seed in (1, 2):
        file = ablation.run(ablation.variant("numbers", "none"), seed).curves
        file.write_text(file.read_text().replace("99,dev/loss,1.195", "99,dev/loss,0.9"))
    found = evaluate(ablation, "numbers")
    assert found["slopes"] == {"refused": "none has not converged: its curve shows what it has not learnt yet"}
    report = to_markdown(write_report({"numbers": json.loads(json.dumps(found))}, Made("c", "today")), "figures")
    assert "cannot be read here: none has not converged" in report


def test_what_is_missing_or_cut_is_named(ablation: Ablation) -> None:
    variant = ablation.variant("numbers", "luong_dot")
    translations = ablation.translations(variant, 2, "test")
    whole = translations.read_text()
    for text, message in (
        (whole[: len(whole) // 2], r"luong_dot-2/test\.tsv: not a whole file of translations"),
        (whole.replace("t5\t", "t5 "), r"test\.tsv:7: 3 fields instead of 4"),
        (whole.replace("t5\t", "t500\t"), r"do not translate the same sentences"),
    ):
        translations.write_text(text)
        with pytest.raises(UserError, match=message):
            evaluate(ablation, "numbers")
    translations.write_text(whole)
    metrics = ablation.run(variant, 1).metrics
    metrics.write_text(metrics.read_text()[:40])
    with pytest.raises(UserError, match=r"metrics\.json: not a whole JSON file"):
        evaluate(ablation, "numbers")
    translations.unlink()
    with pytest.raises(UserError, match=r"test\.tsv: cannot be read \(No such file"):
        evaluate(ablation, "numbers")


# ---- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an empty store, whose artifacts go to a folder below it."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.slow
def test_mlflow_is_told_once_and_what_is_new_supersedes(
    ablation: Ablation, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from hourglass.experiments.publishing import PART, SUPERSEDED, publish

    def told() -> dict[str, Any]:
        experiment = client.get_experiment_by_name("e")
        assert experiment is not None
        return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}

    def tell() -> list[str]:
        return publish(ablation, {"numbers": json.loads(json.dumps(evaluate(ablation, "numbers")))}, client, "e")

    assert len(tell()) == 6
    runs = told()
    parts = {run.data.tags[PART]: run for run in runs.values()}
    assert len(runs) == len(parts) == 1 + 6
    one = parts["numbers none 2"]
    assert one.data.tags["mlflow.parentRunId"] == parts["ablation"].info.run_id
    assert one.data.tags["dvc_stage"] == "train-numbers@none-2"
    assert one.data.params["attention.name"] == "none"
    evaluation = evaluate(ablation, "numbers")
    assert one.data.metrics["test/bleu"] == pytest.approx(evaluation["variants"]["none"]["bleu_by_seed"][1])
    history = client.get_metric_history(one.info.run_id, "test/bleu_by_source_words")
    assert [point.step for point in history] == [1, 6, 11]
    assert {item.path for item in client.list_artifacts(one.info.run_id)} >= {"config.yaml", "test.tsv"}

    assert tell() == []
    assert told().keys() == runs.keys()

    # A server that dies within a run leaves a part of it: that goes, and the run is told whole.
    one_more = ablation.run(ablation.variant("numbers", "none"), 1).metrics
    one_more.write_text(one_more.read_text().replace('"train_seconds": 100.0', '"train_seconds": 60.0'))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", None)
        with pytest.raises(TypeError):
            tell()
    (cut,) = told().keys() - runs.keys()
    assert tell() == ["numbers none 1"]
    assert cut not in told()
    assert sum(SUPERSEDED not in run.data.tags for run in told().values()) == 1 + 6

    assert tell() == []
    runs = told()

    metrics = ablation.run(ablation.variant("numbers", "none"), 2).metrics
    metrics.write_text(metrics.read_text().replace('"train_seconds": 100.0', '"train_seconds": 50.0'))
    assert tell() == ["numbers none 2"]
    now = told()
    (new,) = now.keys() - runs.keys()
    assert now[one.info.run_id].data.tags[SUPERSEDED] == new
    assert SUPERSEDED not in now[new].data.tags
    # Or it dies before the one that is superseded is marked.
    superseded = next(run for run in told().values() if SUPERSEDED in run.data.tags)
    client.delete_tag(superseded.info.run_id, SUPERSEDED)
    assert tell() == []
    assert SUPERSEDED in told()[superseded.info.run_id].data.tags
    # What the ablation no longer has is marked too.
    fewer = evaluate(ablation, "numbers")
    del fewer["variants"]["luong_dot"]
    assert publish(ablation, {"numbers": json.loads(json.dumps(fewer))}, client, "e") == []
    assert sum(SUPERSEDED not in run.data.tags for run in told().values()) == 1 + 4


@pytest.mark.slow
def test_mlflow_gets_models_and_the_machine_where_the_runs_are(ablation: Ablation, client: Any, tmp_path: Path) -> None:
    """Told without them at first, a run is told again with them, once, and its model is registered once."""

    from hourglass.experiments.publishing import find_model, publish
    from hourglass.tracking.registry import add_version

    evaluated = {"numbers": json.loads(json.dumps(evaluate(ablation, "numbers")))}
    assert len(publish(ablation, evaluated, client, "e")) == 6
    assert find_model(client, "e", "numbers none 1") is None
    real = make_run(tmp_path, "attention=none", "trainer.test=false", "trainer.target_tokens=500")
    run = ablation.run(ablation.variant("numbers", "none"), 1)
    run.best.parent.mkdir(exist_ok=True)
    shutil.copy(real.best, run.best)
    shutil.copy(real.metrics, run.metrics)
    append_points(run.system, [Point(0, "system/cpu", 50.0, 1000)])
    assert publish(ablation, evaluated, client, "e") == ["numbers none 1"]
    assert publish(ablation, evaluated, client, "e") == []
    model = find_model(client, "e", "numbers none 1")
    assert model is not None
    assert model.source_run_id is not None
    told = client.get_run(model.source_run_id)
    assert told.data.metrics["system/cpu"] == 50.0
    assert told.inputs is not None
    assert told.inputs.dataset_inputs[0].dataset.name == "numbers"
    assert "scores_by_length.json" in {item.path for item in client.list_artifacts(model.source_run_id)}
    for _ in range(2):
        said = "registered: models:/numbers/1; it is the best by dev loss: models:/numbers@best"
        assert add_version(client, "numbers", model, is_best=True) == said
    assert '"name": "numbers"' in client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]


def test_an_evaluation_of_another_version_is_named(ablation: Ablation) -> None:
    file = ablation.results("numbers") / "evaluation.json"
    for text, message in (("{}", "no evaluation of this version"), ('{"a": ', "not a whole JSON file")):
        file.write_text(text)
        with pytest.raises(UserError, match=rf"evaluation\.json: {message}"):
            ablation.evaluation("numbers")


# ---- The report ------------------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.loaded.append(value)
        if tag in ("script", "link", "iframe", "img"):
            self.loaded.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_stands_alone_and_says_the_same_twice(found: dict[str, Any]) -> None:
    blocks = write_report({"numbers": found}, Made("c" * 40, "today"))
    page, markdown = to_html(blocks), to_markdown(blocks, "figures")
    links = Links()
    links.feed(page)
    assert links.loaded == []
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    assert page.count("<svg") == sum(isinstance(block, Picture) for block in blocks) == 5
    text = " ".join(links.words)
    own = found["variants"]["luong_general"]
    for number in (f"{own['bleu']['mean']:.2f}", f"{own['difference']['architecture']['low']:.2f}", "1,234"):
        assert number in text
        assert number in markdown
    for said in (own["signature"], "these trained models", "this architecture", "training pairs with a sentence"):
        assert said in text
        assert said in markdown
    for example in found["examples"]:
        assert example["translations"]["none"] in text
        assert example["translations"]["none"] in markdown
    # The same evaluation is the same page, to the byte.
    assert to_html(write_report({"numbers": found}, Made("c" * 40, "today"))) == page


def test_tables_as_csv_and_latex(found: dict[str, Any]) -> None:
    tables = [block for block in write_report({"numbers": found}, Made("c", "today")) if isinstance(block, Table)]
    assert len({table.name for table in tables}) == len(tables) == 4
    for table in tables:
        rows = list(csv.reader(io.StringIO(to_csv(table))))
        assert rows == [list(table.head), *map(list, table.rows)]
        latex = to_latex(table)
        assert latex.count(r"\\") == len(rows)
        assert not re.search(r"(?<!\\)_", "".join(latex.splitlines()[1:]))


@pytest.mark.slow
def test_two_runs_are_compared_by_the_command(ablation: Ablation) -> None:
    """As a user calls it, on run folders of an ablation, whose translations another stage has made."""
    paths = []
    for attention in ("luong_general", "none"):
        variant = ablation.variant("numbers", attention)
        run = ablation.run(variant, 1)
        assert yaml.safe_load(run.config.read_text())["edges"] == [1, 6, 11]
        paths.append(str(run.path))
    command = [sys.executable, str(ROOT / "pipelines" / "compare.py")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if row and re.match(r"\d|all", row[0])] == ["1-5", "6-10", "11+", "all"]
    failed = subprocess.run([*command, paths[0]], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert re.fullmatch(r"error: usage: python .*compare\.py RUN OTHER_RUN\n", failed.stderr)
    for other, message in ((paths[0], "the same folder twice"), ("nowhere", "run=nowhere: no run is there")):
        with pytest.raises(UserError, match=message):
            compare_runs(Path(paths[0]), Path(other), 1000)


@pytest.mark.slow
def test_several_runs_stand_side_by_side_by_length(ablation: Ablation, tmp_path: Path) -> None:
    variants = [ablation.variant("numbers", attention) for attention in ("none", "luong_general", "luong_dot")]
    paths = [str(ablation.run(variant, 1).path) for variant in variants]
    command = [sys.executable, str(ROOT / "pipelines" / "by_length.py")]
    done = subprocess.run([*command, *paths, f"out={tmp_path / 'out'}"], capture_output=True, text=True, check=True)
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    assert head[:5] == ["run", "1-5 words", "6-10 words", "11+ words", "all"]
    assert [row[0] for row in rows] == ["none-1", "luong_general-1", "luong_dot-1"]
    for variant, row in zip(variants, rows, strict=True):
        some = read_translations(ablation.translations(variant, 1, "test"))
        for column, low, high in ((1, 1, 5), (2, 6, 10), (3, 11, 999), (4, 1, 999)):
            inside = [one for one in some if low <= len(one.source.split()) <= high]
            theirs = BLEU().corpus_score([one.hypothesis for one in inside], [[one.reference for one in inside]])
            assert float(row[column].split()[0]) == pytest.approx(theirs.score, abs=0.005)
    assert (tmp_path / "out" / "figures" / "bleu-by-length.svg").is_file()
    failed = subprocess.run([*command, paths[0]], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert re.fullmatch(r"error: usage: python pipelines/by_length\.py RUN RUN \.\.\. \[out=FOLDER\]\n", failed.stderr)
