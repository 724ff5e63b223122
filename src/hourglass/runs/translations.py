"""Translations of the test split as a TSV file: id, source, reference, hypothesis."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hourglass.errors import UserError
from hourglass.system.files import write_whole


class Translation(NamedTuple):
    """A row of a file of translations; no field contains a tab or a line end."""

    id: str
    source: str
    reference: str
    hypothesis: str


def write_translations(file: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write rows of id, source, reference and hypothesis as TSV."""
    write_whole(file, "".join("\t".join(row) + "\n" for row in [Translation._fields, *rows]))


def read_translations(file: Path) -> list[Translation]:
    """Read the file that `write_translations` wrote.

    Raises:
        UserError: the file is missing or cut short, or a line does not have four fields.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    if lines[0].split("\t") != list(Translation._fields) or lines[-1]:
        raise UserError(f"{file}: not a whole file of translations (id, source, reference, hypothesis)")
    rows = [line.split("\t") for line in lines[1:-1]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(Translation._fields):
            raise UserError(f"{file}:{number}: {len(row)} fields instead of {len(Translation._fields)}")
    return [Translation(*row) for row in rows]
