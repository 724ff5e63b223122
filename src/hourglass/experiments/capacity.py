"""Usable capacity of the neck against its width: which runs, and what came through each.

The files are conf/capacity/NAME.yaml; runs lie in pipeline/capacity/NAME.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from hourglass.analysis.channel import longest_copied, read_run
from hourglass.analysis.convergence import judge_convergence
from hourglass.config.compose import compose_settings, path_override
from hourglass.config.options import build, read_settings
from hourglass.errors import UserError
from hourglass.models.recurrent import Cell
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json
from hourglass.system.project import ROOT
from hourglass.training.jobs import JobFailedError, start_job
from hourglass.training.settings import check_settings

# Share of the bits there are from which a run counts as one that reads them all.
WHOLE = 0.97


Widths = Annotated[list[PositiveInt], Field(min_length=1)]


@dataclass(frozen=True)
class CapacitySettings:
    """conf/capacity/NAME.yaml.

    Attributes:
        widths: D, of experiment=capacity and experiment=capacity_fixed.
        other_cell: a second cell for both sides.
        other_widths: D it is tried at.
        rounded: D and summary_bits of necks with a hard ceiling, of experiment=capacity_fixed.
        reversed_widths: D of experiment=capacity with the source read last to first.
        control_widths: D of experiment=capacity_attention with decoder.start=dense, a neck beside the attention.
        overrides: what all runs are told.
        workers: runs at once.
        converged: share of the dev loss under which the last fifth of a budget counts as no gain.
    """

    widths: Widths
    other_cell: Cell
    other_widths: list[PositiveInt]
    rounded: list[list[PositiveInt]]
    reversed_widths: list[PositiveInt]
    control_widths: list[PositiveInt]
    overrides: list[str]
    workers: PositiveInt
    converged: PositiveFloat

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.rounded):
            raise UserError(f"rounded={self.rounded}: each entry is [width, bits]")


@dataclass(frozen=True)
class Point:
    """One run of the sweep."""

    experiment: str
    width: int
    cell: str | None = None  # None: the experiment's own
    bits: NonNegativeInt = 0  # summary_bits
    reverse: bool = False  # reverse_source
    dense: bool = False  # the control's start from the summary, which otherwise is not there

    @property
    def name(self) -> str:
        """Names its folder."""
        special = [self.cell, f"{self.bits}bits" if self.bits else None, "reversed" if self.reverse else None]
        special += ["dense" if self.dense else None]
        return "-".join([self.experiment, *filter(None, special), str(self.width)])

    @property
    def overrides(self) -> list[str]:
        """What its command line says."""
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
        """The name of its line in the figures."""
        kind = {"capacity": "none", "capacity_fixed": "fixed", "capacity_attention": "luong_general"}
        special = [self.cell, f"rounded to {self.bits} bit{'s' * (self.bits > 1)}" if self.bits else None]
        special += ["source reversed" if self.reverse else None]
        if self.experiment == "capacity_attention":
            special += ["start from the neck" if self.dense else "no neck"]
        return ", ".join([kind[self.experiment], *filter(None, special)])


def load_capacity(name: str, root: Path = ROOT) -> CapacitySettings:
    """Read and check conf/capacity/NAME.yaml.

    Raises:
        UserError: there is none, or a setting is wrong.
    """
    file = root / "conf" / "capacity" / f"{name}.yaml"
    if not file.is_file():
        choices = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UserError(f"{file}: no such file; choose from {choices}")
    return read_settings(file, lambda content: build(CapacitySettings, content, "capacity"))


def points(settings: CapacitySettings) -> list[Point]:
    """Return all runs, the widest and dearest of a kind last."""
    both = ("capacity", "capacity_fixed")
    return [
        *(Point(experiment, width) for width in settings.widths for experiment in both),
        *(Point(experiment, width, settings.other_cell) for width in settings.other_widths for experiment in both),
        *(Point("capacity_fixed", width, bits=bits) for width, bits in settings.rounded),
        *(Point("capacity", width, reverse=True) for width in settings.reversed_widths),
        *(Point("capacity_attention", width, dense=True) for width in settings.control_widths),
        Point("capacity_attention", 0),  # There is no neck there.
    ]


def check_points(settings: CapacitySettings) -> None:
    """See that every run can be made and read, before the first begins.

    Raises:
        UserError: one cannot; the message begins with its name.
    """
    for point in points(settings):
        config = compose_settings([*settings.overrides, *point.overrides])
        try:
            check_settings(config)
            data = config["data"]
            if data["test_pairs"] < 2 * (data["longest"] - data["shortest"] + 1):
                raise UserError(f"data.test_pairs={data['test_pairs']}: each length needs two sequences: raise it")
            if config["trainer"]["validations"] < 2:
                raise UserError("trainer.validations=1: convergence is judged from two: set trainer.validations=5")
        except UserError as error:
            raise UserError(f"{point.name}: {error}") from None


def run_all(settings: CapacitySettings, folder: Path) -> None:
    """Train what is not trained yet, some at once; each goes on where it was, and one that is done is looked over.

    Args:
        settings: of the sweep.
        folder: where the runs lie.

    Raises:
        UserError: one failed; its log says why.
    """
    check_points(settings)
    folder.mkdir(parents=True, exist_ok=True)
    todo = points(settings)

    def one(point: Point) -> str:
        run = folder / point.name
        words = [*settings.overrides, *point.overrides, "logger=csv", "if_exists=continue"]
        words += [path_override("run_dir", run), path_override("cache", folder / "cache")]
        with (folder / f"{point.name}.log").open("w", encoding="utf-8") as log:
            try:
                start_job(str(ROOT / "src" / "train.py"), words, output=log)
            except JobFailedError as error:
                return str(error)
            return ""

    with ThreadPoolExecutor(settings.workers) as pool:
        for number, (point, failure) in enumerate(zip(todo, pool.map(one, todo), strict=True), 1):
            if failure:
                pool.shutdown(cancel_futures=True)
                raise UserError(f"{point.name}: {failure}; see {folder / point.name}.log")
            print(f"{number}/{len(todo)}: {point.name}", flush=True)


def measure(settings: CapacitySettings, folder: Path) -> dict[str, Any]:
    """Return what came through each run: plain values."""
    rows = [measure_point(point, RunFolder(folder / point.name), settings.converged) for point in points(settings)]
    return {"points": rows, "converged": settings.converged}


def measure_point(point: Point, run: RunFolder, converged: float) -> dict[str, Any]:
    """Return what is said of a run of the sweep.

    Raises:
        UserError: the run is missing, or no calibrated channel.
    """
    found, metrics = read_run(run), read_json(run.metrics)
    translations = read_translations(run.translations)
    done, gain = judge_convergence(run, converged)
    # A loss that is nearly nothing goes on falling by large shares of itself.
    whole = found["bits"] >= WHOLE * found["of"]
    return {
        "name": point.name,
        "line": point.line,
        "width": point.width,
        **found,
        "longest_copied": longest_copied(
            [row.hypothesis.split() for row in translations], [row.reference.split() for row in translations]
        ),
        "converged": done,
        "whole": whole,
        "gain_of_last_fifth": gain,
        "parameters": metrics["parameters"],
        "train_target_tokens": metrics["train_target_tokens"],
        "train_seconds": metrics["train_seconds"],
        "commit": metrics["commit"],
        "dirty": metrics["dirty"],
        "machine": metrics["machine"],
    }
