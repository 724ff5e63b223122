"""The capacity sweep: the bits that come through the neck against its width. Which runs, and how they are measured.

The settings are in conf/capacity/NAME.yaml, the runs in pipeline/capacity/NAME.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from hourglass.analysis.capacity import Capacity, CapacityPoint
from hourglass.analysis.channel import longest_copied, summarise_channel
from hourglass.analysis.convergence import judge_convergence
from hourglass.analysis.evaluation import SCHEMA_VERSION as TUNING_VERSION
from hourglass.analysis.evaluation import Tuning
from hourglass.config.compose import compose_settings
from hourglass.config.options import Config, build, read_settings
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.synthetic import ChannelRecipe
from hourglass.errors import UserError
from hourglass.experiments.rate_search import find_rate, search_file
from hourglass.models.cells import CellName
from hourglass.system.commands import path_override
from hourglass.system.project import ROOT, code_version
from hourglass.system.records import read_record
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training, stop_children
from hourglass.training.settings import check_settings

# Share of the source's bits from which a run counts as one that reads them all.
READS_ALL = 0.97


Widths = Annotated[list[PositiveInt], Field(min_length=1)]


@dataclass(frozen=True)
class CapacitySettings:
    """conf/capacity/NAME.yaml.

    Attributes:
        widths: D, of experiment=capacity and experiment=capacity_fixed.
        other_cell: a second cell for both sides.
        other_widths: D of the runs with that cell.
        rounded: D and summary_bits of necks with a hard ceiling, of experiment=capacity_fixed.
        reversed_widths: D of experiment=capacity with the source read last to first.
        control_widths: D of experiment=capacity_attention with decoder.start=dense, a neck beside the attention.
        learning_rates: the grid of the search that each run gets, extended as in `search_rates`.
        search_tokens: budget of each candidate of the search.
        overrides: of all runs.
        workers: runs that are trained at the same time.
        converged: share of the dev loss below which the last fifth of a budget counts as no gain.
    """

    widths: Widths
    other_cell: CellName
    other_widths: list[PositiveInt]
    rounded: list[list[PositiveInt]]
    reversed_widths: list[PositiveInt]
    control_widths: list[PositiveInt]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    search_tokens: PositiveInt
    overrides: list[str]
    workers: PositiveInt
    converged: PositiveFloat

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.rounded):
            raise UserError(f"rounded={self.rounded}: each entry is [width, bits]")


@dataclass(frozen=True)
class CapacityRun:
    """Settings of one run of the sweep.

    Attributes:
        experiment: file of conf/experiment.
        width: encoder.summary_size; 0: the experiment has no neck.
        cell: of both sides; None: the experiment's own.
        bits: encoder.summary_bits; 0: no rounding.
        reverse: encoder.reverse_source.
        dense: decoder.start=dense, for the control with attention, which otherwise starts from zero.
    """

    experiment: str
    width: int
    cell: str | None = None
    bits: NonNegativeInt = 0
    reverse: bool = False
    dense: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [self.cell, f"{self.bits}bits" if self.bits else None, "reversed" if self.reverse else None]
        parts += ["dense" if self.dense else None]
        return "-".join([self.experiment, *filter(None, parts), str(self.width)])

    @property
    def overrides(self) -> list[str]:
        """Its command line, without what all runs share."""
        words = [f"experiment={self.experiment}"]
        words += [f"encoder.summary_size={self.width}"] if self.width else []
        if self.cell:
            words += [f"encoder.cell={self.cell}", f"decoder.cell={self.cell}"]
        if self.bits:
            words += [f"encoder.summary_bits={self.bits}"]
        if self.reverse:
            words += ["encoder.reverse_source=true"]
        if self.dense:
            words += ["decoder.start=dense"]
        return words

    @property
    def line(self) -> str:
        """Name of its line in the figures."""
        kind = {"capacity": "none", "capacity_fixed": "fixed", "capacity_attention": "luong_general"}
        parts = [self.cell, f"rounded to {self.bits} bit{'s' * (self.bits > 1)}" if self.bits else None]
        parts += ["source reversed" if self.reverse else None]
        if self.experiment == "capacity_attention":
            parts += ["start from the neck" if self.dense else "no neck"]
        return ", ".join([kind[self.experiment], *filter(None, parts)])


def load_capacity(name: str, root: Path = ROOT) -> CapacitySettings:
    """Read and check conf/capacity/NAME.yaml.

    Raises:
        UserError: the file is missing, or a setting is wrong.
    """
    file = root / "conf" / "capacity" / f"{name}.yaml"
    if not file.is_file():
        choices = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UserError(f"{file}: no such file; choose from {choices}")
    return read_settings(file, lambda content: build(CapacitySettings, content, "capacity"))


def list_capacity_runs(settings: CapacitySettings) -> list[CapacityRun]:
    """Return all runs; within a kind the widest, which takes longest, is the last."""
    both = ("capacity", "capacity_fixed")
    return [
        *(CapacityRun(experiment, width) for width in settings.widths for experiment in both),
        *(
            CapacityRun(experiment, width, settings.other_cell)
            for width in settings.other_widths
            for experiment in both
        ),
        *(CapacityRun("capacity_fixed", width, bits=bits) for width, bits in settings.rounded),
        *(CapacityRun("capacity", width, reverse=True) for width in settings.reversed_widths),
        *(CapacityRun("capacity_attention", width, dense=True) for width in settings.control_widths),
        CapacityRun("capacity_attention", 0),
    ]


def check_capacity_runs(settings: CapacitySettings) -> None:
    """Check that every run can be trained and measured, before the first one starts.

    Raises:
        UserError: a run cannot; the message begins with its name.
    """
    for run in list_capacity_runs(settings):
        config = compose_settings([*settings.overrides, *run.overrides])
        try:
            check_measurable(config)
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from None


def check_measurable(config: Config) -> None:
    """Check that a run can be trained, and its bits and its convergence measured.

    Raises:
        UserError: it cannot.
    """
    check_settings(config)
    _, recipe = check_recipe(config["data"])
    if isinstance(recipe, ChannelRecipe) and recipe.test_pairs < 2 * len(recipe.size_range):
        raise UserError(f"data.test_pairs={recipe.test_pairs}: each length needs two sequences: raise it")
    if config["trainer"]["validations"] < 2:
        raise UserError("trainer.validations=1: convergence is judged from two: set trainer.validations=5")


def train_capacity_runs(settings: CapacitySettings, folder: Path) -> None:
    """Search for the learning rate of each run and train it, where that is not complete; an interrupted run resumes.

    Args:
        settings: of the sweep.
        folder: of the runs.

    Raises:
        UserError: a run failed; the message names its log.
    """
    check_capacity_runs(settings)

    def start(run: CapacityRun, log: IO[str]) -> None:
        words = [*settings.overrides, *run.overrides, *common_words(folder / "cache")]
        chosen = find_rate(settings.learning_rates, settings.search_tokens, words, folder, run.name, output=log)
        run_training([*words, *chosen, path_override("run_dir", folder / run.name)], log)

    train_all({run.name: partial(start, run) for run in list_capacity_runs(settings)}, folder, settings.workers)


def common_words(cache: Path) -> list[str]:
    """Return the overrides that all runs of a sweep share, given its cache; a run that is complete is left alone."""
    return ["logger=csv", "if_exists=continue_or_replace", path_override("cache", cache)]


def train_all(trainings: Mapping[str, Callable[[IO[str]], object]], folder: Path, workers: int) -> None:
    """Train several things at the same time, and print the name of each that is done.

    Args:
        trainings: by name; each is called with its log, FOLDER/NAME.log.
        folder: for the logs.
        workers: how many are trained at the same time.

    Raises:
        UserError: one failed; the message names its log. Those that had not begun do not begin.
        BaseException: this process was stopped, by Ctrl-C or SIGTERM; so are the processes that train.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def start(name: str) -> str:
        with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
            try:
                trainings[name](log)
            except UserError as error:
                return str(error)
            return ""

    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, (name, failure) in enumerate(zip(trainings, pool.map(start, trainings), strict=True), 1):
                if failure:
                    pool.shutdown(cancel_futures=True)
                    raise UserError(f"{name}: {failure}; see {folder / name}.log")
                print(f"{number}/{len(trainings)}: {name}", flush=True)
        except (KeyboardInterrupt, SystemExit):
            pool.shutdown(wait=False, cancel_futures=True)
            stop_children()
            raise


