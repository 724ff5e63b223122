"""Results as files: what is written is read again, and another layout ends in one line that names the remedy."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from hourglass.errors import UserError
from hourglass.system.records import read_record, write_record


class Pair(NamedTuple):
    at: int
    value: float


@dataclass(frozen=True)
class Inner:
    value: float | None


@dataclass(frozen=True)
class Outer:
    name: str
    inner: dict[int, Inner]
    bounds: tuple[int, int | None]
    curve: list[Pair]


RECORD = Outer("a", {2: Inner(0.1 + 0.2), 10: Inner(None)}, (1, None), [Pair(1, math.pi)])


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "record.json"
    write_record(file, RECORD, version=3)
    assert json.loads(file.read_text()) == {
        "schema_version": 3,
        "name": "a",
        "inner": {"2": {"value": 0.30000000000000004}, "10": {"value": None}},
        "bounds": [1, None],
        "curve": [[1, 3.141592653589793]],
    }
    assert read_record(file, Outer, 3, "make it") == RECORD


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"schema_version": 3', '"schema_version": 2', "schema_version is 2, and this version of Hourglass reads 3"),
        ('"schema_version": 3,', "", "schema_version is None, and this version of Hourglass reads 3"),
        ('"name": "a"', '"name": 7', "name: input should be a valid string"),
        ('"name": "a",', "", "name: field required"),
        ("3.14", '"3.14"', "curve.0.1: input should be a valid number"),
    ],
)
def test_another_layout_is_refused_with_the_command(before: str, after: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    write_record(file, RECORD, version=3)
    text = file.read_text().replace("3.141592653589793", "3.14")
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(UserError) as refused:
        read_record(file, Outer, 3, "dvc repro")
    assert str(refused.value) == f"{file}: {message}: run dvc repro"


@pytest.mark.parametrize("content", ["", '{"schema_version": 3, "na', "[3]"])
def test_a_damaged_or_missing_file_is_refused_with_the_command(content: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    with pytest.raises(UserError, match=r"record\.json: cannot be read \(No such file or directory\): run dvc repro$"):
        read_record(file, Outer, 3, "dvc repro")
    file.write_text(content)
    with pytest.raises(UserError, match=r"record\.json: .*: run dvc repro$"):
        read_record(file, Outer, 3, "dvc repro")
