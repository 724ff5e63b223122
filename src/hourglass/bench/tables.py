"""The rows of the tables that compare measurements with peers and targets.

Each function takes the lines that pipelines/bench.py has printed, and returns rows of text, the head first. Where a
measurement was made several times, the last counts.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hourglass.bench.clock import growth_exponent
from hourglass.bench.measurements import (
    CELL,
    CONTENDED,
    DEVICE,
    LIMIT,
    ON_GPU_TRAINING,
    PRECISION,
    PROFILE,
    SEARCH,
    TRAINING,
)
from hourglass.bench.peers import Peer, Targets

PLAIN = "32-true"  # The precision of a line that names none.


def peer_rows(lines: Iterable[Mapping[str, Any]], peers: Sequence[Peer]) -> list[list[str]]:
    """Compare speeds on a CPU with the peers' speeds, and with the machine's rate of matrix products.

    Whether a target is reached is a matter of the peer's speed alone; the shares of the rate say how far it is to what
    the machine could do. Each round is compared with the rate measured just before it. As the rate of a shared machine
    varies, another column compares the speed with the best rate among all lines for the same shapes. A ratio to a peer
    is the median of those of the rounds, with their range, where the peer took turns with ours. Beside a target stands
    the share of the rate that it asks for.

    Args:
        lines: of these, those with a speed are compared.
        peers: the peers' speeds, and the target ratios.
    """
    head = ["measurement", "precision", "ours, per second", "share of the step's rate", "share of the best rate"]
    rows = [[*head, "peer", "peer's speed", "ratio", "target", "reached"]]
    speeds = {(line["what"], line.get("precision", PLAIN)): line for line in lines if "work" in line}
    best: dict[str, float] = {}
    for (name, _), line in speeds.items():
        best[_shapes(name)] = max(best.get(_shapes(name), 0.0), *line["step_rates"])
    for (name, precision), line in speeds.items():
        # The speed at which the step would reach the whole rate, in each round.
        limits = [rate / line["work"] for rate in line["step_rates"]]
        shares = sorted(value / limit for value, limit in zip(line["all"], limits, strict=True))
        speed, share, limit = line["value"], statistics.median(shares), statistics.median(limits)
        best_share = f"{100 * speed * line['work'] / best[_shapes(name)]:.1f} %"
        ours = [name, precision, f"{speed:,.0f} {line['unit'].partition('/')[0]}", _percent(share, shares), best_share]
        rivals = [peer for peer in peers if (peer.what, peer.device) == (name, line["processor"])]
        for rival in rivals:
            ratios = rival.ratios(line)
            ratio = statistics.median(ratios)
            rows.append(
                [
                    *ours,
                    rival.peer if rival.precision == PLAIN else f"{rival.peer}, {rival.precision}",
                    f"{rival.speed:,.0f} ({100 * rival.speed / limit:.0f} %)",
                    _ratio(ratio, ratios) if len(ratios) > 1 else f"{ratio:.2f}",
                    f"{rival.target_ratio:g} ({100 * rival.target_ratio * rival.speed / limit:.0f} %)",
                    _yes_or_no(ratio >= rival.target_ratio),
                ]
            )
        if not rivals:
            rows.append([*ours, "", "", "", "", ""])
    return rows


def _shapes(name: str) -> str:
    """Return a key of the shapes of a measurement's step: the decoder's size; all searches decode with one model."""
    return name.rpartition(", ")[2] if name.startswith(TRAINING) else name.partition(", ")[0]


def _percent(value: float, rounds: Sequence[float]) -> str:
    """Return a share, with the lowest and the highest of its rounds in brackets."""
    return f"{100 * value:.0f} % ({100 * min(rounds):.0f} to {100 * max(rounds):.0f})"


def _ratio(value: float, rounds: Sequence[float]) -> str:
    """Return a ratio, with the lowest and the highest of its rounds in brackets."""
    return f"{value:.2f} ({min(rounds):.2f} to {max(rounds):.2f})"


def _yes_or_no(reached: bool) -> str:
    return "yes" if reached else "no"


def target_rows(lines: Iterable[Mapping[str, Any]], targets: Targets) -> list[list[str]]:
    """Compare with the targets that need no peer, in float32: shares of the rate, variants no slower, padding."""
    last = {line["what"]: line for line in lines if line.get("precision", PLAIN) == PLAIN}
    rows = [["measurement", "measured", "target", "reached"]]
    for variant, share in targets.square_shares.items():
        for name, line in last.items():
            if name.startswith(f"{LIMIT}{variant}, decoder "):
                reached = _yes_or_no(line["value"] >= share)
                rows.append([name, _percent(line["value"], line["all"]), f"at least {100 * share:.0f} %", reached])
    for variant, other in targets.no_slower.items():
        for name, line in last.items():
            size = name.removeprefix(f"{TRAINING}{variant}, decoder ")
            other_line = last.get(f"{TRAINING}{other}, decoder {size}")
            if other_line is not None:
                ratio = line["value"] / other_line["value"]
                ratio_name = f"{name}: ratio to the speed of {other}"
                rows.append([ratio_name, f"{ratio:.2f}", "at least 1", _yes_or_no(ratio >= 1)])
    shares = [line["padding"] for line in last.values() if "padding" in line]
    if shares:
        target, reached = f"under {100 * targets.padding_share:.0f} %", max(shares) < targets.padding_share
        name = "padding in training, largest share of a variant"
        rows.append([name, f"{100 * max(shares):.1f} %", target, _yes_or_no(reached)])
    return rows


def device_rows(lines: Iterable[Mapping[str, Any]], target_ratios: Mapping[str, float]) -> list[list[str]]:
    """Compare training steps on a device with other ways to run them, as `bench.py device` has measured them.

    Args:
        lines: of these, those of `bench.py device` are compared; without any, the head is the only row.
        target_ratios: by another way, the ratio of our speed to its speed that is the target.
    """
    speeds: dict[str, dict[str, float]] = {}
    for line in lines:
        kind, _, way = line["what"].partition(": ")
        if kind.startswith(DEVICE) and line["unit"] != "ratio":
            speeds.setdefault(kind.removeprefix(DEVICE), {})[way] = line["value"]
    others = {way for by_way in speeds.values() for way in by_way} - {"ours"}
    ways = sorted(others, key=lambda way: (way not in target_ratios, way))
    rows = [["training step", "ours, target tokens/s", *(f"ratio to {way}" for way in ways)]]
    for kind, by_way in speeds.items():
        row = [kind, f"{by_way['ours']:,.0f}"]
        for way in ways:
            cell = ""
            if way in by_way:
                ratio = by_way["ours"] / by_way[way]
                cell = f"{ratio:.2f} ({by_way[way]:,.0f})"
                if way in target_ratios:
                    cell += f", {'reached' if ratio >= target_ratios[way] else 'missed'}"
            row.append(cell)
        rows.append(row)
    return rows


def contention_rows(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return the speeds beside other processes, as `bench.py contended` has measured them: a column an activity."""
    shares: dict[str, dict[str, str]] = {}
    for line in lines:
        if line["what"].startswith(CONTENDED):
            activity, _, beside = line["what"].removeprefix(CONTENDED).partition(", ")
            shares.setdefault(beside, {})[activity] = _percent(line["value"], line["all"])
    activities = list(dict.fromkeys(activity for by_activity in shares.values() for activity in by_activity))
    rows = [["of the speed of one thread alone", *activities]]
    rows += [[beside, *(by_activity.get(name, "") for name in activities)] for beside, by_activity in shares.items()]
    return rows


