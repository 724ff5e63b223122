"""Made corpora: numbers in words, and copy and reverse of random symbols."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.corpora.recipe import SPLITS, Pair, Recipe, Split
from hourglass.errors import UserError


@dataclass(frozen=True)
class SyntheticRecipe(Recipe):
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
class Numbers(SyntheticRecipe):
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
        from num2words import num2words

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
        from num2words import CONVERTER_CLASSES, num2words

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
class Copy(SyntheticRecipe):
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
