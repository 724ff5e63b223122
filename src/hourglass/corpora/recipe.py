"""What a recipe of a corpus is: options, splits, and pairs of source and target."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import PositiveInt

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
class LimitedRecipe(Recipe):
    """A corpus of which long training pairs are left out.

    Attributes:
        longest: the most words a side of a training pair may have; dev and test are never cut.
    """

    longest: PositiveInt

    @property
    def limit(self) -> int | None:
        """The most words a side of a training pair may have."""
        return self.longest
