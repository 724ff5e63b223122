"""Measuring speed: seconds, matrix multiply work and rates, memory; and the table of what was measured.

Work is counted in operations, two for a multiplication and the addition that goes with it.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveFloat

Share = Annotated[float, Field(gt=0, le=1)]


# How the names begin of a training's speed, of a training's on a GPU, of a step's on a device, and of the share of the
# machine's rate that a step reaches.
TRAINING = "training, "


ON_GPU_TRAINING = "training on a GPU, "


DEVICE = "device, "


LIMIT = "share of the rate of 1024 x 1024 in training, "


@dataclass(frozen=True)
class Peer:
    """What a toolkit was measured at.

    Attributes:
        peer: its name and version.
        what: the figure's name, as pipelines/bench.py prints ours.
        speed: tokens or sentences a second.
        times: how many times as fast ours is to be.
    """

    peer: str
    what: str
    speed: PositiveFloat
    times: PositiveFloat


@dataclass(frozen=True)
class GpuPeer(Peer):
    """What a toolkit was measured at on a GPU.

    Attributes:
        device: the card's name, as torch has it; another card's figures are not held against it.
    """

    device: str


@dataclass(frozen=True)
class Peers:
    """conf/peers.yaml.

    Attributes:
        peers: their figures.
        rate: GFLOP/s of square products of 1,024 when they were measured, so that another hour can be told from it.
        share: of the matrix multiply rate at the shapes of one step, that a target never asks more than.
        limits: by variant, the share of the rate of square products of 1,024 that a training step is to reach.
        no_slower: variants that are to train at least as fast as another.
        padding: share of positions that may be padding.
        device: by another way of a training step on a device, how many times as fast ours is to be.
        gpu: peers' figures of whole trainings on a GPU.
    """

    peers: list[Peer]
    rate: PositiveFloat
    share: Share
    limits: dict[str, Share]
    no_slower: dict[str, str]
    padding: Share
    device: dict[str, PositiveFloat]
    gpu: list[GpuPeer]


def compare(lines: Iterable[Mapping[str, Any]], peers: Sequence[Peer], share: float) -> list[list[str]]:
    """Hold measured speeds against the peers', and against what the machine can do.

    Args:
        lines: what pipelines/bench.py has printed; those that have a speed, and of the same thing the last. Each round
            is held against the rate that was measured just before it; beside that, the speed against the best rate
            of all these lines for the same shapes, as the rate of a shared machine swings.
        peers: the peers' figures.
        share: of the rate at the shapes of one step, that a target never asks more than.

    Returns:
        rows of text, the head first.
    """
    head = ["what", "ours, a second", "share of the step's rate", "of the best rate"]
    rows = [[*head, "peer", "its speed", "ratio", "target", "reached"]]
    speeds = {line["what"]: line for line in lines if "work" in line}
    best: dict[str, float] = {}
    for what, one in speeds.items():
        best[_shapes(what)] = max(best.get(_shapes(what), 0.0), *one["step_rates"])
    for what, one in speeds.items():
        speed, limits = one["value"], [rate / one["work"] for rate in one["step_rates"]]
        shares = sorted(each / limit for each, limit in zip(one["all"], limits, strict=True))
        reached, limit = statistics.median(shares), statistics.median(limits)
        spread = f"{100 * reached:.0f} % ({100 * shares[0]:.0f} to {100 * shares[-1]:.0f})"
        of_best = f"{100 * speed * one['work'] / best[_shapes(what)]:.1f} %"
        ours = [what, f"{speed:,.0f} {one['unit'].partition('/')[0]}", spread, of_best]
        rivals = [peer for peer in peers if peer.what == what]
        for rival in rivals:
            target = min(rival.speed * rival.times, share * limit)
            by_times = target < share * limit
            by = f"{rival.times:g} times" if by_times else f"{100 * share:.0f} % of the rate"
            rows.append(
                [
                    *ours,
                    rival.peer,
                    f"{rival.speed:,.0f} ({100 * rival.speed / limit:.0f} %)",
                    f"{speed / rival.speed:.2f}",
                    f"{target:,.0f} ({by})",
                    "yes" if (speed >= target if by_times else reached >= share) else "no",
                ]
            )
        if not rivals:
            rows.append([*ours, "", "", "", "", ""])
    return rows


def _shapes(what: str) -> str:
    """Say of a speed's name what its rate of products hangs on: the decoder's size; all searches are of one model."""
    return what.rpartition(", ")[2] if what.startswith(TRAINING) else what.partition(", ")[0]


def judge(lines: Iterable[Mapping[str, Any]], asked: Peers) -> list[list[str]]:
    """Say of what else is asked whether it is reached: shares of the machine's rate, no variant slower, padding.

    Args:
        lines: what pipelines/bench.py has printed; of the same thing the last.
        asked: what is.

    Returns:
        rows of text, the head first.
    """
    found = {line["what"]: line for line in lines}
    rows = [["what", "found", "asked", "reached"]]

    def add(what: str, shown: str, limit: str, reached: bool) -> None:
        rows.append([what, shown, limit, "yes" if reached else "no"])

    for variant, share in asked.limits.items():
        for what, line in found.items():
            if what.startswith(f"{LIMIT}{variant}, decoder "):
                low, high = min(line["all"]), max(line["all"])
                shown = f"{100 * line['value']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
                add(what, shown, f"at least {100 * share:.0f} %", line["value"] >= share)
    for variant, other in asked.no_slower.items():
        for what, line in found.items():
            size = what.removeprefix(f"{TRAINING}{variant}, decoder ")
            than = found.get(f"{TRAINING}{other}, decoder {size}")
            if than is not None:
                ratio = line["value"] / than["value"]
                add(f"{what}: times the speed of {other}", f"{ratio:.2f}", "at least 1", ratio >= 1)
    padded = {what: line["padding"] for what, line in found.items() if "padding" in line}
    if padded:
        most = max(padded.values())
        limit = f"under {100 * asked.padding:.0f} %"
        add("padding in training, the variant with most", f"{100 * most:.1f} %", limit, most < asked.padding)
    return rows


def hold(lines: Iterable[Mapping[str, Any]], asked: Mapping[str, float]) -> list[list[str]]:
    """Hold training steps on a device against other ways to take them: pipelines/bench.py device.

    Args:
        lines: what pipelines/bench.py has printed; of the same thing the last.
        asked: by another way, how many times as fast ours is to be.

    Returns:
        rows of text, the head first; that alone where no device was measured.
    """
    speeds: dict[str, dict[str, float]] = {}
    for line in lines:
        kind, _, way = line["what"].partition(": ")
        if kind.startswith(DEVICE) and line["unit"] != "ratio":
            speeds.setdefault(kind.removeprefix(DEVICE), {})[way] = line["value"]
    others = {way for found in speeds.values() for way in found} - {"ours"}
    ways = sorted(others, key=lambda way: (way not in asked, way))
    rows = [["what", "ours, target tokens/s", *(f"over {way}" for way in ways)]]
    for kind, found in speeds.items():
        row = [kind, f"{found['ours']:,.0f}"]
        for way in ways:
            shown = ""
            if way in found:
                ratio = found["ours"] / found[way]
                shown = f"{ratio:.2f} ({found[way]:,.0f})"
                if way in asked:
                    shown += f", {'reached' if ratio >= asked[way] else 'missed'}"
            row.append(shown)
        rows.append(row)
    return rows


def compare_gpu(lines: Iterable[Mapping[str, Any]], peers: Sequence[GpuPeer]) -> list[list[str]]:
    """Hold whole trainings on a GPU against the peers', and say what they reach: pipelines/bench.py gpu.

    Args:
        lines: what pipelines/bench.py has printed; of the same training and seed the last.
        peers: the peers' figures.

    Returns:
        rows of text, the head first; that alone where no such training was measured.
    """
    own = ["what", "card", "ours, target tokens/s", "dev loss", "dev BLEU"]
    rows = [[*own, "peer", "its speed", "ratio", "asked", "reached"]]
    seeds: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        if line["what"].startswith(ON_GPU_TRAINING):
            seeds.setdefault((line["what"], line["device"]), {})[line["seed"]] = line
    for (what, device), found in seeds.items():
        speed = statistics.median(line["value"] for line in found.values())
        ours = [what, device]
        for key, average, digits in (
            ("value", statistics.median, 0),
            ("dev_loss", statistics.mean, 2),
            ("dev_bleu", statistics.mean, 1),
        ):
            each = [line[key] for line in found.values()]
            ours.append(f"{average(each):,.{digits}f} ({' '.join(f'{one:,.{digits}f}' for one in each)})")
        rivals = [peer for peer in peers if (peer.what, peer.device) == (what, device)]
        for rival in rivals:
            ratio = speed / rival.speed
            reached = "yes" if ratio >= rival.times else "no"
            rows.append([*ours, rival.peer, f"{rival.speed:,.0f}", f"{ratio:.2f}", f"{rival.times:g} times", reached])
        if not rivals:
            rows.append([*ours, "", "", "", "", ""])
    return rows
