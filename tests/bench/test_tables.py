"""The rows of the tables, for measurements and targets that are easy to compute by hand."""

import pytest

from hourglass.bench.measurements import CELL, CONTENDED, LIMIT, PRECISION, PROFILE
from hourglass.bench.peers import Peer, Targets
from hourglass.bench.tables import (
    by_size,
    cell_rows,
    contention_rows,
    device_rows,
    gpu_rows,
    growth_rows,
    other_rows,
    peer_rows,
    precision_rows,
    profile_rows,
    target_rows,
)
from hourglass.errors import UserError


def test_a_target_is_a_ratio_to_the_peer_whatever_the_rate_of_the_machine() -> None:
    what = "training, x, decoder 4"
    peers = [Peer("slow", what, "A", [100], 3), Peer("quick", what, "A", [1000], 3)]
    line = {"what": what, "unit": "target tokens/s", "work": 2.0, "processor": "A"}
    first = {**line, "value": 200, "all": [200], "step_rates": [1000.0]}
    # The whole rate of 1,000 operations a second is 500 tokens of 2 each; each round has its own rate.
    last = {**line, "value": 300, "all": [100, 300, 500], "step_rates": [800.0, 1000.0, 1250.0]}
    lines = [first, {"what": "a rate", "value": 1, "unit": "GFLOP/s"}, last]
    _, *rows = peer_rows(lines, peers)
    ours = ["training, x, decoder 4", "32-true", "300 target tokens", "60 % (25 to 80)", "48.0 %"]
    assert rows == [
        [*ours, "slow", "100 (20 %)", "3.00", "3 (60 %)", "yes"],
        [*ours, "quick", "1,000 (200 %)", "0.30", "3 (600 %)", "no"],
    ]
    disturbed = {**last, "step_rates": [800.0, 1250.0, 1250.0]}  # The middle round reached 48 % of its own rate.
    assert peer_rows([disturbed], peers)[1][3:] == [
        "48 % (25 to 80)",
        "48.0 %",
        "slow",
        "100 (16 %)",
        "3.00",
        "3 (48 %)",
        "yes",
    ]
    assert peer_rows(lines[:1], peers[:1])[1][7:] == ["2.00", "3 (60 %)", "no"]
    # Each precision has its rows, and a peer's is named.
    half = {**last, "precision": "bf16-mixed", "value": 600, "all": [500, 600, 700]}
    rival = Peer("half", what, "A", [400], 1, "bf16")
    rows = peer_rows([last, half], [peers[0], rival])[1:]
    assert [(row[1], row[5], row[7]) for row in rows] == [
        ("32-true", "slow", "3.00"),
        ("32-true", "half, bf16", "0.75"),
        ("bf16-mixed", "slow", "6.00"),
        ("bf16-mixed", "half, bf16", "1.50"),
    ]
    # Of rounds in turn, each has its ratio, here 0.5, 2 and 1; that of the medians is 1.5.
    turns, in_turn = Peer("turns", what, "A", [200, 150, 500], 1), {**last, "between": "peer.sh"}
    assert peer_rows([in_turn], [turns])[1][6:] == ["200 (40 %)", "1.00 (0.50 to 2.00)", "1 (40 %)", "yes"]
    assert peer_rows([last], [turns])[1][7] == peer_rows([in_turn], [Peer("b", what, "A", [200], 1)])[1][7] == "1.50"
    with pytest.raises(UserError, match="speeds of 2 rounds, and the line has 3: give as many, or their median alone"):
        peer_rows([in_turn], [Peer("b", what, "A", [200, 100], 1)])
    assert peer_rows(lines[:1], [])[1][5:] == [""] * 5
    assert peer_rows([{**first, "processor": "B"}], peers)[1][5:] == [""] * 5  # They ran on another machine.
    # The best rate may be another variant's of the same size, or the other search's.
    other = {**last, "what": "training, y, decoder 4", "step_rates": [2000.0] * 3}
    wider = {**last, "what": "training, x, decoder 8", "step_rates": [1000.0] * 3}
    searches = [
        {**last, "what": f"decoding, {name}", "step_rates": [rate] * 3}
        for name, rate in (("greedy", 1500), ("b", 1200))
    ]
    shares = [row[4] for row in peer_rows([last, other, wider, *searches], [])[1:]]
    assert shares == ["30.0 %", "30.0 %", "60.0 %", "40.0 %", "40.0 %"]


