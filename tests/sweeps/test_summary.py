"""The summary of a sweep: its table, and the commands below it."""

import json
from pathlib import Path

import pytest
import yaml
from helpers import finished_metrics

from hourglass.reports.document import to_csv
from hourglass.sweeps.summary import SweptJob, comparing_commands, jobs_table, summarise_jobs, text_table, varying


def write_run(
    path: Path,
    dev: float,
    buckets: dict[int, float] | None,
    digest: str = "d",
    *,
    select: str = "bleu",
    loss: float = 5.0,
) -> str:
    """Write the settings and metrics of a finished run; `buckets` has BLEU by first number of words."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": 1, "trainer": {"select": select}}))
    metrics = finished_metrics(dev={"loss": loss, "bleu": dev, "step": 5}, corpus={"digest": digest})
    if buckets is not None:
        rows = [
            {"source_words": [low, low + 9 if low < 11 else None], "sentences": 5, "bleu": bleu}
            for low, bleu in buckets.items()
        ]
        rows.append({"source_words": [99, 100], "sentences": 0, "bleu": 0.0})
        metrics["test"] = {"bleu": dev + 1, "buckets": rows}
    (path / "metrics.json").write_text(json.dumps(metrics))
    return str(path)


def test_only_choices_that_vary_have_columns() -> None:
    jobs = [["a=1", "b=x", "+c=0"], ["a=1", "b=y=z", "+c=0"], ["a=1", "b=x"]]
    assert varying(jobs) == [{"b": "x", "+c": "0"}, {"b": "y=z", "+c": "0"}, {"b": "x"}]
    assert varying([["a=1"]]) == [{}]


def test_the_table_of_jobs(tmp_path: Path) -> None:
    jobs = [
        SweptJob(0, "complete", {"a": "x"}, [write_run(tmp_path / "r0", 5.0, {1: 9.0, 11: 2.0})]),
        SweptJob(1, "failed", {"a": "y"}, error="the run has diverged"),
        SweptJob(2, "pruned", {"a": "z"}, [write_run(tmp_path / "r2", 1.0, None)], values={"parameters": 1234567.0}),
        SweptJob(3, "complete", {"b": "w"}, [write_run(tmp_path / f"r3-{n}", 6.0 + n, {1: 8.0 + n}) for n in (0, 1)]),
        SweptJob(4, "complete", {"a": "x"}, ["a/run/of/another/machine"]),
    ]
    table = jobs_table(jobs, "job")
    head = "job,a,b,state,parameters,dev BLEU,dev loss,test BLEU,1-10 words,11+ words,run"
    rows = [
        f"0,x,,complete,,5.00,5.000,6.00,9.00,2.00,{tmp_path}/r0",
        "1,y,,failed,,,,,,,",
        f"2,z,,pruned,1.23457e+06,1.00,5.000,,,,{tmp_path}/r2",
        "3,,w,complete,,6.50,5.000,7.50,8.50,,2 runs",
        "4,x,,complete,,,,,,,a/run/of/another/machine",
    ]
    assert to_csv(table).splitlines() == [head, *rows]
    text = text_table(table).splitlines()
    # Every cell is where its heading is: text from its left end, numbers up to its right end.
    assert [row[text[0].index("state") :].split()[0] for row in text[1:]] == [job.state for job in jobs]
    end = text[0].index("test BLEU") + len("test BLEU")
    assert [row[end - 4 : end].strip() for row in text[1:]] == ["6.00", "", "", "7.50", ""]
    summary = summarise_jobs(jobs, "job")
    assert "\njob 1 failed: the run has diverged\n" in summary


def test_runs_of_one_test_set_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scores = {"a b": (3.0, "d"), "c": (7.0, "d"), "e": (9.0, "other"), "f": (5.0, "d")}
    for name, (dev, digest) in scores.items():
        write_run(Path(name), dev, {1: 1.0}, digest)
    write_run(Path("untested"), 9.0, None)
    names = [*scores, "untested"]
    jobs = [SweptJob(n, "complete", {"seed": "1", "x": name}, [name]) for n, name in enumerate(names)]
    compare, groups = comparing_commands(jobs)
    assert compare.endswith("pipelines/compare.py c 'a b'")
    assert groups.endswith("pipelines/compare.py 'a b' c f")
    (compare,) = comparing_commands(jobs[1:4])  # Two of one test set: one command shows all.
    assert compare.endswith("compare.py c f")
    assert comparing_commands(jobs[2:3]) == []


def test_the_best_is_the_best_by_the_score_that_selects(tmp_path: Path) -> None:
    """With trainer.select=loss, BLEU on dev does not decide."""
    scores = [(1.0, 3.0), (9.0, 2.0), (2.0, 1.0)]
    for select, best in (("bleu", 1), ("loss", 2)):
        paths = [
            write_run(tmp_path / f"{select}{n}", bleu, {1: 1.0}, select=select, loss=loss)
            for n, (bleu, loss) in enumerate(scores)
        ]
        jobs = [SweptJob(n, "complete", {"x": str(n)}, [path]) for n, path in enumerate(paths)]
        assert comparing_commands(jobs)[0].endswith(f"compare.py {paths[best]} {paths[0]}")


def test_jobs_of_several_main_metrics_are_compared_by_one_of_them(tmp_path: Path) -> None:
    jobs = []
    for number, name in enumerate(("exact", "phoneme_error_rate")):
        path = Path(write_run(tmp_path / name, 90.0, {1: 9.0}, select=name))
        metrics = json.loads((path / "metrics.json").read_text())
        metrics["dev"] = {"loss": 1.0, name: 90.0, "step": 5}
        metrics["test"] = {"main": name, name: 90.0, "buckets": []}
        (path / "metrics.json").write_text(json.dumps(metrics))
        jobs.append(SweptJob(number, "complete", {"metrics": name}, [str(path)]))
    (command,) = comparing_commands(jobs)
    assert command.endswith(f"compare.py {tmp_path}/exact {tmp_path}/phoneme_error_rate metric=exact")


def test_two_seeds_of_a_setting_are_not_compared_with_each_other(tmp_path: Path) -> None:
    """The best is compared with the first of another setting; where only seeds vary, all are in one command."""
    bleu = {("none", "1"): 1.0, ("none", "2"): 9.0, ("mean", "1"): 2.0, ("mean", "2"): 3.0}
    paths = {choice: write_run(tmp_path / "-".join(choice), score, {1: 1.0}) for choice, score in bleu.items()}
    jobs = [
        SweptJob(n, "complete", {"attention": choice[0], "seed": choice[1]}, [path])
        for n, (choice, path) in enumerate(paths.items())
    ]
    pair, everything = comparing_commands(jobs)
    assert pair.endswith(f"compare.py {paths['none', '2']} {paths['mean', '1']}")
    assert everything.endswith(f"compare.py {' '.join(paths.values())}")
    (seeds,) = comparing_commands(jobs[:2])
    assert seeds.endswith(f"compare.py {paths['none', '1']} {paths['none', '2']}")
