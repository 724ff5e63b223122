"""The interface of a corpus recipe: its options, and the sentence pairs of each split.

Shapes: S regions of a picture or frames of a recording, F numbers of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt

Split = Literal["train", "dev", "test"]
Side = Literal["source", "target"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# The column of a split with what is read in place of the source, where the recipe has features.
FEATURES = "features"
FeatureArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Pair(NamedTuple):
    """A sentence pair as it was read.

    Attributes:
        id: unique within the corpus.
        source: text of the source side.
        target: text of the target side.
        places: where each side was read, for messages: FILE:LINE.
        parts: the source and target of each part that the pair is joined from; none where it is a whole. The leak
            search looks at them, too.
        prefix: what the target continues, where the recipe has prefixes: the decoder reads it, and neither loss nor
            score counts it.
        alternatives: further references, as good as the target, where the recipe has them: scores count the closest.
        features: [S, F], what a model reads in place of the source, where the recipe has features. The source is then a
            name by which leaks are searched, and reports show it.
        length: what counts as the words of such a source.
    """

    id: str
    source: str
    target: str
    places: tuple[str, str]
    parts: tuple[tuple[str, str], ...] = ()
    prefix: str | None = None
    alternatives: tuple[str, ...] = ()
    features: FeatureArray | None = None
    length: int | None = None


class ItemNames(NamedTuple):
    """What the items of a corpus are called, where all of one size have the same information, which is known exactly.

    Attributes:
        size: what an item has more or less of: digits, shapes.
        drawn: what is drawn: a number, a scene.
        item: what the target is of it: a number, a caption.
    """

    size: str
    drawn: str
    item: str


class ItemTerms(NamedTuple):
    """What the general terms of tables and reports stand for, of a corpus whose items are no sentences of words.

    Attributes:
        sentence: what an item is.
        source_word: what the length of a source counts.
        target_word: what a word of the translation is.
        lengths: a heading for the lengths of sources.
    """

    sentence: str
    source_word: str
    target_word: str
    lengths: str = "source words"


@dataclass(frozen=True)
class Recipe(ABC):
    """The origin of a corpus's pairs; the fields are the keys of its config file.

    Attributes:
        source: language code of the source side.
        target: language code of the target side.
    """

    source: str
    target: str

    # As in conf/data.
    name: ClassVar[str]
    # Whether training pairs with a sentence of dev or test are dropped. Not for synthetic corpora, whose distribution
    # is known exactly and would change.
    removes_leaks: ClassVar[bool] = True
    # The sides whose sentences must not be in dev or test. Not the target, where different sources rightly have the
    # same: homophones, or commands with the same actions.
    leak_sides: ClassVar[tuple[Side, ...]] = ("source", "target")
    # Whether every pair has a prefix.
    has_prefixes: ClassVar[bool] = False
    # Whether pairs of dev and test may have further references.
    has_alternatives: ClassVar[bool] = False
    # Whether every pair has features, as wide as the recipe's field `feature_size`.
    has_features: ClassVar[bool] = False
    # What tables and reports mean by their general terms; None: sentences of words.
    terms: ClassVar[ItemTerms | None] = None

    @property
    def limit(self) -> int | None:
        """The maximum number of words on a side of a training pair; None: unlimited."""
        return None

    @property
    def joined(self) -> int:
        """The largest number of training pairs that are read as one sentence, drawn anew in each epoch.

        Dev and test are joined by `pairs`. A recipe with prefixes has 1.
        """
        return 1

    def taken(self) -> tuple[Split, ...]:
        """Return the splits that are taken from train, as the user has named none (corpora/held_out.py)."""
        return ()

    def inputs(self) -> Iterable[Path]:
        """Return the files that the pairs are read from: the corpus is built again when their bytes change."""
        return ()

    def made_of(self) -> dict[str, str]:
        """Return the version of each package that the pairs are taken from, for the record of a run."""
        return {}

    @abstractmethod
    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the pairs of a split, in a fixed order.

        Raises:
            UserError: an input is missing or malformed; the message names the file and the line.
        """


@dataclass(frozen=True)
class LimitedRecipe(Recipe):
    """A corpus whose long training pairs are dropped.

    Attributes:
        longest: the maximum number of words on a side of a training pair; dev and test keep all pairs.
    """

    longest: PositiveInt

    @property
    def limit(self) -> int | None:
        """See `Recipe.limit`."""
        return self.longest