def test_other_targets_are_reached_or_not() -> None:
    targets = Targets([], {}, {"x": 0.5, "x y": 0.4}, {"z": "x"}, 0.05, {}, {}, [])
    limits = [{"what": f"{LIMIT}{name}, decoder 4", "value": 0.45, "all": [0.3, 0.45, 0.6]} for name in ("x", "x y")]
    speeds = [
        {"what": f"training, {name}, decoder {size}", "value": value, "padding": padding}
        for name, size, value, padding in (
            ("x", 4, 100, 0.01),
            ("z", 4, 99, 0.04),
            ("x", 8, 10, 0.0),
            ("z", 8, 10, 0.0),
        )
    ]
    _, *rows = target_rows([*limits, *speeds], targets)
    assert rows == [
        [f"{LIMIT}x, decoder 4", "45 % (30 to 60)", "at least 50 %", "no"],
        [f"{LIMIT}x y, decoder 4", "45 % (30 to 60)", "at least 40 %", "yes"],
        ["training, z, decoder 4: ratio to the speed of x", "0.99", "at least 1", "no"],
        ["training, z, decoder 8: ratio to the speed of x", "1.00", "at least 1", "yes"],
        ["padding in training, largest share of a variant", "4.0 %", "under 5 %", "yes"],
    ]
    assert (
        target_rows([*limits, *speeds, *({**line, "precision": "bf16-mixed", "value": 1} for line in speeds)], targets)[
            1:
        ]
        == rows
    )  # They are those of float32.
    # Times for each token are no speeds.
    times = [{"what": f"training, {name}, us/target token by tokens a sentence", "value": 1} for name in ("x", "z")]
    assert target_rows([*limits, *speeds, *times], targets)[1:] == rows
    speeds[1]["padding"] = 0.05
    assert target_rows(speeds, targets)[-1][1:] == ["5.0 %", "under 5 %", "no"]


def test_a_step_on_a_device_is_compared_with_other_ways() -> None:
    lines = [
        {"what": f"device, x, 2 sentences: {way}", "value": value, "unit": "target tokens/s"}
        for way, value in {"ours": 1.0, "plain loop": 4.0, "bare calls": 2.5}.items()
    ]
    lines += [{"what": "device, x, 2 sentences: ours over bare calls", "value": 0.4, "unit": "ratio"}]
    lines += [lines[0] | {"value": 1000.0}, {"what": "training, x", "value": 7.0, "unit": "target tokens/s"}]
    assert device_rows(lines, {"bare calls": 500, "a way without measurement": 2}) == [
        ["training step", "ours, target tokens/s", "ratio to bare calls", "ratio to plain loop"],
        ["x, 2 sentences", "1,000", "400.00 (2), missed", "250.00 (4)"],
    ]
    assert device_rows(lines[:-2], {"bare calls": 0.4})[1][2] == "0.40 (2), reached"
    assert device_rows(lines[-1:], {}) == [["training step", "ours, target tokens/s"]]


def test_trainings_on_a_gpu_are_compared_with_peers_on_the_same_gpu() -> None:
    lines = [
        {"what": f"training on a GPU, {name}", "value": speed, "seed": seed, "dev_loss": loss, "dev_bleu": 10.0 * seed}
        | {"device": "A"}
        for name in ("x", "y")
        # The last line repeats the first seed.
        for seed, speed, loss in ((1, 7.0, 2.0), (2, 80.0, 2.5), (3, 90.0, 4.5), (1, 40.0, 2.0))
    ]
    lines += [{"what": "training, x", "value": 1.0}, lines[0] | {"device": "B"}]
    peers = [
        Peer("slow", "training on a GPU, x", "A", [10.0], 8),
        Peer("quick", "training on a GPU, x", "A", [40, 41, 39, 40], 2.5),
    ]
    scores = ["80 (40 80 90)", "3.00 (2.00 2.50 4.50)", "20.0 (10.0 20.0 30.0)"]
    assert gpu_rows(lines, peers)[1:] == [
        ["training on a GPU, x", "A", *scores, "slow", "10", "8.00", "8 times", "yes"],
        ["training on a GPU, x", "A", *scores, "quick", "40", "2.00", "2.5 times", "no"],
        ["training on a GPU, y", "A", *scores, "", "", "", "", ""],
        ["training on a GPU, x", "B", "7 (7)", "2.00 (2.00)", "10.0 (10.0)", "", "", "", "", ""],
    ]
    assert len(gpu_rows([lines[-2]], peers)) == 1


