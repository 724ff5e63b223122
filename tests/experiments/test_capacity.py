"""The capacity sweep: its files, its runs, their measurement and its report."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import CONF, ROOT, compose_config
from matplotlib.collections import PolyCollection

from hourglass.analysis.capacity import read_capacity, save_capacity
from hourglass.analysis.evaluation import SCHEMA_VERSION as TUNING_VERSION
from hourglass.analysis.evaluation import Candidate, Tuning, rate_word
from hourglass.errors import UserError
from hourglass.experiments import capacity as capacity_module
from hourglass.experiments import rate_search
from hourglass.experiments.capacity import (
    CapacityRun,
    list_capacity_runs,
    load_capacity,
    measure_capacity,
    train_capacity_runs,
)
from hourglass.reports.capacity import report_capacity, summarise_capacity
from hourglass.reports.document import Picture, Table, to_html, to_markdown
from hourglass.reports.plots import look
from hourglass.system.records import write_record
from hourglass.training.settings import check_settings

RECORD = ROOT / "results" / "capacity" / "cpu"
NAMES = sorted(path.stem for path in (CONF / "capacity").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("gpu", marks=pytest.mark.more) if name == "gpu" else name for name in NAMES]
)
def test_all_runs_of_a_file_are_different_and_calibrated(name: str) -> None:
    settings = load_capacity(name)
    runs = list_capacity_runs(settings)
    assert len({run.name for run in runs}) == len(runs)
    assert {run.width for run in runs if run.line == "none"} == set(settings.widths)
    # The widest of each kind: if a summary is wider than what surrounds it, it is no neck.
    widest = {(run.line, run.bits): run for run in sorted(runs, key=lambda run: run.width)}
    for run in widest.values():
        trainer = (
            ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.cuda_graphs=false"]
            if "trainer=gpu" in settings.overrides
            else []
        )
        config = compose_config(*settings.overrides, *run.overrides, *trainer)
        check_settings(config)
        assert not run.width or config["encoder"]["summary_size"] == run.width
        assert config["encoder"]["summary_bits"] == run.bits
        assert config["data"]["calibrated"]


def test_no_two_lines_look_alike() -> None:
    for name in NAMES:
        lines = dict.fromkeys(run.line for run in list_capacity_runs(load_capacity(name)))
        assert len({look(number) for number in range(len(lines))}) == len(lines) > 7
    assert len({look(number) for number in range(49)}) == 49


def test_the_widths_of_one_line_differ_in_the_neck_alone() -> None:
    """And in the layers into it and out of it, which have its width."""
    narrow, wide = (compose_config(*CapacityRun("capacity_fixed", width).overrides) for width in (2, 64))
    assert narrow["encoder"].pop("summary_size") != wide["encoder"].pop("summary_size")
    assert narrow == wide


def test_a_state_that_is_passed_may_be_calibrated() -> None:
    """A matrix of thousands of numbers, too: it is encoder state, neck and decoder state at once."""
    words = ["encoder.bidirectional=false", "decoder.start=pass", "encoder.cell=delta_net", "decoder.cell=delta_net"]
    words += ["encoder.hidden_size=64", "decoder.hidden_size=64", "encoder.summary_size=1088"]
    check_settings(compose_config("experiment=capacity", *words))


def test_a_summary_wider_than_its_surroundings_is_refused() -> None:
    with pytest.raises(UserError, match=r"encoder\.summary_size=300 with data\.calibrated=true is no neck between"):
        check_settings(compose_config("experiment=capacity", "encoder.summary_size=300"))
    with pytest.raises(
        UserError, match=r"decoder state of 16: set encoder\.hidden_size so that the former has at least 64"
    ):
        check_settings(compose_config("experiment=capacity", "encoder.summary_size=32", "decoder.hidden_size=16"))
    other = ("experiment=capacity", "encoder=transformer", "~encoder.bidirectional")
    check_settings(compose_config(*other, "encoder.summary_size=64", "encoder.summary_bits=4"))
    with pytest.raises(UserError, match=r"encoder\.summary_size=65 .* between a pooled encoder state of 128 numbers"):
        check_settings(compose_config(*other, "encoder.summary_size=65"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rounded: [[4]]", "rounded=[[4]]: each entry is [width, bits]"),
        ("other_cell: rnn", "capacity.other_cell=rnn: input should be 'lstm'"),
        ("workers: 0", "capacity.workers=0: input should be greater than 0"),
        ("depth: 2", "capacity.depth: no such option"),
    ],
)
def test_a_wrong_file_is_refused_by_name(change: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "capacity"
    folder.mkdir(parents=True)
    lines = (CONF / "capacity" / "cpu.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(change.split(":", maxsplit=1)[0])]
    (folder / "mine.yaml").write_text("\n".join([*kept, change, ""]))
    with pytest.raises(UserError) as refused:
        load_capacity("mine", tmp_path)
    assert str(refused.value).startswith(f"{folder / 'mine.yaml'}: {message}")
    with pytest.raises(UserError, match=r"other\.yaml: no such file; choose from mine"):
        load_capacity("other", tmp_path)


@pytest.mark.more
@pytest.mark.slow
def test_a_sweep_that_cannot_be_measured_is_refused_before_its_first_run(tmp_path: Path) -> None:
    settings = load_capacity("cpu")
    for override, message in (
        ("data.test_pairs=30", r"capacity-2: data\.test_pairs=30: each length needs two sequences"),
        ("trainer.validations=1", r"capacity-2: trainer\.validations=1: convergence is judged from two"),
        ("decoder.hidden_size=32", r"capacity-64: encoder\.summary_size=64 with data\.calibrated=true is no neck"),
    ):
        with pytest.raises(UserError, match=message):
            train_capacity_runs(dataclasses.replace(settings, overrides=[*settings.overrides, override]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_the_one_of_the_recorded_result() -> None:
    """Its numbers come from capacity.json alone, so that no training is needed to write it again."""
    blocks = report_capacity("cpu", read_capacity(RECORD / "capacity.json", "dvc repro"))
    assert to_markdown(blocks, "figures") == (RECORD / "report.md").read_text()


def test_no_interval_of_bits_exceeds_those_of_the_source() -> None:
    capacity = read_capacity(RECORD / "capacity.json", "dvc repro")
    uncertain = [
        dataclasses.replace(
            point,
            channel=dataclasses.replace(
                point.channel,
                error=100.0,
                by_length=[dataclasses.replace(row, error=100.0) for row in point.channel.by_length],
            ),
        )
        for point in capacity.points
    ]
    blocks = report_capacity("cpu", dataclasses.replace(capacity, points=uncertain))
    (table,) = (block for block in blocks if isinstance(block, Table))
    column = table.head.index("95 %")
    assert {row[column].split(", ")[1] for row in table.rows} == {f"{uncertain[0].channel.source_bits:.2f}]"}
    for block in blocks:
        if isinstance(block, Picture) and block.name in ("capacity-bits", "capacity-by-length-none"):
            axes = block.figure.axes[0]
            assert axes.get_title(loc="right") == "bands: 95 %, over test sequences; one seed each, so not over seeds"
            (limit,) = (line for line in axes.lines if line.get_linewidth() == 1)  # The bits in the source.
            bands = [path for band in axes.collections if isinstance(band, PolyCollection) for path in band.get_paths()]
            assert bands
            assert all(
                np.asarray(path.vertices)[:, 1].max() <= np.asarray(limit.get_ydata()).max() + 1e-9 for path in bands
            )


def test_the_recorded_bits_keep_their_ceilings_and_are_those_of_the_docs() -> None:
    points = read_capacity(RECORD / "capacity.json", "dvc repro").points
    assert [point.name for point in points] == [run.name for run in list_capacity_runs(load_capacity("cpu"))]
    for point in points:
        channel = point.channel
        assert channel.wrong_source_bits <= 3 * channel.wrong_source_error
        assert channel.bits <= (channel.ceiling or channel.source_bits) + 3 * channel.error
    page = (ROOT / "docs" / "results.md").read_text()
    for line in ("none", "fixed"):
        cells = " | ".join(f"{point.channel.bits:.1f}" for point in points if point.line == line)
        assert re.search(rf"^\| {line}\b[^|]*\| {re.escape(cells)} \|$", page, re.M)


@pytest.mark.slow
def test_each_run_gets_a_search_of_its_own_and_the_rate_that_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(load_capacity("cpu"), widths=[2, 4], other_widths=[], rounded=[], workers=1)
    rates: dict[str, float] = {}
    trained: dict[str, list[str]] = {}

    def searched(grid: Any, common: list[str], *places: Any, output: Any) -> Tuning:
        folder_of, file = places
        assert grid == settings.learning_rates
        assert common[-2:] == [f"trainer.target_tokens={settings.search_tokens}", "trainer.test=false"]
        rates[file.stem] = 0.001 * (1 + len(rates))
        chosen = [rate_word(rates[file.stem])]
        write_record(file, tuning := Tuning(chosen, [Candidate(chosen, 1.0, 1, 1.0)]), TUNING_VERSION)
        assert folder_of(0).parent == file.parent
        return tuning

    monkeypatch.setattr(rate_search, "run_search", searched)
    monkeypatch.setattr(capacity_module, "run_training", lambda words, output: trained.update({words[-1]: words}))
    train_capacity_runs(settings, tmp_path)
    names = [run.name for run in list_capacity_runs(settings)]
    assert list(rates) == names
    for name, words in zip(names, trained.values(), strict=True):
        assert words[-2:] == [f"optimizer.learning_rate={rates[name]}", f"run_dir={tmp_path / name}"]
    recorded = read_capacity(RECORD / "capacity.json", "dvc repro")
    points = iter(recorded.points)
    monkeypatch.setattr(capacity_module, "measure_run", lambda *_: next(points))
    monkeypatch.setattr(capacity_module, "FinishedRun", SimpleNamespace(open=lambda path: path))
    measured = measure_capacity(settings, tmp_path).points
    assert [point.tuning and point.tuning.learning_rate for point in measured] == list(rates.values())
    # A record in which the first points know their search has a column for it.
    mixed = dataclasses.replace(recorded, points=[*measured, *recorded.points[len(measured) :]])
    (table,) = (block for block in report_capacity("x", mixed) if isinstance(block, Table))
    assert table.head[-1] == "learning rate"
    assert [row[-1] for row in table.rows[: len(measured)]] == [f"{rate:g}" for rate in rates.values()]
    assert {row[-1] for row in table.rows[len(measured) :]} == {"-"}


@pytest.mark.slow
@pytest.mark.usefixtures("_jobs_in_forks")
def test_a_small_sweep_from_runs_to_report(tmp_path: Path) -> None:
    settings = dataclasses.replace(
        load_capacity("cpu"),
        widths=[2],
        other_widths=[],
        rounded=[[2, 1]],
        reversed_widths=[2],
        control_widths=[2],
        learning_rates=[0.004],
        overrides=[
            "trainer.threads=1",
            "trainer.target_tokens=20000",
            "data.train_pairs=5000",
            "data.dev_pairs=40",
            "data.test_pairs=100",
            "encoder.hidden_size=32",
            "decoder.hidden_size=32",
        ],
    )
    train_capacity_runs(settings, tmp_path)
    measured = measure_capacity(settings, tmp_path)
    save_capacity(tmp_path / "capacity.json", measured)
    capacity = read_capacity(tmp_path / "capacity.json", "x")
    assert capacity == measured
    assert [point.line for point in capacity.points] == [
        "none",
        "fixed",
        "fixed, rounded to 1 bit",
        "none, source reversed",
        "luong_general, start from the neck",
        "luong_general, no neck",
    ]
    for point in capacity.points:
        channel = point.channel
        assert channel.longest_quarter == (20, 24)  # Of 5 to 24 symbols, 6 bits each.
        assert channel.source_bits == pytest.approx(22 * 6)
        assert channel.wrong_source_bits <= 3 * channel.wrong_source_error
        longest = channel.by_length[-5:]
        assert sum(row.bits for row in longest) / 5 == pytest.approx(channel.bits)
        assert sum(row.error**2 for row in longest) / 25 == pytest.approx(channel.error**2)
        assert channel.ceiling is None or channel.bits <= channel.ceiling + 3 * channel.error
    assert [point.channel.ceiling for point in capacity.points] == [None, None, 2, None, None, None]
    blocks = report_capacity("small", capacity)
    assert sum(isinstance(block, Picture) for block in blocks) == 7
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert all(len(row) == len(table.head) for row in table.rows)
    assert "<svg" in to_html(blocks)
    assert "hold 132 bits" in to_markdown(blocks, "figures")
    # A run that reads nearly all bits is limited by the sequences, not by its training.
    unfinished = dataclasses.replace(capacity.points[0], reads_all=False, converged=False)
    others = [point for point in capacity.points if point.line not in ("none", "fixed")]
    for reads_all in (True, False):
        first = dataclasses.replace(unfinished, reads_all=reads_all)
        text = " ".join(summarise_capacity(dataclasses.replace(capacity, points=[first, *others])))
        assert ("At 1 of these 1 widths the model was still learning." in text) == (not reads_all)