def precision_rows(lines: Iterable[Mapping[str, Any]], target_ratios: Mapping[str, float]) -> list[list[str]]:
    """Compare training steps by precision, as `bench.py precisions` has measured them.

    Args:
        lines: of these, those of `bench.py precisions` are compared; without any, the head is the only row.
        target_ratios: by training step, the ratio to float32 that is the target.
    """
    last = {(line["threads"], line["what"]): line for line in lines if line["what"].startswith(PRECISION)}
    head = ["training step", "threads", "float32, target tokens/s", "bf16-mixed, target tokens/s", "ratio", "target"]
    rows = [[*head, "reached", "processor"]]
    for (threads, name), line in last.items():
        kind, _, ratio = name.removeprefix(PRECISION).partition(": ")
        if line["unit"] == "ratio":
            speeds = [last[threads, f"{PRECISION}{kind}: {precision}"]["value"] for precision in ratio.split(" over ")]
            target = target_ratios.get(kind)
            cells = ["", ""] if target is None else [f"at least {target:g}", _yes_or_no(line["value"] >= target)]
            shown = [f"{speed:,.0f}" for speed in reversed(speeds)]
            spread = _ratio(line["value"], line["all"])
            rows.append([kind, str(threads), *shown, spread, *cells, line["processor"]])
    return rows