def test_measurements_at_several_sizes_grow_by_an_exponent() -> None:
    lines = [
        {"what": "x, us by size", "unit": "us", "value": value, "size": size, "more_mb": memory}
        for size, value, memory in ((20, 1.0, 0), (10, 7.0, 5.0), (20, 28.0, 10.0), (1000, 70_000.0, -1.0))
    ]
    lines += [{"what": "y by size", "unit": "s", "value": 1.0, "size": 3, "own_mb": 6.4}]
    lines += [{"what": "training, z", "unit": "s", "value": 3.0, "work": 2}, {"what": "w", "unit": "s", "value": 3.0}]
    groups = by_size(lines)
    assert {name: [line["value"] for line in group] for name, group in groups.items()} == {
        "x, us by size": [7, 28, 70_000]
    }
    assert growth_rows(groups)[1:] == [["x, us by size", "10 20 1,000", "2.00", ""]]
    assert growth_rows({"x": groups["x, us by size"][:2]})[1:] == [["x", "10 20", "2.00", "1.00"]]
    assert other_rows(lines)[1:] == [
        ["x, us by size", "20", "28", "us", "10"],
        ["x, us by size", "10", "7", "us", "5"],
        ["x, us by size", "1,000", "7e+04", "us", "-1"],
        ["y by size", "3", "1", "s", "6"],
        ["w", "", "3", "s", ""],
    ]


def test_speeds_beside_others_have_a_column_an_activity() -> None:
    lines = [
        {"what": f"{CONTENDED}{activity}, {beside}", "unit": "share", "value": value, "all": [value / 2, value]}
        for activity, beside, value in (("x", "a, b", 1.0), ("x", "c", 0.5), ("y", "a, b", 0.25))
    ]
    assert contention_rows([*lines, {"what": "other", "unit": "s", "value": 1}]) == [
        ["of the speed of one thread alone", "x", "y"],
        ["a, b", "100 % (50 to 100)", "25 % (12 to 25)"],
        ["c", "50 % (25 to 50)", ""],
    ]
    assert len(other_rows(lines)) == 1


def test_precisions_are_compared_in_one_run() -> None:
    speeds = [
        {"what": f"{PRECISION}a: {precision}", "unit": "target tokens/s", "value": value, "threads": threads}
        for precision, threads, value in (
            *(("32-true", 2, 1000), ("bf16-mixed", 2, 1800)),
            *(("32-true", 1, 700), ("bf16-mixed", 1, 1400)),
        )
    ]
    ratio = {"what": f"{PRECISION}a: bf16-mixed over 32-true", "unit": "ratio", "processor": "P"}
    two, single = (
        {"threads": 2, "value": 1.75, "all": [1.8, 1.7]},
        {"threads": 1, "value": 2.0, "all": [1.9, 2.1]},
    )
    lines = [*speeds, ratio | two, ratio | single]
    rows = precision_rows(lines, {"a": 1.8, "b": 3})[1:]
    assert rows == [
        ["a", "2", "1,000", "1,800", "1.75 (1.70 to 1.80)", "at least 1.8", "no", "P"],
        ["a", "1", "700", "1,400", "2.00 (1.90 to 2.10)", "at least 1.8", "yes", "P"],
    ]
    assert precision_rows(lines, {})[1][5:7] == ["", ""]
    assert len(precision_rows([{"what": "training, a", "unit": "ratio"}], {})) == 1
    assert len(other_rows(lines)) == 1


def test_cells_are_compared_in_one_run() -> None:
    sizes = {"unit": "target tokens/s", "processor": "P"}
    lines = [
        {"what": f"{CELL}lstm", "value": 1000, "all": [1000], "parameters": 2000, "state_numbers": 16, **sizes},
        {"what": f"{CELL}x", "value": 500, "all": [500], "parameters": 1500, "state_numbers": 8, **sizes},
        {"what": f"{CELL}x over lstm", "value": 2.0, "all": [2.1, 2.0, 1.9], "unit": "ratio", "processor": "P"},
    ]
    assert cell_rows(lines)[1:] == [
        ["lstm", "16", "2,000", "1,000", "", "P"],
        ["x", "8", "1,500", "500", "2.00 (1.90 to 2.10)", "P"],
    ]
    assert len(cell_rows([])) == len(other_rows(lines)) == 1


def test_parts_of_steps_stand_side_by_side() -> None:
    values = {"a, 32-true: products": 0.5, "a, 32-true: fills": 0.1, "b, 32-true: products": 0.25}
    lines = [
        {"what": f"{PROFILE}{name}", "unit": "share", "value": value, "all": [value], "milliseconds": 12.3}
        for name, value in values.items()
    ]
    assert profile_rows(lines) == [
        ["part of a training step", "a, 32-true, 12 ms", "b, 32-true, 12 ms"],
        ["products", "50 % (50 to 50)", "25 % (25 to 25)"],
        ["fills", "10 % (10 to 10)", ""],
    ]
    assert len(profile_rows([])) == len(other_rows(lines)) == 1
