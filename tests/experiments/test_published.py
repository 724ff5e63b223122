"""The table of published systems: its file, its runs, its scores against sacreBLEU's and `compare_runs`' own."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from helpers import ROOT, write_multi30k
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from hourglass.errors import UserError
from hourglass.experiments import published
from hourglass.experiments.published import PublishedSettings, Run, load_published, make_run, runs_of, summarise
from hourglass.experiments.published_report import name_systems, write_published
from hourglass.reports.document import to_markdown
from hourglass.runs.translations import read_translations


def as_text(settings: PublishedSettings) -> str:
    return to_markdown(write_published(summarise(settings), settings), "figures")


def test_the_file_names_only_systems_that_exist() -> None:
    settings = load_published()
    files = Path(published.ROOT / "conf" / "experiment")
    for system in settings.systems:
        first = system.split()[0]
        assert (files / f"{first.removeprefix('experiment=')}.yaml").is_file()
    assert len({run.folder.path for run in runs_of(settings, settings.directions)}) == len(settings.systems) * len(
        settings.seeds
    ) * len(settings.directions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("systems: [a, a]\n", "systems: an entry stands twice"),
        ("baseline: experiment=none\n", "baseline=experiment=none: not among systems"),
        ("edges: [1, 1]\n", "edges=[1, 1]: set whole numbers that rise, the first of them 1"),
        ("directions: [german]\n", "directions=german: write SOURCE-TARGET, as in de-en"),
        ("resamples: 10\n", "published.resamples=10: input should be greater than or equal to 1000"),
        ("budget: 1\n", "published.budget: no such option"),
    ],
)
def test_a_wrong_file_is_refused_by_name(change: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    option = change.split(":", maxsplit=1)[0]
    lines = (published.ROOT / "conf" / "published.yaml").read_text().splitlines(keepends=True)
    top = [number for number, line in enumerate(lines) if not line.startswith((" ", "#"))]
    kept: list[str] = []
    for start, end in zip(top, [*top[1:], len(lines)], strict=True):
        if not lines[start].startswith(f"{option}:"):
            kept += lines[start:end]
    file.write_text("".join(kept) + change)
    with pytest.raises(UserError, match=r"published\.yaml") as refused:
        load_published(file)
    assert message in str(refused.value)


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(UserError, match=r"de-fr: not in conf/published.yaml; it has de-en, en-de"):
        runs_of(load_published(), ["de-fr"])


def check_buckets(buckets: list[dict[str, Any]], scores: list[dict[str, Any]], runs: list[Run]) -> None:
    """See that BLEU of each bucket and seed is sacreBLEU's of the sentences whose references are as long."""
    translations = [read_translations(run.translations("beam")) for run in runs]
    tokens = [len(Tokenizer13a()(row.reference).split()) for row in translations[0]]
    assert sum(bucket["sentences"] for bucket in buckets) == len(tokens)
    for bucket, bleu in zip(buckets, scores, strict=True):
        low, high = bucket["tokens"]
        inside = [row for row, count in enumerate(tokens) if low <= count and (high is None or count <= high)]
        assert bucket["sentences"] == len(inside)
        for rows, ours in zip(translations, bleu["by_seed"], strict=True):
            some = [rows[row] for row in inside]
            theirs = sacrebleu.corpus_bleu([r.hypothesis for r in some], [[r.reference for r in some]])
            assert ours == pytest.approx(theirs.score, abs=1e-9)


