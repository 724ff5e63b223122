"""Curves of a run as CSV files: step, name, value, time."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hourglass.system.files import write_whole, writing


class Point(NamedTuple):
    """A row of curves.csv or system.csv.

    Attributes:
        step: optimizer steps, or for system.csv the number of the reading, from 0.
        name: of the curve.
        value: at that step.
        time: milliseconds since 1970; 0: unknown.
    """

    step: int
    name: str
    value: float
    time: int = 0


def read_curves(file: Path) -> list[tuple[int, str, float]]:
    """Return step, name and value of each row of a file of curves; a row cut short by a kill is left out."""
    return [point[:3] for point in read_points(file)]


def read_points(file: Path) -> list[Point]:
    """Return the rows of a file of curves, none if it does not exist; a row cut short by a kill is left out."""
    return parse_points(file.read_bytes()) if file.exists() else []


def parse_points(text: bytes) -> list[Point]:
    """Return the rows of complete lines: a last line without a line end may lack digits, and is left out."""
    points = []
    for row in csv.reader(text[: text.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()):
        try:
            points.append(Point(int(row[0]), row[1], float(row[2]), *map(int, row[3:4])))
        except (ValueError, IndexError):
            continue  # The header, or a row cut short by a kill.
    return points


def start_curves(file: Path, points: Iterable[Point] = ()) -> None:
    """Write a new file of curves with its first points."""
    write_whole(file, _lines([Point._fields, *points]))


def append_points(file: Path, points: Iterable[Point]) -> None:
    """Append points to a file of curves."""
    with writing(file), file.open("a", newline="", encoding="utf-8") as stream:
        stream.write(_lines(points))


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
