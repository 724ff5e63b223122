"""The result of a sweep over the width of the neck, and the file capacity.json that holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.analysis.channel import ChannelSummary
from hourglass.analysis.evaluation import Tuning
from hourglass.system.records import read_record, write_record

# Of the dataclasses below and of ChannelSummary: add 1 whenever a field changes.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CapacityPoint:
    """One run of a capacity sweep.

    Attributes:
        name: of its run folder.
        line: the line of the figures that it belongs to.
        width: D of the neck; 0 for a run without a neck.
        channel: bits that came through.
        longest_copied: length up to which greedy search copies sequences; 0 if none are copied.
        converged: whether the last fifth of the budget gained next to nothing; None: too short to be judged.
        reads_all: whether nearly all bits of a sequence came through.
        gain_of_last_fifth: share of the dev loss.
        parameters: of the model.
        train_target_tokens: read in training.
        train_seconds: duration of training.
        commit: of the training's code; None outside a checkout.
        dirty: whether files differed from that commit.
        machine: processor, GPU, threads, versions.
        tuning: the search for its learning rate; None where all runs have one rate.
    """

    name: str
    line: str
    width: int
    channel: ChannelSummary
    longest_copied: int
    converged: bool | None
    reads_all: bool
    gain_of_last_fifth: float
    parameters: int
    train_target_tokens: int
    train_seconds: float
    commit: str | None
    dirty: bool | None
    machine: dict[str, Any]
    tuning: Tuning | None = None

    @property
    def limited_by_training(self) -> bool:
        """Whether more training would probably raise the bits."""
        return not self.converged and not self.reads_all


@dataclass(frozen=True)
class Capacity:
    """All runs of a capacity sweep.

    Attributes:
        points: the runs, in the order of the sweep.
        converged: share of the dev loss below which the last fifth of a budget counts as no gain.
        commit: of the code that measured the runs; None outside a checkout.
    """

    points: list[CapacityPoint]
    converged: float
    commit: str | None


def save_capacity(file: Path, capacity: Capacity) -> None:
    """Write capacity.json."""
    write_record(file, capacity, SCHEMA_VERSION)


def read_capacity(file: Path, command: str) -> Capacity:
    """Read capacity.json.

    Args:
        file: where it is.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, Capacity, SCHEMA_VERSION, command)
