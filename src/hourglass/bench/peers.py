"""What speeds are compared with: the peers' figures and the targets of conf/peers.yaml."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveFloat

from hourglass.config.options import build, read_settings
from hourglass.errors import UserError
from hourglass.system.project import CONF

_Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Peer:
    """The measured speed of another toolkit.

    Attributes:
        peer: the toolkit's name and version.
        what: name of the measurement, as pipelines/bench.py prints it.
        device: the processor, as pipelines/bench.py prints it, or the GPU, as torch has it; speeds are compared on the
            same device only.
        speeds: tokens or sentences a second, of each round in their order if peer and ours took turns.
        target_ratio: our speed is to be this many times the peer's.
        precision: of the peer.
    """

    peer: str
    what: str
    device: str
    speeds: Annotated[list[PositiveFloat], Field(min_length=1)]
    target_ratio: PositiveFloat
    precision: str = "32-true"

    @property
    def speed(self) -> float:
        """The median of the speeds."""
        return statistics.median(self.speeds)

    def ratios(self, line: Mapping[str, Any]) -> list[float]:
        """Return the ratio of our speed to the peer's in each round, or that of the medians if they took no turns.

        Args:
            line: our measurement; `between` says that something took turns with it.

        Raises:
            UserError: they took turns, and the peer has another number of rounds.
        """
        if len(self.speeds) == 1 or not line.get("between"):
            return [statistics.median(line["all"]) / self.speed]
        if len(self.speeds) != len(line["all"]):
            raise UserError(
                f"{self.peer}, {self.what}: conf/peers.yaml has speeds of {len(self.speeds)} rounds, and the line has "
                f"{len(line['all'])}: give as many, or their median alone"
            )
        return [own / other for own, other in zip(line["all"], self.speeds, strict=True)]


@dataclass(frozen=True)
class Targets:
    """The peers and targets in conf/peers.yaml.

    Attributes:
        peers: speeds of other toolkits on a CPU.
        square_rates: by processor, GFLOP/s of the product 1,024 x 1,024 x 1,024 when these were measured.
        square_shares: by variant, the share of the rate of square products that a training step is to reach.
        no_slower: by variant, the variant whose training speed it is to reach.
        padding_share: upper bound of the share of padding positions.
        device_ratios: by way to run a training step, our speed on a device is to be this many times the way's.
        precision_ratios: by training step of `bench.py precisions`, its speed in bf16-mixed is to be this many times
            that in float32, on a CPU with instructions for bfloat16.
        gpu_peers: speeds of other toolkits in whole trainings on a GPU.
    """

    peers: list[Peer]
    square_rates: dict[str, PositiveFloat]
    square_shares: dict[str, _Share]
    no_slower: dict[str, str]
    padding_share: _Share
    device_ratios: dict[str, PositiveFloat]
    precision_ratios: dict[str, PositiveFloat]
    gpu_peers: list[Peer]


def read_targets() -> Targets:
    """Read conf/peers.yaml.

    Raises:
        UserError: the file is missing, or one of its settings is.
    """
    return read_settings(CONF / "peers.yaml", _build_targets)


def _build_targets(content: dict[str, Any]) -> Targets:
    lists = {key: [build(Peer, entry, key) for entry in content.get(key, [])] for key in ("peers", "gpu_peers")}
    return build(Targets, {**content, **lists}, "peers")
