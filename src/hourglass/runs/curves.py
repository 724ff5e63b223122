"""A run's curves as a file: step, name, value, time."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hourglass.system.files import write_whole, writing


class Point(NamedTuple):
    """A row of a curves.csv or system.csv."""

    step: int
    name: str
    value: float
    time: int = 0  # Milliseconds since 1970; 0: not known.


def read_curves(file: Path) -> list[tuple[int, str, float]]:
    """Return step, name and value of the rows of a curves.csv; one cut short by a kill is left out."""
    return [point[:3] for point in read_points(file)]


def read_points(file: Path) -> list[Point]:
    """Return the rows of a curves.csv; one cut short by a kill is left out."""
    return parse_points(file.read_bytes()) if file.exists() else []


def parse_points(text: bytes) -> list[Point]:
    """Return the rows of whole lines: a last line without its end may lack digits, and is left out."""
    points = []
    for row in csv.reader(text[: text.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()):
        try:
            points.append(Point(int(row[0]), row[1], float(row[2]), *map(int, row[3:4])))
        except (ValueError, IndexError):
            continue  # The heading, or a row that a kill has cut.
    return points


def start_curves(file: Path, points: Iterable[Point] = ()) -> None:
    """Write a curves.csv with the points that it begins with."""
    write_whole(file, _lines([Point._fields, *points]))


def append_points(file: Path, points: Iterable[Point]) -> None:
    """Add points to a curves.csv."""
    with writing(file), file.open("a", newline="", encoding="utf-8") as stream:
        stream.write(_lines(points))


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
