"""The reference picture: its settings, its points, their intervals by hand, and a small one from runs to report."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import CONF, ROOT, compose_config
from matplotlib.collections import LineCollection
from scipy.stats import t as student_t

from hourglass.analysis.capacity import CapacityPoint
from hourglass.analysis.channel import ChannelSummary
from hourglass.analysis.evaluation import Candidate, Tuning, rate_word
from hourglass.analysis.families import FamilyPoint, FamilyPoints, NeckKind, read_family_points, write_points
from hourglass.analysis.neck import neck_of
from hourglass.errors import UserError
from hourglass.experiments import families as families_module
from hourglass.experiments.families import (
    PointSettings,
    Scale,
    check_points,
    list_points,
    load_families,
    measure_points,
    train_points,
)
from hourglass.models.recurrent import CELLS
from hourglass.reports.document import Picture, Table, to_markdown
from hourglass.reports.families import CEILING, report_families

SETTINGS = load_families()
ON_CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.cuda_graphs=false")


def changed(tmp_path: Path, **changes: Any) -> Path:
    """Write the settings with changes of the scale cpu; return the project's folder."""
    content = yaml.safe_load((CONF / "families" / "default.yaml").read_text())
    content["scales"]["cpu"] |= changes
    folder = tmp_path / "conf" / "families"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


# Cells and encoders that are no family: slower forms of one, those that read no text, and those not measured.
NO_FAMILY = {"gru_cho", "lstm_normed", "rnn", "blind", "features"}


