"""The bits that families of models hold in a state of fixed size, against the bits of that state: points and files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hourglass.analysis.capacity import CapacityPoint
from hourglass.analysis.evaluation import Tuning
from hourglass.metrics.significance import Interval, VarianceEstimate, half_width
from hourglass.system.records import read_record, write_record

# Of the dataclasses below and of CapacityPoint: add 1 whenever a field changes.
SCHEMA_VERSION = 1
# What stands between encoder and decoder: the encoder's final state itself (decoder.start=pass), a projection of its
# states (the summary), or nothing of fixed size (attention).
NeckKind = Literal["state", "projection", "none"]
# Degrees of freedom of a variance over hundreds of test sequences: t is normal.
MANY = 1e6


@dataclass(frozen=True)
class FamilyPoint:
    """A family at one size, by one channel.

    Attributes:
        channel: name in conf/families: copy, recall.
        family: name in conf/families.
        neck: what the size is of.
        size: the width that is varied: of the layers for a state, of the summary for a projection; 0: no neck.
        rounded: bits to which each number is rounded; 0: not rounded.
        numbers: that reach the decoder by the neck.
        neck_bits: that they can hold: 32 a number in float32, fewer where they are rounded.
        trainings: one for each seed.
        tuning: the search for its learning rate; None where all points have one rate.
    """

    channel: str
    family: str
    neck: NeckKind
    size: int
    rounded: int
    numbers: int
    neck_bits: int
    trainings: list[CapacityPoint]
    tuning: Tuning | None

    @property
    def bits(self) -> float:
        """Bits per sequence of the longest quarter that came through, mean over seeds."""
        return float(np.mean([training.channel.bits for training in self.trainings]))

    @property
    def source_bits(self) -> float:
        """Information in such a sequence: no more can come through."""
        return self.trainings[0].channel.source_bits

    @property
    def interval(self) -> Interval:
        """95 % of `bits`, over test sequences and seeds; of one seed, over test sequences alone.

        All seeds read the same test sequences, so that their error does not shrink with the number of seeds.
        """
        sentences = float(np.mean([training.channel.error**2 for training in self.trainings]))
        parts = [VarianceEstimate(sentences, MANY)]
        count = len(self.trainings)
        if count > 1:
            spread = float(np.var([training.channel.bits for training in self.trainings], ddof=1))
            parts.append(VarianceEstimate(spread / count, count - 1))
        half = half_width(parts)
        return Interval(self.bits - half, min(self.bits + half, self.source_bits))

    @property
    def limited_by_training(self) -> bool:
        """Whether more training would probably raise the bits of some seed."""
        return any(training.limited_by_training for training in self.trainings)

    @property
    def converged(self) -> bool | None:
        """The verdict on all seeds: False if one had not converged, None if one of the others cannot be told."""
        verdicts = [training.converged for training in self.trainings]
        return False if False in verdicts else None if None in verdicts else True

    @property
    def parameters(self) -> int:
        """Of the model."""
        return self.trainings[0].parameters

    @property
    def tokens_a_second(self) -> float:
        """Target tokens that a second of training reads, mean over seeds."""
        return float(np.mean([training.train_target_tokens / training.train_seconds for training in self.trainings]))

    @property
    def seconds(self) -> float:
        """Of training, with the search."""
        own = sum(training.train_seconds for training in self.trainings)
        return own + (self.tuning.seconds if self.tuning else 0.0)


@dataclass(frozen=True)
class FamilyPoints:
    """All points of one family by one channel.

    Attributes:
        points: from the smallest neck to the largest, those that are rounded last.
        converged: share of the dev loss below which the last fifth of a budget counts as no gain.
        commit: of the code that measured the runs; None outside a checkout.
    """

    points: list[FamilyPoint]
    converged: float
    commit: str | None


def write_points(file: Path, points: FamilyPoints) -> None:
    """Write the points of one family by one channel."""
    write_record(file, points, SCHEMA_VERSION)


def read_family_points(file: Path, command: str) -> FamilyPoints:
    """Read the points of one family by one channel.

    Args:
        file: where they are.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, FamilyPoints, SCHEMA_VERSION, command)
