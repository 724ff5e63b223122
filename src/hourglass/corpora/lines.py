"""Read sentence pairs from text files, with errors that name file and line."""

import codecs
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from hourglass.corpora.recipe import Pair, Split
from hourglass.errors import UserError


def find_files(path: str, option: str, source: str, target: str, *, tsv: bool) -> list[Path]:
    """Return the TSV file of this path, or the two files PATH.LANGUAGE, plain or .gz.

    Args:
        path: as the user has set it.
        option: the option that set it, for messages.
        source: language code of the source side.
        target: language code of the target side.
        tsv: whether a TSV file is accepted.

    Raises:
        UserError: the files do not exist; the message lists the names that were tried.
    """
    tried = [Path(path).expanduser()] if tsv else []
    if tsv and tried[0].is_file():
        return tried
    if source == target:
        raise UserError(f"{option}: no such file, and data.source and data.target are both {source}: name a TSV file")
    files = []
    for language in (source, target):
        names = [Path(f"{path}.{language}{ending}").expanduser() for ending in ("", ".gz")]
        tried += names
        files += [name for name in names if name.is_file()][:1]
    if len(files) < 2:
        raise UserError(f"{option}: no such file; tried {', '.join(map(str, tried))}")
    return files


def read_pairs(files: Sequence[Path], split: Split) -> Iterator[Pair]:
    """Yield the pairs of one TSV file, or of two files whose lines are aligned.

    Raises:
        UserError: a line is malformed (see `read_lines`) or does not have two columns, or the files differ in length.
    """
    if len(files) == 1:
        for number, line in enumerate(read_lines(files[0]), 1):
            place = f"{files[0]}:{number}"
            columns = line.split("\t")
            if len(columns) != 2:
                raise UserError(
                    f"{place}: {len(columns)} column{'s'[: len(columns) != 1]} instead of two: "
                    "write source, one tab, target"
                )
            yield Pair(f"{split}-{number}", columns[0], columns[1], (place, place))
        return
    lines = (read_lines(file) for file in files)
    for number, (source, target) in enumerate(itertools.zip_longest(*lines), 1):
        if source is None or target is None:
            counts = [sum(1 for _ in read_lines(file)) for file in files]
            raise UserError(
                f"{files[0]} has {counts[0]} lines and {files[1]} has {counts[1]}: line N of one must translate line N "
                "of the other"
            )
        yield Pair(f"{split}-{number}", source, target, (f"{files[0]}:{number}", f"{files[1]}:{number}"))


def read_lines(file: Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file, plain or .gz, without line ends and byte-order mark.

    Only \n and \r\n end a line. Unicode has other line ends, which may occur within a sentence; splitting there would
    misalign the rest of the file with its translation.

    Raises:
        UserError: the file is empty or cannot be read, or a line is not UTF-8 or contains a NUL character.
    """
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                yield decode_line(raw, str(file), number)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}:{number + 1}: cannot be read ({error})") from error
    if number == 0:
        raise UserError(f"{file}: the file is empty")


def decode_line(raw: bytes, file: str, number: int) -> str:
    """Return a line of a UTF-8 file without its line end, the first line without byte-order mark.

    Args:
        raw: the bytes of the line.
        file: name of the file, for messages.
        number: of the line, from 1.

    Raises:
        UserError: the line is not UTF-8 or contains a NUL character, or it is the whole file and has carriage returns
            alone for line ends.
    """
    place = f"{file}:{number}"
    raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: not UTF-8 (byte {error.start + 1} of the line): convert the file to UTF-8"
        ) from error
    if "\0" in line:
        raise UserError(f"{place}: a NUL character: remove it (or is the file UTF-16? convert it to UTF-8)")
    if number == 1 and not line.endswith("\n") and "\r" in line.rstrip("\r"):
        raise UserError(f"{place}: lines end in a carriage return alone: convert their ends to \\n")
    return line.removesuffix("\n").removesuffix("\r")