@pytest.mark.slow
def test_two_systems_are_made_once_and_scored_as_sacrebleu_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    write_multi30k(raw)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    settings = dataclasses.replace(
        load_published(ROOT / "conf" / "published.yaml"),
        systems=["experiment=cho2014", "experiment=luong2015 decoder.input_feeding=false"],
        baseline="experiment=cho2014",
        directions=["de-en"],
        edges=[1, 5, 8],
        common=[
            "trainer=smoke",
            "trainer.validations=5",
            "trainer.target_tokens=2000",
            "trainer.batch_tokens=200",
            "data.vocabulary_size=60",
            f"cache={tmp_path}/cache",
            "encoder.hidden_size=8",
            "decoder.hidden_size=8",
            "encoder.summary_size=64",
            "decoder.readout_size=8",
        ],
    )
    settings.systems[0] += " encoder.summary_size=8"
    settings = dataclasses.replace(settings, baseline=settings.systems[0])
    runs = runs_of(settings, ["de-en"])
    assert summarise(settings)["de-en"]["systems"] == {}
    assert [make_run(run, settings, str(raw)) for run in runs] == [True] * 4
    assert [make_run(run, settings, str(raw)) for run in runs] == [False] * 4
    summary = summarise(settings)
    for system, one in summary["de-en"]["systems"].items():
        for search in published.SEARCHES:
            for number, seed in enumerate(settings.seeds):
                rows = read_translations(Run(system, "de-en", seed).translations(search))
                assert len(rows) == 20
                for test, some in (("test_2016_flickr", rows[:12]), ("test_2017_flickr", rows[12:])):
                    assert all(row.id.startswith(f"{test}-") for row in some)
                    theirs = sacrebleu.corpus_bleu([r.hypothesis for r in some], [[r.reference for r in some]])
                    assert one["scores"][test][search]["by_seed"][number] == pytest.approx(theirs.score, abs=1e-9)
        check_buckets(summary["de-en"]["buckets"], one["buckets"], [Run(system, "de-en", s) for s in settings.seeds])
    table = as_text(settings)
    # Two test sets, and what was trained.
    assert table.count("\n| cho2014 ") == 3
    assert table.count("\n| luong2015 decoder.input_feeding=false ") == 3
    assert "tok:13a" in table
    [row, *_] = [line for line in table.splitlines() if line.startswith("| luong2015 ")]
    assert "| - |" not in row
    single = dataclasses.replace(settings, seeds=[1])
    [row, *_] = [line for line in as_text(single).splitlines() if line.startswith("| luong2015 ")]
    assert row.count("| - |") == 1  # One seed says nothing of how seeds vary, ...
    assert row.count("] |") == 1  # ... but the test sentences do.
    # What is kept is enough for the table: the runs may go.
    shutil.rmtree(tmp_path / "pipeline")
    assert summarise(settings) == summary
    assert [make_run(run, settings, str(raw)) for run in runs] == [False] * 4
    # Other settings are another table, and a run that is begun again is not made until it is done.
    other = dataclasses.replace(settings, common=[*settings.common, "optimizer.warmup=0.5"])
    assert summarise(other)["de-en"]["systems"] == {}
    monkeypatch.setattr(published, "run_training", lambda words: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_run(runs[0], other, str(raw))
    left = summarise(settings)["de-en"]["systems"]
    assert {system: one["seeds"] for system, one in left.items()} == dict(
        zip(settings.systems, ([2], [1, 2]), strict=True)
    )
    assert "Owed: cho2014, seed 1." in as_text(settings)
    # Records of other data are no seeds of the same; a damaged one is named.
    record, whole = runs[-1].record.read_text(), runs[-1].counts.read_bytes()
    digest = json.loads(record)["corpus_digest"]
    runs[-1].record.write_text(record.replace(digest, "0" * len(digest)))
    with pytest.raises(UserError, match=r"-2\.json: of runs on different data: delete"):
        summarise(settings)
    runs[-1].record.write_text(record)
    for damaged in (b"", whole[:100], whole[:200] + bytes(100) + whole[300:]):
        runs[-1].counts.write_bytes(damaged)
        with pytest.raises(UserError, match=r"-2\.npz: not a whole file of counts .*: delete .*-2\.json beside it"):
            summarise(settings)


def test_the_readme_says_what_the_record_says() -> None:
    """Each system's BLEU there (test_2016_flickr, beam 5, mean over seeds) is that of the record."""
    root = ROOT
    settings = load_published()
    summary = json.loads((root / "results" / "published" / "scores.json").read_text())
    lines = (root / "README.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| system | command |"))
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[first:])
    ]
    said = {row[1].strip("`"): dict(zip(table[0], row, strict=True)) for row in table[2:]}
    for direction in settings.directions:
        for system in settings.systems:
            # How many layers a stack has is said beside the table.
            command = " ".join(word for word in system.split() if ".layers=" not in word and "summary_size" not in word)
            one = summary[direction]["systems"].get(system)
            if one is None:
                assert said[command][direction] == "owed"
                continue
            count = len(system.split())
            assert one["words"][:count] == system.split()
            assert one["words"][count : count + len(settings.common)] == settings.common
            seeds = "" if one["seeds"] == settings.seeds else f" ({len(one['seeds'])} seed)"
            assert said[command][direction] == f"{one['scores']['test_2016_flickr']['beam']['mean']:.1f}{seeds}"
    report = to_markdown(write_published(summary, settings), "figures")
    assert (root / "results" / "published" / "report.md").read_text() == report


@pytest.mark.slow
def test_the_record_is_made_of_what_is_kept_of_the_runs() -> None:
    # As text: the last digits of a logarithm are the processor's.
    assert as_text(load_published()) == (published.ROOT / "results" / "published" / "report.md").read_text()


def test_systems_are_named_by_what_tells_them_apart() -> None:
    settings = load_published()
    names = name_systems(settings)
    assert names[settings.systems[4]] == "luong2015 decoder.input_feeding=false"
    assert len(set(names.values())) == len(settings.systems)
    alike = dataclasses.replace(
        settings, systems=["experiment=a encoder.layers=1", "experiment=a"], baseline="experiment=a"
    )
    assert list(name_systems(alike).values()) == ["a encoder.layers=1", "a"]
