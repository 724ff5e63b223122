"""Synthetic corpora that ask about one part of the source, and only after it: recall, phone book, n-gram lookup.

The source is read before the query is known: the query is the prefix of the target, which the decoder is given. So what
is needed for an answer to any query must be in what the encoder hands on.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from hourglass.corpora.recipe import Pair, Split
from hourglass.corpora.synthetic import UNSEEN, ChannelRecipe, SizedRecipe
from hourglass.errors import UserError


@dataclass(frozen=True)
class AssociativeRecipe(ChannelRecipe):
    """N entries of a key and a value; the query is the key of one entry, drawn evenly, and the answer is its value.

    The keys of an item are distinct. Values are drawn evenly and independently of each other and of the keys.

    Attributes:
        fewest: the smallest N.
        most: the largest N.
    """

    fewest: PositiveInt
    most: PositiveInt

    has_prefixes: ClassVar = True
    # Words of a key. That of a value is `value_words`.
    key_words: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.fewest > self.most:
            raise UserError(f"data.fewest={self.fewest} is more than data.most={self.most}: lower it")
        if self.most > self.key_count:
            raise UserError(
                f"data.most={self.most} entries need as many different keys, and there are {self.key_count} "
                f"({self.key_options}): lower data.most or raise {self.key_options}"
            )
        samples = self.train_pairs + self.dev_pairs + self.test_pairs
        existing = math.perm(self.key_count, self.fewest) * self.value_count**self.fewest
        if self.calibrated and existing < UNSEEN * samples:
            raise UserError(
                f"data.calibrated=true: there are {existing:,} sources of data.fewest={self.fewest} entries, fewer "
                f"than {UNSEEN:,} for each of the {samples:,} pairs, so that the model could memorise some: raise "
                "data.fewest"
            )

    @property
    @abstractmethod
    def key_count(self) -> int:
        """How many different keys there are."""

    @property
    @abstractmethod
    def key_options(self) -> str:
        """The options that `key_count` depends on, for messages."""

    @property
    @abstractmethod
    def value_words(self) -> int:
        """Words of a value."""

    @property
    @abstractmethod
    def alphabet(self) -> list[str]:
        """The words of which each word of a value is drawn evenly."""

    @abstractmethod
    def key(self, number: int) -> str:
        """Return the key of a number from 0."""

    @property
    def value_count(self) -> int:
        """How many different values there are."""
        return len(self.alphabet) ** self.value_words

    @property
    def value_bits(self) -> float:
        """Information in a value."""
        return self.value_words * math.log2(len(self.alphabet))

    @property
    def size_range(self) -> range:
        """See `SyntheticRecipe.size_range`."""
        return range(self.fewest, self.most + 1)

    @property
    def train_tokens(self) -> int:
        """See `ChannelRecipe.train_tokens`."""
        return self.train_pairs * (self.value_words + 1)

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield random entries, with a query and its answer."""
        random, alphabet = self.draws(split), self.alphabet
        for index, entries in enumerate(self.sizes(split)):
            keys = [self.key(int(number)) for number in random.choice(self.key_count, size=entries, replace=False)]
            words = random.integers(len(alphabet), size=(entries, self.value_words)).tolist()
            values = [" ".join(alphabet[word] for word in row) for row in words]
            asked, name = int(random.integers(entries)), f"{split}-{index}"
            source = " ".join(self.entry(key, value) for key, value in zip(keys, values, strict=True))
            yield Pair(name, source, values[asked], (name, name), prefix=keys[asked])

    def entry(self, key: str, value: str) -> str:
        """Return an entry of the source."""
        return f"{key} {value}"

    def source_keys(self, source: str) -> list[str]:
        """Return the keys of the entries of a source."""
        words, size = source.split(), self.key_words + self.value_words
        return [" ".join(words[first : first + self.key_words]) for first in range(0, len(words), size)]

    def place(self, source: str, query: str) -> tuple[int, int]:
        """Return the number of entries of a source, and which of them, from 0, a query asks for."""
        keys = self.source_keys(source)
        return len(keys), keys.index(query)


