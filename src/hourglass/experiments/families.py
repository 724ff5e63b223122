"""Families of models on one scale: bits held against the size of the state, by copying and by recall.

The settings are in conf/families/default.yaml. A family has several sizes, and each of them, by each channel, is a
point: a search for the learning rate, and a training with each seed at the rate that it chose. The points of a family
by a channel are one stage of pipelines/families/dvc.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from hourglass.analysis.families import FamilyPoint, FamilyPoints, NeckKind
from hourglass.analysis.neck import neck_of
from hourglass.config.compose import compose_settings
from hourglass.config.options import build, check, choose, read_settings
from hourglass.errors import UserError
from hourglass.experiments.capacity import check_measurable, common_words, measure_run, read_tuning, train_all
from hourglass.experiments.rate_search import find_rate
from hourglass.models.recurrent import CELLS
from hourglass.system.commands import path_override
from hourglass.system.project import ROOT, code_version
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training

FILE = Path("conf") / "families" / "default.yaml"
T = TypeVar("T")
RoundedBits = Annotated[int, Field(ge=1, le=16)]


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        neck: what its sizes are of. "state": the width of encoder and decoder, which starts in the encoder's final
            state; "projection": encoder.summary_size; "none": it has one size, 0, and no neck: the control.
        overrides: of its runs.
    """

    neck: NeckKind
    overrides: list[str]


@dataclass(frozen=True)
class Task:
    """A channel on one scale: how long its sources are, and its budget.

    Attributes:
        search_tokens: target tokens of each candidate of a search.
        target_tokens: of each training.
        overrides: of its runs, after those of the channel.
    """

    search_tokens: PositiveInt
    target_tokens: PositiveInt
    overrides: list[str]


@dataclass(frozen=True)
class Scale:
    """One of the blocks of `scales`: what is measured on a machine.

    Attributes:
        channels: which of `FamilySettings.channels`.
        families: which of `FamilySettings.families`.
        sizes: of each family.
        rounded: bits to which the numbers of the smallest neck of each family are rounded, for points of their own.
        learning_rates: the grid of the search of each point, extended as in `search_rates`; one alone is no search.
        tasks: by channel.
        seeds: of each point.
        overrides: of all runs.
        workers: trainings at the same time.
        converged: share of the dev loss below which the last fifth of a budget counts as no gain.
    """

    channels: Annotated[list[str], Field(min_length=1)]
    families: Annotated[list[str], Field(min_length=1)]
    sizes: dict[str, Annotated[list[NonNegativeInt], Field(min_length=1)]]
    rounded: list[RoundedBits]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    tasks: dict[str, Task]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    overrides: list[str]
    workers: PositiveInt
    converged: PositiveFloat


@dataclass(frozen=True)
class FamilySettings:
    """conf/families/default.yaml.

    Attributes:
        channels: the overrides of each channel, by its name.
        families: by name.
        scales: by name: what is measured on a CPU, on a GPU, or on a machine of one's own.

    Raises:
        UserError: a scale names what there is not, or lacks a size or a task.
    """

    channels: dict[str, list[str]]
    families: dict[str, Family]
    scales: dict[str, Scale]

    def __post_init__(self) -> None:
        for name, scale in self.scales.items():
            group = f"scales.{name}"
            _check_names(f"{group}.channels", scale.channels, self.channels, "channels")
            _check_names(f"{group}.channels", scale.channels, scale.tasks, f"{group}.tasks")
            _check_names(f"{group}.families", scale.families, self.families, "families")
            _check_names(f"{group}.families", scale.families, scale.sizes, f"{group}.sizes")
            for family in scale.families:
                sizes, kind = scale.sizes[family], self.families[family].neck
                if (kind == "none") != (sizes == [0]) or (kind != "none" and 0 in sizes):
                    needed = "[0], as it has no neck" if kind == "none" else "sizes of 1 or more"
                    raise UserError(f"{group}.sizes.{family}={sizes}: set {needed}")


def _check_names(option: str, names: list[str], known: Mapping[str, Any], where: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"{option}: {unknown[0]} is not in {where}; choose from {', '.join(known)}")


@dataclass(frozen=True)
class PointSettings:
    """The settings of a point.

    Attributes:
        channel: see `FamilyPoint`.
        family: see `FamilyPoint`.
        neck: see `FamilyPoint`.
        size: see `FamilyPoint`.
        rounded: see `FamilyPoint`.
        overrides: of its runs, but for the seed, the budget and the learning rate.
    """

    channel: str
    family: str
    neck: NeckKind
    size: int
    rounded: int
    overrides: list[str]

    @property
    def name(self) -> str:
        """Name of its folders and logs."""
        return f"{self.size}-{self.rounded}bits" if self.rounded else str(self.size)

    def training(self, seed: int) -> str:
        """Return the name of the run folder of a seed."""
        return f"{self.name}-seed{seed}"


def load_families(root: Path = ROOT) -> FamilySettings:
    """Read and check conf/families/default.yaml.

    Raises:
        UserError: the file is missing, or a setting is wrong.
    """
    file = root / FILE
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    return read_settings(file, _build_settings)