def cell_rows(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Compare training steps by cell, as `bench.py cells` has measured them; without any, only the head."""
    last = {line["what"]: line for line in lines if line["what"].startswith(CELL)}
    head = ["cell", "state of a decoder layer, numbers", "parameters", "target tokens/s", "time of a step over lstm's"]
    rows = [[*head, "processor"]]
    for name, line in last.items():
        if line["unit"] != "ratio":
            ratio = last.get(f"{name} over lstm")
            spread = "" if ratio is None else _ratio(ratio["value"], ratio["all"])
            cells = [f"{line['state_numbers']:,}", f"{line['parameters']:,}", f"{line['value']:,.0f}", spread]
            rows.append([name.removeprefix(CELL), *cells, line["processor"]])
    return rows


def search_rows(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Compare searches by precision, as `bench.py searches` has measured them; without any, only the head."""
    head = ["search", "decoder", "precision", "sentences/s", "ratio to float32", "BLEU", "equal to float32's"]
    rows = [[*head, "processor"]]
    for line in {line["what"]: line for line in lines if line["what"].startswith(SEARCH)}.values():
        kind, _, precision = line["what"].removeprefix(SEARCH).partition(": ")
        ratio = _ratio(line["ratio"], line["ratios"])
        cells = [f"{line['value']:,.0f}", ratio, f"{line['bleu']:.2f}", f"{100 * line['equal']:.0f} %"]
        rows.append([kind, str(line["decoder"]), precision, *cells, line["processor"]])
    return rows


def profile_rows(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return the parts of training steps, as `bench.py profile` has measured them: a column a step."""
    shares: dict[str, dict[str, str]] = {}
    steps: dict[str, str] = {}
    for line in lines:
        if line["what"].startswith(PROFILE):
            step, _, part = line["what"].removeprefix(PROFILE).partition(": ")
            shares.setdefault(part, {})[step] = _percent(line["value"], line["all"])
            steps[step] = f"{step}, {line['milliseconds']:.0f} ms"
    rows = [["part of a training step", *steps.values()]]
    rows += [[part, *(by_step.get(step, "") for step in steps)] for part, by_step in shares.items()]
    return rows


def gpu_rows(lines: Iterable[Mapping[str, Any]], peers: Sequence[Peer]) -> list[list[str]]:
    """Compare whole trainings on a GPU with the peers' on the same GPU, as `bench.py gpu` has measured them.

    Args:
        lines: of these, those of `bench.py gpu` are compared; without any, the head is the only row.
        peers: the peers' speeds and the target ratios.
    """
    head = ["measurement", "GPU", "ours, target tokens/s", "dev loss", "dev BLEU"]
    rows = [[*head, "peer", "peer's speed", "ratio", "target", "reached"]]
    trainings: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        if line["what"].startswith(ON_GPU_TRAINING):
            trainings.setdefault((line["what"], line["device"]), {})[line["seed"]] = line
    for (name, device), by_seed in trainings.items():
        speed = statistics.median(line["value"] for line in by_seed.values())
        ours = [name, device]
        for key, average, digits in (
            ("value", statistics.median, 0),
            ("dev_loss", statistics.mean, 2),
            ("dev_bleu", statistics.mean, 1),
        ):
            values = [line[key] for line in by_seed.values()]
            ours.append(f"{average(values):,.{digits}f} ({' '.join(f'{value:,.{digits}f}' for value in values)})")
        rivals = [peer for peer in peers if (peer.what, peer.device) == (name, device)]
        for rival in rivals:
            ratio = speed / rival.speed
            cells = [f"{rival.speed:,.0f}", f"{ratio:.2f}", f"{rival.target_ratio:g} times"]
            rows.append([*ours, rival.peer, *cells, _yes_or_no(ratio >= rival.target_ratio)])
        if not rivals:
            rows.append([*ours, "", "", "", "", ""])
    return rows


def other_rows(lines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """List the measurements that no other table compares; each size of a measurement has its row."""
    rows = [["measurement", "size", "value", "unit", "memory, MB"]]
    own_table = (DEVICE, CONTENDED, PRECISION, PROFILE, SEARCH, CELL)
    others = [
        line for line in lines if not {"work", "dev_loss"} & line.keys() and not line["what"].startswith(own_table)
    ]
    for line in {(line["what"], line.get("size")): line for line in others}.values():
        size = f"{line['size']:,}" if "size" in line else ""
        memory = line.get("own_mb", line.get("more_mb"))
        memory_cell = "" if memory is None else f"{memory:,.0f}"
        rows.append([line["what"], size, f"{line['value']:,.4g}", line["unit"], memory_cell])
    return rows


def by_size(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the lines of each measurement made at several sizes, by name, the smallest size first."""
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        if "size" in line:
            groups.setdefault(line["what"], {})[line["size"]] = line
    return {name: [group[size] for size in sorted(group)] for name, group in groups.items() if len(group) > 1}


def growth_rows(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Return the exponents by which each measurement, and its memory, grow with the size."""
    rows = [["measurement", "sizes", "exponent", "exponent of memory"]]
    for name, group in groups.items():
        sizes = " ".join(f"{line['size']:,}" for line in group)
        rows.append([name, sizes, _exponent(group, "value"), _exponent(group, "more_mb")])
    return rows


def _exponent(group: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the exponent of a value over the sizes; empty where a value is missing or is no positive number."""
    values = [line.get(key, 0) for line in group]
    return f"{growth_exponent([line['size'] for line in group], values):.2f}" if min(values) > 0 else ""