@dataclass(frozen=True)
class Recall(AssociativeRecipe):
    """Associative recall (Arora et al. 2023, "Zoology", with the query after the neck): keys and values of one word.

    Attributes:
        keys: K, number of different keys: k0, k1, ...
        values: V, number of different values: v0, v1, ...
        entry_words: of an entry of the source: 2 (k0 v1), or 1 (k0v1), so that a single layer whose state is a sum over
            words, such as linear attention, sees a key and its value at once.
    """

    keys: PositiveInt
    values: Annotated[int, Field(ge=2)]
    entry_words: Literal[1, 2]

    name: ClassVar = "recall"
    key_options: ClassVar = "data.keys"
    value_words: ClassVar = 1

    @property
    def key_count(self) -> int:
        """See `AssociativeRecipe.key_count`."""
        return self.keys

    @property
    def alphabet(self) -> list[str]:
        """See `AssociativeRecipe.alphabet`."""
        return [f"v{number}" for number in range(self.values)]

    @property
    def all_symbols(self) -> int:
        """See `ChannelRecipe.all_symbols`."""
        return self.keys + self.values + (self.keys * self.values if self.entry_words == 1 else 0)

    def key(self, number: int) -> str:
        """See `AssociativeRecipe.key`."""
        return f"k{number}"

    def entry(self, key: str, value: str) -> str:
        """See `AssociativeRecipe.entry`."""
        return f"{key}{value}" if self.entry_words == 1 else super().entry(key, value)

    def source_keys(self, source: str) -> list[str]:
        """See `AssociativeRecipe.source_keys`."""
        if self.entry_words == 1:
            return [word.partition("v")[0] for word in source.split()]
        return super().source_keys(source)


@dataclass(frozen=True)
class PhoneBook(AssociativeRecipe):
    """A phone book (Jelassi et al. 2024, "Repeat After Me"): names of two words, numbers of several digits.

    Attributes:
        first_names: number of different first names: f0, f1, ...
        last_names: number of different last names: l0, l1, ...
        digits: of a number.
    """

    first_names: PositiveInt
    last_names: PositiveInt
    digits: PositiveInt

    name: ClassVar = "phone_book"
    key_options: ClassVar = "data.first_names or data.last_names"
    key_words: ClassVar = 2

    @property
    def key_count(self) -> int:
        """See `AssociativeRecipe.key_count`."""
        return self.first_names * self.last_names

    @property
    def value_words(self) -> int:
        """See `AssociativeRecipe.value_words`."""
        return self.digits

    @property
    def alphabet(self) -> list[str]:
        """See `AssociativeRecipe.alphabet`."""
        return [str(digit) for digit in range(10)]

    @property
    def all_symbols(self) -> int:
        """See `ChannelRecipe.all_symbols`."""
        return self.first_names + self.last_names + 10

    def key(self, number: int) -> str:
        """See `AssociativeRecipe.key`."""
        return f"f{number // self.last_names} l{number % self.last_names}"


@dataclass(frozen=True)
class NgramLookup(SizedRecipe):
    """n-gram lookup (Jelassi et al. 2024): symbols at random; the query is n of them in a row, the answer the next one.

    The n symbols occur in the source once, so that there is one answer. A source in which all such sequences occur
    again is drawn anew.

    Attributes:
        symbols: number of different symbols: s0, s1, ...
        n: symbols of a query.
    """

    symbols: Annotated[int, Field(ge=2)]
    n: PositiveInt

    name: ClassVar = "ngram_lookup"
    has_prefixes: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortest <= self.n:
            raise UserError(
                f"data.shortest={self.shortest}: no symbol follows data.n={self.n} others: set "
                f"data.shortest={self.n + 1} or more"
            )
        if self.symbols**self.n < self.longest:
            raise UserError(
                f"data.longest={self.longest}: there are {self.symbols**self.n} sequences of data.n={self.n} symbols, "
                "too few for one that occurs only once: lower data.longest, or raise data.symbols or data.n"
            )

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield random sequences, with a query and its answer."""
        random, n = self.draws(split), self.n
        for index, length in enumerate(self.sizes(split)):
            places: list[int] = []
            while not places:
                words = [f"s{symbol}" for symbol in random.integers(self.symbols, size=length)]
                grams = [tuple(words[first : first + n]) for first in range(length - n + 1)]
                places = [first for first, gram in enumerate(grams[:-1]) if grams.count(gram) == 1]
            at, name = places[int(random.integers(len(places)))], f"{split}-{index}"
            yield Pair(name, " ".join(words), words[at + n], (name, name), prefix=" ".join(words[at : at + n]))
