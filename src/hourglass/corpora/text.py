"""Corpora in text files: one TSV file, or two aligned files, for each split."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from hourglass.corpora.held_out import take
from hourglass.corpora.hub import load_from_hub, read_rows
from hourglass.corpora.joining import join_pairs
from hourglass.corpora.lines import find_files, read_pairs
from hourglass.corpora.recipe import SPLITS, LimitedRecipe, Pair, Split
from hourglass.errors import UserError


@dataclass(frozen=True)
class Text(LimitedRecipe):
    """The user's own text files.

    Attributes:
        train: a TSV file (source, tab, target), or the path of two aligned files without the language codes:
            data.train=corpus/train stands for corpus/train.de and corpus/train.en.
        dev: likewise; None: taken from train.
        test: likewise.
    """

    train: str | None
    dev: str | None
    test: str | None

    name: ClassVar = "text"

    def inputs(self) -> list[Path]:
        """Return the files of all splits."""
        return [file for split in SPLITS if split not in self.taken() for file in self._files(split)]

    def taken(self) -> tuple[Split, ...]:
        """Return the splits without a file."""
        return tuple(split for split in ("dev", "test") if getattr(self, split) is None)

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the lines of a split."""
        if taken := self.taken() if split in ("train", *self.taken()) else ():
            return take(lambda: read_pairs(self._files("train"), "train"), split, taken)
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
class Multi30k(LimitedRecipe):
    """Image descriptions (Elliott et al. 2016, 2017), task 1.

    Attributes:
        folder: folder of the raw files (train.de.gz, train.en.gz, val..., test_...); None: load from the hub.
        test: the test set, or several to concatenate; the hub has only that of 2016.
        captions: the largest number of descriptions in a sentence. In train, 1 to so many are drawn anew in each
            epoch. Those of dev, and of test, are cut into such groups once, which have none in common.
    """

    folder: str | None
    test: Multi30kTest | Annotated[list[Multi30kTest], Field(min_length=1)]
    # Runs of earlier versions lack it.
    captions: PositiveInt = 1

    name: ClassVar = "multi30k"
    HUB: ClassVar = "bentrevett/multi30k"

    def __post_init__(self) -> None:
        if self.folder is None and self.test != "test_2016_flickr":
            raise UserError(f"data.test={self.test}: the hub does not have it: set data.folder=PATH with the raw files")
        if isinstance(self.test, list) and len(set(self.test)) < len(self.test):
            raise UserError(f"data.test={self.test}: a test set is given twice")

    def inputs(self) -> list[Path]:
        """Return the files of all splits."""
        if self.folder is None:
            return []
        return [
            file for split in SPLITS for name in self._names(split) for file in self._files(name, folder=self.folder)
        ]

    @property
    def joined(self) -> int:
        """See `Recipe.joined`."""
        return self.captions

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the descriptions of train, and those of dev or test in groups of 1 to `captions`.

        With several test sets, the ids start with their names.
        """
        pairs = self._descriptions(split)
        return pairs if split == "train" or self.captions == 1 else join_pairs(list(pairs), self.captions, split)

    def _descriptions(self, split: Split) -> Iterator[Pair]:
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
        remedy = "set data.folder=PATH with the raw files (train.de.gz, train.en.gz, ...)"
        return load_from_hub(self.HUB, None, None, ("train", "validation", "test"), remedy)
