"""Read pairs of sentences from text files, line by line, with errors that name file and line."""

import codecs
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from hourglass.corpora.recipe import Pair, Split
from hourglass.errors import UserError


def find_files(path: str, option: str, source: str, target: str, *, tsv: bool) -> list[Path]:
    """Return the one TSV file called `path`, or the two files that the language codes complete, plain or .gz.

    Raises:
        UserError: there are none; the message lists what was tried.
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
        UserError: a line is malformed (see `read_lines`), has not two columns, or the files differ in length.
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
    r"""Yield the lines of a UTF-8 file, plain or .gz, without line ends; a byte-order mark is passed over.

    Lines end at \n or \r\n and at nothing else: the further line ends of Unicode may stand in a sentence, and splitting
    at them would put the rest of the file out of step with its translation.

    Raises:
        UserError: the file is empty or cannot be read, or a line is not UTF-8 or holds a NUL.
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
    """Return a line of a UTF-8 file without its end; on the first, a byte-order mark is passed over.

    Raises:
        UserError: the line is not UTF-8 or holds a NUL, or the first of them is all there is and ends of lines stand
            within it, as old Macs wrote them: one sentence of the whole file.
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
