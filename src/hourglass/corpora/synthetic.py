"""Synthetic corpora, whose information is known exactly: numbers in words; copy and reverse of random symbols."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.corpora.recipe import SPLITS, ItemNames, Pair, Recipe, Split
from hourglass.errors import UserError


@dataclass(frozen=True)
class SyntheticRecipe(Recipe):
    """A corpus drawn from a seed, with as many items of each size (digits, symbols, entries).

    Attributes:
        train_pairs: pairs in train.
        dev_pairs: pairs in dev.
        test_pairs: pairs in test.
        seed: of the draws.
    """

    train_pairs: PositiveInt
    dev_pairs: PositiveInt
    test_pairs: PositiveInt
    seed: NonNegativeInt

    removes_leaks: ClassVar = False

    @property
    @abstractmethod
    def size_range(self) -> range:
        """All sizes."""

    def sizes(self, split: Split) -> Iterator[int]:
        """Return the size of each item of a split, in turn from the smallest to the largest."""
        pairs = {"train": self.train_pairs, "dev": self.dev_pairs, "test": self.test_pairs}[split]
        sizes = self.size_range
        return (sizes[index % len(sizes)] for index in range(pairs))

    def draws(self, split: Split) -> np.random.Generator:
        """Return the random numbers of a split: each split has its own stream, whatever the sizes of the others."""
        streams = np.random.SeedSequence(self.seed).spawn(len(SPLITS))
        return np.random.default_rng(streams[SPLITS.index(split)])


@dataclass(frozen=True)
class SizedRecipe(SyntheticRecipe):
    """A synthetic corpus whose items have a length.

    Attributes:
        shortest: the smallest size.
        longest: the largest size.
    """

    shortest: PositiveInt
    longest: PositiveInt

    # None: of this corpus reports show no information by size. A recipe that has names has `size_bits`, and the size of
    # an item in its id, SPLIT-kSIZE-NUMBER.
    item_names: ClassVar[ItemNames | None] = None

    @staticmethod
    def size_bits(size: int) -> float:
        """Return the information in an item, in bits, given its size."""
        raise NotImplementedError

    @classmethod
    def item_bits(cls, size: int, shortest: int, longest: int) -> float:
        """Return the information in an item, in bits: all sizes are equally likely, and so are all items of a size.

        Args:
            size: of this item.
            shortest: the smallest size in the corpus.
            longest: the largest.
        """
        return math.log2(longest - shortest + 1) + cls.size_bits(size)

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise UserError(f"data.shortest={self.shortest} is more than data.longest={self.longest}: lower it")

    @property
    def size_range(self) -> range:
        """See `SyntheticRecipe.size_range`."""
        return range(self.shortest, self.longest + 1)


@dataclass(frozen=True)
class ChannelRecipe(SyntheticRecipe):
    """A synthetic corpus by which the bits that come through a neck can be bounded from below.

    Attributes:
        calibrated: for a run whose bits must be a lower bound (see analysis/channel.py): refuse all settings by which
            they would not be one.
    """

    calibrated: bool = field(default=False, kw_only=True)

    @property
    @abstractmethod
    def all_symbols(self) -> int:
        """How many different words the corpus has."""

    @property
    @abstractmethod
    def train_tokens(self) -> int:
        """Target tokens of train that the loss counts, with end-of-sentence."""


@dataclass(frozen=True)
class Numbers(SizedRecipe):
    """Numbers written out in two languages; a number of k digits carries exactly log2(9 * 10^(k-1)) bits.

    No number occurs twice, within a split or between splits.
    """

    longest: Annotated[int, Field(ge=1, le=18)]  # A 64-bit integer holds 18 digits.

    name: ClassVar = "numbers"
    item_names: ClassVar = ItemNames("digits", "number", "number")

    @staticmethod
    def size_bits(size: int) -> float:
        """See `SizedRecipe.size_bits`: there are 9 * 10^(k-1) numbers of k digits."""
        return math.log2(9) + (size - 1) * math.log2(10)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_languages()
        needed = sum(next(self._count_by_size(split)) for split in SPLITS)
        existing = 9 * 10 ** (self.shortest - 1)
        if needed > existing:
            raise UserError(
                f"data.shortest={self.shortest}: the splits need {needed} different numbers of this many digits "
                f"and there are {existing}: raise data.shortest or lower data.train_pairs"
            )

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield numbers of k digits, each k as often, drawn uniformly without replacement."""
        from num2words import num2words

        random = np.random.default_rng(self.seed)
        drawn: set[int] = set()
        # Test and dev are drawn first, so that their content does not depend on train_pairs.
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
        """Return how many numbers of each size a split has, from the smallest size on."""
        sizes = list(self.sizes(split))
        return (sizes.count(size) for size in range(self.shortest, self.longest + 1))

    def _check_languages(self) -> None:
        """Refuse a language that cannot write every number, or writes two alike: the information would be unknown."""
        from num2words import CONVERTER_CLASSES, num2words

        # Round numbers: the languages of num2words that confuse numbers confuse these.
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
                except Exception as error:  # Each language of num2words has errors of its own.
                    raise UserError(f"data.{option}={language}: num2words cannot write {number} in it") from error
                if (other := written.setdefault(words, number)) != number:
                    raise UserError(
                        f"data.{option}={language}: num2words writes {other} and {number} alike in it; choose another"
                    )


# How many sequences must exist for each that is drawn, so that a calibrated channel sees almost none twice.
UNSEEN = 1000


@dataclass(frozen=True)
class Copy(SizedRecipe, ChannelRecipe):
    """Sequences of symbols, drawn uniformly and independently, to repeat: L symbols carry L * log2(symbols) bits.

    Attributes:
        symbols: number of different symbols: s0, s1, ...
    """

    symbols: Annotated[int, Field(ge=2)]

    name: ClassVar = "copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        samples, existing = self.train_pairs + self.dev_pairs + self.test_pairs, self.symbols**self.shortest
        if self.calibrated and existing < UNSEEN * samples:
            raise UserError(
                f"data.calibrated=true: there are {existing:,} sequences of data.shortest={self.shortest} symbols, "
                f"fewer than {UNSEEN:,} for each of the {samples:,} pairs, so that the model could memorise some: "
                "raise data.shortest or data.symbols"
            )

    @property
    def all_symbols(self) -> int:
        """See `ChannelRecipe.all_symbols`."""
        return self.symbols

    @property
    def train_tokens(self) -> int:
        """See `ChannelRecipe.train_tokens`."""
        return sum(size + 1 for size in self.sizes("train"))

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield random sequences with their targets; each split has its own stream of random numbers."""
        random = self.draws(split)
        for index, length in enumerate(self.sizes(split)):
            words = [f"s{symbol}" for symbol in random.integers(self.symbols, size=length)]
            name = f"{split}-{index}"
            yield Pair(name, " ".join(words), " ".join(self.target_of(words)), (name, name))

    @staticmethod
    def target_of(words: list[str]) -> list[str]:
        """Return the target of a source."""
        return words


@dataclass(frozen=True)
class Reverse(Copy):
    """The same sequences, to reverse."""

    name: ClassVar = "reverse"

    @staticmethod
    def target_of(words: list[str]) -> list[str]:
        """Return the target of a source."""
        return words[::-1]