def test_every_cell_and_encoder_is_a_family_or_named_above() -> None:
    words = [word for own in SETTINGS.families.values() for word in own.overrides]
    chosen = {word.split("=")[1] for word in words if "r.cell=" in word or word.startswith("encoder=")}
    missing = {*CELLS, *(path.stem for path in (CONF / "encoder").glob("*.yaml"))} - chosen - NO_FAMILY
    assert not missing, f"{missing}: add a family to conf/families/default.yaml, or a name to NO_FAMILY"
    assert not chosen & NO_FAMILY
    for scale in (SETTINGS.scales[name] for name in ("cpu", "gpu")):
        assert scale.families == list(SETTINGS.families) == list(scale.sizes)
        assert len(scale.seeds) == 3
        assert len(scale.learning_rates) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ["gru", "rnn"]}, "scales.cpu.families: rnn is not in families; choose from lstm, gru"),
        ({"channels": ["reverse"]}, "scales.cpu.channels: reverse is not in channels; choose from copy, recall"),
        ({"sizes": {"gru": [8]}}, "scales.cpu.families: lstm is not in scales.cpu.sizes"),
        ({"families": ["gru"], "sizes": {"gru": [0]}}, "scales.cpu.sizes.gru=[0]: set sizes of 1 or more"),
        (
            {"families": ["attention"], "sizes": {"attention": [4]}},
            "scales.cpu.sizes.attention=[4]: set [0], as it has",
        ),
        ({"tasks": {"copy": {"search_tokens": 1}}}, "scales.cpu.tasks.copy.target_tokens: missing"),
        ({"rounded": [17]}, "scales.cpu.rounded=[17]: input should be less than or equal to 16"),
        ({"depth": 2}, "scales.cpu.depth: no such option"),
    ],
)
def test_a_wrong_file_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    root = changed(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        load_families(root)
    assert str(refused.value).startswith(f"{root / 'conf' / 'families' / 'default.yaml'}: {message}")


def test_no_such_family_is_refused() -> None:
    with pytest.raises(UserError, match=r"family: rnn is not in the scale's families; choose from lstm, gru"):
        list_points(SETTINGS, SETTINGS.scales["cpu"], "copy", "rnn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "whole"), [("cpu", False), *(pytest.param(name, True, marks=pytest.mark.more) for name in ("cpu", "gpu"))]
)
def test_every_point_can_be_measured_and_its_size_is_that_of_its_neck(name: str, whole: bool) -> None:
    """Or only the last of each family, by one channel."""
    scale = SETTINGS.scales[name]
    if name == "gpu":  # Tests run where there is none.
        scale = dataclasses.replace(scale, overrides=[*scale.overrides, *ON_CPU])
    for number, channel in enumerate(scale.channels if whole else scale.channels[:1]):
        for family, own in SETTINGS.families.items():
            points = list_points(SETTINGS, scale, channel, family)
            check_points(scale, [points[0], points[-1]] if whole else points[-1:])
            assert len({point.name for point in points}) == len(points)
            # The channels set encoder and decoder alike: all sizes by the first channel, one by each other.
            for point in points if whole and number == 0 else points[-1:]:
                config = compose_config(*point.overrides)
                neck = neck_of(config)
                assert config["data"]["calibrated"]
                assert neck.is_state == (own.neck == "state")
                assert bool(neck.numbers) == (own.neck != "none")
                assert neck.bits == neck.numbers * (point.rounded or 32)
                if own.neck == "projection":
                    assert neck.numbers == point.size


def a_training(bits: float, error: float, *, converged: bool | None, name: str = "a") -> CapacityPoint:
    channel = ChannelSummary(
        ceiling=None,
        bits=bits,
        error=error,
        source_bits=132.0,
        wrong_source_bits=-1.0,
        wrong_source_error=0.1,
        end_bits=0.1,
        by_length=[],
        by_position=[],
        shortest=5,
        longest_quarter=(20, 24),
    )
    machine = {"gpu": None, "processor": "p", "threads": 1, "torch": "2"}
    return CapacityPoint(
        name, "gru", 32, channel, 0, converged, False, 0.02, 1000, 200_000, 20.0, "abcdef", False, machine
    )


def a_point(
    family: str, neck: NeckKind, numbers: int, bits: list[float], *, rounded: int = 0, converged: bool | None = True
) -> FamilyPoint:
    tuning = Tuning([rate_word(0.004)], [Candidate([rate_word(rate)], 1.0, 1, 30.0) for rate in (0.002, 0.004, 0.008)])
    trainings = [a_training(own, 0.5, converged=converged) for own in bits]
    return FamilyPoint("copy", family, neck, numbers, rounded, numbers, numbers * (rounded or 32), trainings, tuning)


def test_an_interval_has_the_error_of_the_sequences_and_the_spread_of_the_seeds() -> None:
    point = a_point("gru", "state", 32, [20.0, 22.0, 27.0])
    of_seeds = student_t.ppf(0.975, 2) * np.std([20.0, 22.0, 27.0], ddof=1) / math.sqrt(3)
    half = math.hypot(of_seeds, 1.959964 * 0.5)  # All seeds read the same sequences.
    assert (point.interval.low, point.interval.high) == pytest.approx((23 - half, 23 + half), rel=1e-4)
    alone = a_point("gru", "state", 32, [131.9])
    assert (alone.interval.low, alone.interval.high) == pytest.approx((131.9 - 0.98, 132.0), rel=1e-4)


def test_the_figures_say_what_a_size_is_of_and_points_that_have_not_converged_are_hollow(tmp_path: Path) -> None:
    points = [
        a_point("gru", "state", 32, [20.0, 22.0, 27.0], converged=False),
        a_point("gru", "state", 128, [40.0, 42.0, 41.0]),
        a_point("gru", "state", 32, [15.0, 16.0, 14.0], rounded=2),
        a_point("bag", "projection", 16, [3.0, 3.5, -0.5]),
        a_point("attention", "none", 0, [131.0, 131.5, 131.8]),
    ]
    written = FamilyPoints(points, 0.01, "abc")
    write_points(tmp_path / "points.json", written)
    assert read_family_points(tmp_path / "points.json", "x") == written
    blocks = report_families("cpu", [written])
    pictures = {block.name: block for block in blocks if isinstance(block, Picture)}
    assert list(pictures) == ["families-copy-state", "families-copy-state-rounded", "families-copy-projection"]
    labels = {name: picture.figure.axes[0].get_xlabel() for name, picture in pictures.items()}
    assert labels == {
        "families-copy-state": "bits of the state (32 bits a number, float32)",
        "families-copy-state-rounded": "bits of the state (each number rounded to a few bits)",
        "families-copy-projection": "bits of the projected vector (32 bits a number, float32)",
    }
    axes = pictures["families-copy-state"].figure.axes[0]
    (hollow,) = (line for line in axes.lines if line.get_markerfacecolor() == "white")
    assert np.asarray(hollow.get_xydata()).tolist() == [[1024.0, 23.0]]
    rounded = pictures["families-copy-state-rounded"].figure
    assert CEILING in [
        text.get_text()
        for legend in [*rounded.legends, rounded.axes[0].get_legend()]
        if legend
        for text in legend.get_texts()
    ]
    ceiling = [
        line
        for line in rounded.axes[0].lines
        if np.array_equal(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
    ]
    assert ceiling, "the ceiling is the diagonal"
    (interval,) = (each for each in rounded.axes[0].collections if isinstance(each, LineCollection))
    ends = np.asarray(interval.get_segments())[0, :, 1]
    assert tuple(ends) == pytest.approx((points[2].interval.low, points[2].interval.high))
    (table,) = (block for block in blocks if isinstance(block, Table))
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [row["neck"] for row in rows] == ["a state", "a state", "a state, rounded to 2 bits", "a projection", "none"]
    assert [row["bits of the neck"] for row in rows] == ["1,024", "4,096", "64", "512", "-"]
    assert rows[0]["minutes"] == f"{(3 * 20 + 3 * 30) / 60:.1f}"
    assert rows[0]["target tokens/s"] == "10,000"
    text = to_markdown(blocks, "figures")
    assert "of 1 points with a rounded neck, no reading exceeds its ceiling" in text
    assert "1 of 5 points would probably rise" in text
    over = FamilyPoints([dataclasses.replace(points[2], neck_bits=12)], 0.01, "abc")
    assert "READINGS EXCEED THEIR CEILING" in to_markdown(report_families("cpu", [over]), "figures")


@pytest.mark.slow
def test_each_point_is_searched_and_every_seed_has_the_rate_that_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = dataclasses.replace(SETTINGS.scales["cpu"], workers=1)
    points = list_points(SETTINGS, scale, "recall", "delta_net")
    rates: dict[str, float] = {}
    trained: dict[str, list[str]] = {}

    def found(grid: Any, tokens: int, words: list[str], folder: Path, name: str, *, output: Any) -> list[str]:
        assert (grid, tokens) == (scale.learning_rates, scale.tasks["recall"].search_tokens)
        assert words[-1] == "seed=1"
        rates[name] = 0.001 * (1 + len(rates))
        return [rate_word(rates[name])]

    monkeypatch.setattr(families_module, "find_rate", found)
    monkeypatch.setattr(families_module, "run_training", lambda words, output: trained.update({words[-1]: words}))
    train_points(scale, points, tmp_path / "recall-delta_net")
    assert list(rates) == [point.name for point in points] == ["16", "32", "64", "16-2bits"]
    assert len(trained) == len(points) * 3
    for point in points:
        for seed in scale.seeds:
            words = trained[f"run_dir={tmp_path / 'recall-delta_net' / point.training(seed)}"]
            assert {f"seed={seed}", rate_word(rates[point.name])} <= set(words)
            assert f"trainer.target_tokens={scale.tasks['recall'].target_tokens}" in words


SMALL = ["trainer.threads=1", "data.train_pairs=5000", "data.dev_pairs=40", "data.test_pairs=100"]


@pytest.mark.slow
@pytest.mark.usefixtures("_jobs_in_forks")
def test_a_small_picture_from_runs_to_report(tmp_path: Path) -> None:
    tasks = {"copy": (20_000, "data.longest=8"), "recall": (4000, "data.most=5")}
    scale = dataclasses.replace(
        SETTINGS.scales["cpu"],
        sizes={"gru": [8], "delta_net": [8], "attention": [0]},
        learning_rates=[0.004],
        seeds=[1, 2],
        overrides=SMALL,
        tasks={
            name: dataclasses.replace(SETTINGS.scales["cpu"].tasks[name], target_tokens=tokens, overrides=[word])
            for name, (tokens, word) in tasks.items()
        },
    )
    # Each family by one channel. A family is trained by both alike; the settings of all pairs are composed above.
    by = [("copy", "gru"), ("recall", "delta_net"), ("recall", "attention")]
    results = [measured(scale, channel, family, tmp_path) for channel, family in by]
    points = [point for result in results for point in result.points]
    assert [(point.channel, point.family, point.numbers, point.neck_bits) for point in points if not point.rounded] == [
        (channel, family, numbers, 32 * numbers) for (channel, family), numbers in zip(by, (8, 16, 0), strict=True)
    ]
    for point in points:
        for training in point.trainings:
            channel = training.channel
            assert channel.ceiling == (point.neck_bits if point.rounded else None)
            assert channel.bits <= (channel.ceiling or channel.source_bits) + 3 * channel.error
            assert channel.wrong_source_bits <= 3 * channel.wrong_source_error
        assert point.source_bits == pytest.approx(6 * np.mean(point.trainings[0].channel.longest_quarter))
    assert "| delta_net | a state |" in to_markdown(report_families("small", results), "figures")


def measured(scale: Scale, channel: str, family: str, folder: Path) -> FamilyPoints:
    points: list[PointSettings] = list_points(SETTINGS, scale, channel, family)
    train_points(scale, points, folder / f"{channel}-{family}")
    return measure_points(scale, points, folder / f"{channel}-{family}")


def test_the_stages_name_what_their_points_depend_on() -> None:
    content = yaml.safe_load((ROOT / "pipelines" / "families" / "dvc.yaml").read_text())
    capacity = yaml.safe_load((ROOT / "pipelines" / "capacity" / "dvc.yaml").read_text())["stages"]["cpu"]
    # What only writes the report of a sweep is no part of a point.
    own = {"pipelines/capacity/sweep.py", *(dep for dep in capacity["deps"] if "/reports/" in dep)}
    shared = {dep for dep in capacity["deps"] if dep not in own and "capacity_" not in dep and "fixed" not in dep}
    for name in SETTINGS.scales:
        stage, picture = (content["stages"][f"{kind}-{name}"] for kind in ("measure", "picture"))
        assert shared <= set(stage["deps"])
        assert all((ROOT / dep).exists() for dep in stage["deps"])
        assert stage["matrix"] == {
            part: f"${{scales.{name}.{plural}}}" for part, plural in (("channel", "channels"), ("family", "families"))
        }
        (keys,) = stage["params"][0].values()
        fields = {field.name for field in dataclasses.fields(Scale)}
        assert {key.split(".")[2] for key in keys if key.startswith(f"scales.{name}.")} == fields - {
            "channels",
            "families",
            "workers",
        }
        assert picture["deps"][0] == f"results/families/{name}/points"
        encoders = {f"conf/encoder/{path.stem}.yaml" for path in (CONF / "encoder").glob("*.yaml")}
        # None of the channels has features.
        assert encoders - set(stage["deps"]) == {f"conf/encoder/{name}.yaml" for name in ("blind", "features")}
