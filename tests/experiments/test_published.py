"""The published systems: their file, their runs, and their scores against those of sacreBLEU itself."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest
import sacrebleu
from helpers import ROOT, run_script, write_multi30k
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from hourglass.errors import UserError
from hourglass.experiments import published
from hourglass.experiments.published import (
    PublishedRun,
    PublishedSettings,
    list_published_runs,
    make_published_run,
    published_settings,
)
from hourglass.experiments.published_report import name_systems, report_published
from hourglass.experiments.published_scores import (
    ReferenceBucket,
    SystemScores,
    read_scores,
    score_published,
    write_scores,
)
from hourglass.metrics import significance
from hourglass.reports.document import to_markdown
from hourglass.runs.translations import read_translations
from hourglass.system.yaml_files import read_yaml


def load_published(content: str = (ROOT / "conf" / "published.yaml").read_text()) -> PublishedSettings:
    return published_settings(read_yaml(content))


def report_text(settings: PublishedSettings) -> str:
    return to_markdown(report_published(score_published(settings), settings), "figures")


def test_the_file_names_existing_systems_only() -> None:
    settings = load_published()
    files = Path(published.ROOT / "conf" / "experiment")
    for system in settings.systems:
        first = system.split()[0]
        assert (files / f"{first.removeprefix('experiment=')}.yaml").is_file()
    runs = list_published_runs(settings, settings.directions)
    number = len(settings.systems) * len(settings.seeds) * len(settings.directions)
    assert len({run.folder.path for run in runs}) == len(runs) == number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("systems: [a, a]\n", "systems: an entry stands twice"),
        ("baseline: experiment=none\n", "baseline=experiment=none: not among systems"),
        ("edges: [1, 1]\n", "edges=[1, 1]: set whole numbers that rise, the first of them 1"),
        ("directions: [german]\n", "directions=german: write SOURCE-TARGET, as in de-en"),
        ("resamples: 10\n", "resamples=10: input should be greater than or equal to 1000"),
        ("budget: 1\n", "budget: no such option"),
    ],
)
def test_a_wrong_file_is_refused_by_name(change: str, message: str) -> None:
    option = change.split(":", maxsplit=1)[0]
    lines = (published.ROOT / "conf" / "published.yaml").read_text().splitlines(keepends=True)
    top = [number for number, line in enumerate(lines) if not line.startswith((" ", "#"))]
    kept: list[str] = []
    for start, end in zip(top, [*top[1:], len(lines)], strict=True):
        if not lines[start].startswith(f"{option}:"):
            kept += lines[start:end]
    with pytest.raises(UserError) as refused:
        load_published("".join(kept) + change)
    assert str(refused.value).startswith(f"conf/published.yaml: {message}")


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(UserError, match=r"de-fr: not in conf/published.yaml; it has de-en, en-de"):
        list_published_runs(load_published(), ["de-fr"])


def check_buckets(buckets: list[ReferenceBucket], own: SystemScores, runs: list[PublishedRun]) -> None:
    """Check that BLEU of each bucket and seed is sacreBLEU's for the sentences whose references are that long."""
    translations = [read_translations(run.translations("beam")) for run in runs]
    tokens = [len(Tokenizer13a()(row.reference).split()) for row in translations[0]]
    assert sum(bucket.sentences for bucket in buckets) == len(tokens)
    for bucket, bleu in zip(buckets, own.buckets, strict=True):
        low, high = bucket.tokens
        inside = [row for row, count in enumerate(tokens) if low <= count and (high is None or count <= high)]
        assert bucket.sentences == len(inside)
        for rows, value in zip(translations, bleu.by_seed, strict=True):
            chosen = [rows[row] for row in inside]
            expected = sacrebleu.corpus_bleu([r.hypothesis for r in chosen], [[r.reference for r in chosen]])
            assert value == pytest.approx(expected.score, abs=1e-9)


