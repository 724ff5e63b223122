"""bench.py contended: activities in processes of their own, beside others."""

import dataclasses
import json
import sys

import psutil
import pytest
from helpers import bench_settings

from hourglass.bench import contention
from hourglass.bench.contention import ACTIVITIES, CONTENTIONS, Contention, measure_contention
from hourglass.bench.measurements import CONTENDED
from hourglass.bench.settings import part_command
from hourglass.errors import UserError

SIZES = (
    "data.vocabulary_size=60",
    "encoder.hidden_size=8",
    "encoder.embedding_size=4",
    "decoder.embedding_size=4",
    "decoder.tie=none",
)
SMALL = (f"overrides=[{','.join(map(repr, SIZES))}]", "decoder_sizes=[4,8]", "seconds=0.001")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Return what is measured by condition, in two rounds: one thread alone takes 4 s and 1 s, all else 2 s and 1 s."""
    calls: dict[str, list[float]] = {}

    def measured(activity: str, kind: Contention) -> float:
        values = calls.setdefault(f"{activity}, {kind.name}", [])
        values.append([4.0, 1.0][len(values)] if kind is CONTENTIONS[0] else [2.0, 1.0][len(values)])
        return values[-1]

    monkeypatch.setattr(contention, "_run_beside_others", measured)
    return calls


def test_a_share_is_that_of_one_thread_in_the_same_round(
    seconds: dict[str, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    measure_contention(dataclasses.replace(bench_settings(), rounds=2))
    lines = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(lines) == len(ACTIVITIES) * len(CONTENTIONS) == len(seconds)
    assert lines[f"{CONTENDED}greedy, {CONTENTIONS[0].name}"]["all"] == [1, 1]
    other = lines[f"{CONTENDED}greedy, {CONTENTIONS[2].name}"]
    assert (other["value"], other["all"], other["milliseconds"]) == (1.5, [2, 1], [2000, 1000])


@pytest.mark.more
@pytest.mark.slow
def test_an_activity_is_measured_beside_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "contended", *SMALL])
    assert 0 < contention._run_beside_others("training", Contention("alone")) < 60
    assert 0 < contention._run_beside_others("greedy", Contention("two", threads=1, busy=1, jobs=2)) < 60
    assert not [child for child in psutil.Process().children() if contention.BUSY[2] in child.cmdline()]
    with pytest.raises(UserError, match=r"bench\.py activity nothing failed"):
        contention._run_beside_others("nothing", Contention("alone"))


def test_a_part_has_the_settings_of_the_command_but_those_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "command=contended", "threads=2", "seconds=3"])
    assert part_command("contended", "activity", "greedy")[2:] == ["activity", "greedy", "threads=2", "seconds=3"]
    assert part_command("contended", "activity", "greedy", "threads=1")[2:] == [
        *("activity", "greedy", "threads=1", "seconds=3")
    ]