def _build_settings(content: dict[str, Any]) -> FamilySettings:
    blocks = dict(content)
    if "families" in blocks:
        blocks["families"] = _build_each(Family, blocks["families"], "families")
    if "scales" in blocks:
        scales = check(dict[str, dict[str, Any]], blocks["scales"], "scales")
        for name, scale in scales.items():
            if "tasks" in scale:
                scales[name] = {**scale, "tasks": _build_each(Task, scale["tasks"], f"scales.{name}.tasks")}
        blocks["scales"] = _build_each(Scale, scales, "scales")
    return build(FamilySettings, blocks, "")


def _build_each(kind: type[T], blocks: Any, group: str) -> dict[str, T]:
    """Return an instance of `kind` for each of the named blocks of a group."""
    named = check(dict[str, dict[str, Any]], blocks, group)
    return {name: build(kind, block, f"{group}.{name}") for name, block in named.items()}


def list_points(settings: FamilySettings, scale: Scale, channel: str, family: str) -> list[PointSettings]:
    """Return the points of a family by a channel: its sizes, then its smallest size with rounded numbers.

    Raises:
        UserError: the scale has no such channel or family.
    """
    _check_names("channel", [channel], dict.fromkeys(scale.channels), "the scale's channels")
    _check_names("family", [family], dict.fromkeys(scale.families), "the scale's families")
    own = settings.families[family]
    words = [*settings.channels[channel], *scale.tasks[channel].overrides, *scale.overrides, *own.overrides]
    points = [(size, 0) for size in scale.sizes[family]]
    if own.neck != "none":
        points += [(min(scale.sizes[family]), bits) for bits in scale.rounded]
    cell = compose_settings(words)["decoder"]["cell"] if own.neck == "state" else ""
    return [
        PointSettings(channel, family, own.neck, size, bits, [*words, *_size_words(own.neck, size, bits, cell)])
        for size, bits in points
    ]


def _size_words(neck: NeckKind, size: int, bits: int, cell: str) -> list[str]:
    if neck == "none":
        return []
    rounding = [f"encoder.summary_bits={bits}"] if bits else []
    if neck == "projection":
        return [f"encoder.summary_size={size}", *rounding]
    kind = choose(CELLS, cell, "decoder.cell")
    widths = [f"{side}.hidden_size={size}" for side in ("encoder", "decoder")]
    return ["decoder.start=pass", *widths, f"encoder.summary_size={kind.state_size(size)}", *rounding]


def check_points(scale: Scale, points: list[PointSettings]) -> None:
    """Check that every point can be trained and measured, before the first training starts.

    Raises:
        UserError: one cannot; the message begins with its family and name.
    """
    for point in points:
        words = [*point.overrides, f"trainer.target_tokens={scale.tasks[point.channel].target_tokens}"]
        try:
            check_measurable(compose_settings(words))
        except UserError as error:
            raise UserError(f"{point.channel}, {point.family} {point.name}: {error}") from None


def train_points(scale: Scale, points: list[PointSettings], folder: Path) -> None:
    """Search for the rate of each point, then train each with every seed; what is complete is left alone.

    Args:
        scale: that the points are of.
        points: of one family by one channel.
        folder: for their runs; the prepared corpora are beside it, for all families.

    Raises:
        UserError: a point cannot be measured, or a training failed; the message names its log.
    """
    check_points(scale, points)
    rates, common = scale.learning_rates, common_words(folder.parent / "cache")
    chosen: dict[str, list[str]] = {}

    def search(point: PointSettings, log: IO[str]) -> None:
        words = [*point.overrides, *common, f"seed={scale.seeds[0]}"]
        tokens = scale.tasks[point.channel].search_tokens
        chosen[point.name] = find_rate(rates, tokens, words, folder, point.name, output=log)

    def train(point: PointSettings, seed: int, log: IO[str]) -> None:
        words = [*point.overrides, *common, *chosen[point.name], f"seed={seed}"]
        words += [f"trainer.target_tokens={scale.tasks[point.channel].target_tokens}"]
        run_training([*words, path_override("run_dir", folder / point.training(seed))], log)

    train_all({f"search-{point.name}": partial(search, point) for point in points}, folder, scale.workers)
    trainings = {point.training(seed): partial(train, point, seed) for point in points for seed in scale.seeds}
    train_all(trainings, folder, scale.workers)


def measure_points(scale: Scale, points: list[PointSettings], folder: Path) -> FamilyPoints:
    """Measure all points of a family by a channel.

    Raises:
        UserError: a run is missing.
    """
    measured = []
    for point in points:
        finished = [FinishedRun.open(folder / point.training(seed)) for seed in scale.seeds]
        neck = neck_of(finished[0].config)
        trainings = [measure_run(run.path.name, point.family, neck.numbers, run, scale.converged) for run in finished]
        tuning = read_tuning(folder, point.name) if len(scale.learning_rates) > 1 else None
        measured.append(
            FamilyPoint(
                channel=point.channel,
                family=point.family,
                neck=point.neck,
                size=point.size,
                rounded=point.rounded,
                numbers=neck.numbers,
                neck_bits=neck.bits,
                trainings=trainings,
                tuning=tuning,
            )
        )
    return FamilyPoints(measured, scale.converged, code_version()["commit"])
