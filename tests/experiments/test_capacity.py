"""The sweep over the width of the neck: its files, its runs, what is read of them."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers import CONF, ROOT, compose_config

from hourglass.errors import UserError
from hourglass.experiments.capacity import Point, load_capacity, measure, points, run_all
from hourglass.reports.capacity import aloud, write_capacity
from hourglass.reports.document import Picture, Table, to_html, to_markdown
from hourglass.reports.plots import look
from hourglass.training.settings import check_settings

NAMES = sorted(path.stem for path in (CONF / "capacity").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_all_runs_of_a_file_are_different_and_calibrated(name: str) -> None:
    settings = load_capacity(name)
    every = points(settings)
    assert len({point.name for point in every}) == len(every)
    assert {point.width for point in every if point.line == "none"} == set(settings.widths)
    # Composed one of each kind, at its widest: where a neck would first be none.
    widest = {(point.line, point.bits): point for point in sorted(every, key=lambda point: point.width)}
    for point in widest.values():
        trainer = (
            ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.cuda_graphs=false"]
            if "trainer=gpu" in settings.overrides
            else []
        )
        config = compose_config(*settings.overrides, *point.overrides, *trainer)
        check_settings(config)
        assert not point.width or config["encoder"]["summary_size"] == point.width
        assert config["encoder"]["summary_bits"] == point.bits
        assert config["data"]["calibrated"]


def test_no_two_lines_look_alike() -> None:
    for name in NAMES:
        lines = dict.fromkeys(point.line for point in points(load_capacity(name)))
        assert len({look(number) for number in range(len(lines))}) == len(lines) > 7
    assert len({look(number) for number in range(49)}) == 49


def test_the_widths_of_one_line_differ_in_the_neck_alone() -> None:
    """But for the maps into it and out of it, which have to be as wide as it is."""
    one, other = (compose_config(*Point("capacity_fixed", width).overrides) for width in (2, 64))
    assert one["encoder"].pop("summary_size") != other["encoder"].pop("summary_size")
    assert one == other


def test_what_is_no_neck_is_refused() -> None:
    with pytest.raises(UserError, match=r"encoder\.summary_size=300 with data\.calibrated=true is no neck between"):
        check_settings(compose_config("experiment=capacity", "encoder.summary_size=300"))
    with pytest.raises(
        UserError, match=r"decoder state of 16: set encoder\.hidden_size so that the one has at least 64"
    ):
        check_settings(compose_config("experiment=capacity", "encoder.summary_size=32", "decoder.hidden_size=16"))


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


def test_a_sweep_that_cannot_be_read_is_refused_before_it_begins(tmp_path: Path) -> None:
    settings = load_capacity("cpu")
    for override, message in (
        ("data.test_pairs=30", r"capacity-2: data\.test_pairs=30: each length needs two sequences"),
        ("trainer.validations=1", r"capacity-2: trainer\.validations=1: convergence is judged from two"),
        ("decoder.hidden_size=32", r"capacity-64: encoder\.summary_size=64 with data\.calibrated=true is no neck"),
    ):
        with pytest.raises(UserError, match=message):
            run_all(dataclasses.replace(settings, overrides=[*settings.overrides, override]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_keeps_its_ceilings_and_stands_in_the_readme() -> None:
    found = json.loads((ROOT / "results" / "capacity" / "cpu" / "capacity.json").read_text())["points"]
    assert [point["name"] for point in found] == [point.name for point in points(load_capacity("cpu"))]
    for point in found:
        assert point["of_another"] <= 3 * point["of_another_error"]
        assert point["bits"] <= (point["ceiling"] or point["of"]) + 3 * point["error"]
    readme = (ROOT / "README.md").read_text()
    for line, row in (
        ("none", "none: the neck starts the decoder"),
        ("fixed", "fixed: the neck is read at every step"),
    ):
        shown = " | ".join(f"{point['bits']:.1f}" for point in found if point["line"] == line)
        assert f"| {row} | {shown} |\n" in readme


@pytest.mark.slow
def test_a_small_sweep_from_runs_to_report(tmp_path: Path) -> None:
    settings = dataclasses.replace(
        load_capacity("cpu"),
        widths=[2],
        other_widths=[],
        rounded=[[2, 1]],
        reversed_widths=[2],
        control_widths=[2],
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
    run_all(settings, tmp_path)
    found = json.loads(json.dumps(measure(settings, tmp_path)))
    assert [point["line"] for point in found["points"]] == [
        "none",
        "fixed",
        "fixed, rounded to 1 bit",
        "none, source reversed",
        "luong_general, start from the neck",
        "luong_general, no neck",
    ]
    for point in found["points"]:
        assert point["longest_quarter"] == [20, 24]  # Of 5 to 24 symbols, of 6 bits.
        assert point["of"] == pytest.approx(22 * 6)
        assert point["of_another"] <= 3 * point["of_another_error"]
        assert sum(row["bits"] for row in point["by_length"][-5:]) / 5 == pytest.approx(point["bits"])
        assert sum(row["error"] ** 2 for row in point["by_length"][-5:]) / 25 == pytest.approx(point["error"] ** 2)
        assert point["ceiling"] is None or point["bits"] <= point["ceiling"] + 3 * point["error"]
    blocks = write_capacity("small", found, "0" * 40)
    assert sum(isinstance(block, Picture) for block in blocks) == 7
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert all(len(row) == len(table.head) for row in table.rows)
    assert "<svg" in to_html(blocks)
    assert "hold 132 bits" in to_markdown(blocks, "figures")
    # What reads nearly all that there is is not limited by its training.
    full = {**found["points"][0], "bits": 131.0, "whole": True, "converged": False}
    still = "of its 1 widths 1 were still learning"
    others = [point for point in found["points"] if point["line"] not in ("none", "fixed")]
    assert still not in aloud({**found, "points": [full, *others]})
    assert still in aloud({**found, "points": [{**full, "whole": False}, *others]})