def measure_capacity(settings: CapacitySettings, folder: Path) -> Capacity:
    """Measure all runs of a sweep.

    Raises:
        UserError: a run is missing, or not of a calibrated channel.
    """
    runs = list_capacity_runs(settings)
    points = [
        measure_run(run.name, run.line, run.width, FinishedRun.open(folder / run.name), settings.converged)
        for run in runs
    ]
    if len(settings.learning_rates) > 1:
        points = [replace(point, tuning=read_tuning(folder, run.name)) for run, point in zip(runs, points, strict=True)]
    return Capacity(points, settings.converged, code_version()["commit"])


def read_tuning(folder: Path, name: str) -> Tuning:
    """Return the outcome of the search of a run or a point of a sweep in `folder`.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    return read_record(search_file(folder, name), Tuning, TUNING_VERSION, "the sweep again")


def measure_run(name: str, line: str, width: int, finished: FinishedRun, converged: float) -> CapacityPoint:
    """Measure one run of a sweep.

    Args:
        name: see `CapacityPoint`.
        line: see `CapacityPoint`.
        width: see `CapacityPoint`.
        finished: the run.
        converged: share of the dev loss below which the last fifth of its budget counts as no gain.

    Raises:
        UserError: the run is not of a calibrated channel.
    """
    channel, metrics, translations = summarise_channel(finished), finished.metrics, finished.translations
    convergence = judge_convergence(finished, converged)
    return CapacityPoint(
        name=name,
        line=line,
        width=width,
        channel=channel,
        longest_copied=longest_copied(
            [row.hypothesis.split() for row in translations], [row.reference.split() for row in translations]
        ),
        converged=convergence.converged,
        # A loss near zero may go on falling by a large share of itself.
        reads_all=channel.bits >= READS_ALL * channel.source_bits,
        gain_of_last_fifth=convergence.gain_of_last_fifth,
        parameters=metrics.parameters,
        train_target_tokens=metrics.train_target_tokens,
        train_seconds=metrics.train_seconds,
        commit=metrics.commit,
        dirty=metrics.dirty,
        machine=metrics.machine,
    )