def check_bad_records(run: PublishedRun, settings: PublishedSettings) -> None:
    """Check that records of different corpora, damaged ones and those of another version are refused by name."""
    record, whole = run.record_file.read_text(), run.counts_file.read_bytes()
    digest = json.loads(record)["corpus_digest"]
    run.record_file.write_text(record.replace(digest, "0" * len(digest)))
    with pytest.raises(UserError, match=r"-2\.json: of runs on different data: delete"):
        score_published(settings)
    run.record_file.write_text(record)
    run.record_file.write_text(record.replace('"schema_version": 1', '"schema_version": 0'))
    with pytest.raises(UserError, match=r"-2\.json: schema_version is 0, .*: run python pipelines/published\.py"):
        score_published(settings)
    run.record_file.write_text(record)
    for damaged in (b"", whole[:100], whole[:200] + bytes(100) + whole[300:]):
        run.counts_file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"-2\.npz: not a whole file of counts .*: delete .*-2\.json beside it"):
            score_published(settings)


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.usefixtures("_jobs_in_forks")
def test_two_systems_are_trained_once_and_scored_as_by_sacrebleu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    write_multi30k(raw)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(significance, "FEWEST_SENTENCES", 5)  # The smaller test set has 8 sentences.
    settings = dataclasses.replace(
        load_published(),
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
    runs = list_published_runs(settings, ["de-en"])
    assert score_published(settings).directions["de-en"].systems == {}
    assert [make_published_run(run, settings, str(raw)) for run in runs] == [True] * 4
    assert [make_published_run(run, settings, str(raw)) for run in runs] == [False] * 4
    scores = score_published(settings)
    write_scores(tmp_path / "scores.json", scores)
    assert read_scores(tmp_path / "scores.json") == scores
    result = scores.directions["de-en"]
    for system, own in result.systems.items():
        for search in published.SEARCHES:
            for number, seed in enumerate(settings.seeds):
                rows = read_translations(PublishedRun(system, "de-en", seed).translations(search))
                assert len(rows) == 20
                for test, part in (("test_2016_flickr", rows[:12]), ("test_2017_flickr", rows[12:])):
                    assert all(row.id.startswith(f"{test}-") for row in part)
                    expected = sacrebleu.corpus_bleu([r.hypothesis for r in part], [[r.reference for r in part]])
                    bleu = own.scores[test].greedy if search == "greedy" else own.scores[test].beam
                    assert bleu.by_seed[number] == pytest.approx(expected.score, abs=1e-9)
        check_buckets(result.buckets, own, [PublishedRun(system, "de-en", s) for s in settings.seeds])
    table = report_text(settings)
    # Two test sets, and what was trained.
    assert table.count("\n| cho2014 ") == 3
    assert table.count("\n| luong2015 decoder.input_feeding=false ") == 3
    assert "tok:13a" in table
    [row, *_] = [line for line in table.splitlines() if line.startswith("| luong2015 ")]
    assert "| - |" not in row
    single = dataclasses.replace(settings, seeds=[1])
    [row, *_] = [line for line in report_text(single).splitlines() if line.startswith("| luong2015 ")]
    assert row.count("| - |") == 1  # A single seed gives no interval over seeds, ...
    assert row.count("] |") == 1  # ... but one over test sentences.
    # The records suffice for the scores: the runs are not needed.
    shutil.rmtree(tmp_path / "pipeline")
    assert score_published(settings) == scores
    assert [make_published_run(run, settings, str(raw)) for run in runs] == [False] * 4
    # Records of other settings do not count, and an interrupted run has no record.
    other = dataclasses.replace(settings, common=[*settings.common, "optimizer.warmup=0.5"])
    assert score_published(other).directions["de-en"].systems == {}
    monkeypatch.setattr(published, "run_training", lambda words: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_published_run(runs[0], other, str(raw))
    left = score_published(settings).directions["de-en"].systems
    assert {system: own.seeds for system, own in left.items()} == dict(
        zip(settings.systems, ([2], [1, 2]), strict=True)
    )
    assert "Not trained yet: cho2014, seed 1." in report_text(settings)
    check_bad_records(runs[-1], settings)


def test_the_docs_show_the_recorded_scores() -> None:
    """BLEU of each system in docs/published.md: test_2016_flickr, beam 5, mean over seeds."""
    settings = load_published()
    scores = read_scores(ROOT / "results" / "published" / "scores.json")
    lines = (ROOT / "docs" / "published.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| system | command |"))
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[first:])
    ]
    shown = {row[1].strip("`"): dict(zip(table[0], row, strict=True)) for row in table[2:]}
    for direction in settings.directions:
        for system in settings.systems:
            # The docs name the sizes beside the table.
            command = " ".join(word for word in system.split() if ".layers=" not in word and "summary_size" not in word)
            own = scores.directions[direction].systems[system]
            count = len(system.split())
            assert own.words[:count] == system.split()
            assert own.words[count : count + len(settings.common)] == settings.common
            assert own.seeds == settings.seeds
            assert shown[command][direction] == f"{own.scores['test_2016_flickr'].beam.mean:.1f}"
    report = to_markdown(report_published(scores, settings), "figures")
    assert (ROOT / "results" / "published" / "report.md").read_text() == report


@pytest.mark.slow
def test_the_recorded_report_follows_from_the_records() -> None:
    # Compared as text: the last digits of a logarithm differ between processors.
    assert report_text(load_published()) == (published.ROOT / "results" / "published" / "report.md").read_text()


def test_the_names_of_systems_are_short_and_distinct() -> None:
    settings = load_published()
    names = name_systems(settings)
    assert names[settings.systems[4]] == "luong2015 decoder.input_feeding=false"
    assert len(set(names.values())) == len(settings.systems)
    alike = dataclasses.replace(
        settings, systems=["experiment=a encoder.layers=1", "experiment=a"], baseline="experiment=a"
    )
    assert list(name_systems(alike).values()) == ["a encoder.layers=1", "a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such folder; it should have the raw files of data=multi30k"),
        (
            ["."],
            "data.folder=HERE: no such file; tried HERE/train.de, HERE/train.de.gz, HERE/train.en, HERE/train.en.gz",
        ),
        (
            [".", "resamples=5000"],
            "resamples=5000: part of the record of the results: change resamples in conf/published.yaml",
        ),
        ([".", "de-fr"], "de-fr: not in conf/published.yaml; it has de-en, en-de"),
    ],
)
def test_mistakes_on_the_command_line_change_no_result(words: list[str], message: str, tmp_path: Path) -> None:
    """All runs have records, so that nothing else would read the folder."""
    scores = ROOT / "results" / "published" / "scores.json"
    before = scores.stat().st_mtime_ns
    done = run_script("pipelines/published.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {message.replace('HERE', str(tmp_path))}\n"
    assert scores.stat().st_mtime_ns == before
