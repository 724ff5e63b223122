"""Translations of the test split as a TSV file: id, source, reference, hypothesis, and further references if any."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hourglass.errors import UserError
from hourglass.system.files import write_whole


class Translation(NamedTuple):
    """A row of a file of translations; no field contains a tab or a line end.

    Attributes:
        id: of the sentence.
        source: its text.
        reference: the target of the corpus.
        hypothesis: the output.
        alternatives: further references, which are as good; in the file, as a JSON list.
    """

    id: str
    source: str
    reference: str
    hypothesis: str
    alternatives: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All references, that of the corpus first."""
        return (self.reference, *self.alternatives)


# Files in which no sentence has further references lack the last field.
_REQUIRED = Translation._fields[:-1]


def rows_of(split: Any, hypotheses: Sequence[str]) -> list[Translation]:
    """Return the translations of a split, or of some rows of one.

    Args:
        split: with the columns id, source, target, and alternatives where the corpus has them.
        hypotheses: the output of each row.
    """
    alternatives = split["alternatives"] if "alternatives" in split.column_names else [()] * len(hypotheses)
    columns = (split["id"], split["source"], split["target"], hypotheses, map(tuple, alternatives))
    return [Translation(*row) for row in zip(*columns, strict=True)]


def write_translations(file: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows of the fields of `Translation` as TSV; the last field only if a row has further references."""
    full = [Translation(*row) for row in rows]
    fields = Translation._fields if any(row.alternatives for row in full) else _REQUIRED
    lines = ["\t".join(fields)]
    for row in full:
        texts = [row.id, row.source, row.reference, row.hypothesis]
        if len(fields) > len(_REQUIRED):
            texts.append(json.dumps(row.alternatives, ensure_ascii=False))
        lines.append("\t".join(texts))
    write_whole(file, "".join(f"{line}\n" for line in lines))


def read_translations(file: Path) -> list[Translation]:
    """Read the file that `write_translations` wrote.

    Raises:
        UserError: the file is missing or cut short, a line does not have as many fields as the first, or its further
            references are no list of texts.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None
    fields = tuple(lines[0].split("\t"))
    if fields not in (_REQUIRED, Translation._fields) or lines[-1]:
        raise UserError(f"{file}: not a whole file of translations ({', '.join(_REQUIRED)})")
    rows = []
    for number, line in enumerate(lines[1:-1], 2):
        row = line.split("\t")
        if len(row) != len(fields):
            raise UserError(f"{file}:{number}: {len(row)} fields instead of {len(fields)}")
        name, source, reference, hypothesis, *further = row
        alternatives = _alternatives(further[0], f"{file}:{number}") if further else ()
        rows.append(Translation(name, source, reference, hypothesis, alternatives))
    return rows


def _alternatives(text: str, place: str) -> tuple[str, ...]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{place}: its further references are no JSON list of texts")
    return tuple(values)
