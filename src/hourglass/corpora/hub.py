"""Corpora of the Hugging Face hub, or of local folders with the same format."""

import functools
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hourglass.corpora.held_out import take
from hourglass.corpora.recipe import SPLITS, LimitedRecipe, Pair, Split
from hourglass.errors import UserError
from hourglass.system.bars import quiet_downloads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hub(LimitedRecipe):
    """Any dataset with a column `translation` of the form {"de": ..., "en": ...}, from the hub or a local folder.

    Attributes:
        path: name of the dataset on the hub, or a local folder.
        config: name of its configuration; None if it has only one.
        revision: branch, tag or commit on the hub; None: its main branch at the time of the first download.
        train: name of the split in the dataset, or a part of one as `datasets` writes it: train[:10000].
        dev: likewise; None: taken from train.
        test: likewise.
    """

    path: str | None
    config: str | None
    revision: str | None
    train: str
    dev: str | None
    test: str | None

    name: ClassVar = "hub"

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("data.path: not set; set data.path=NAME of a dataset on the hub, or a local folder of one")

    def inputs(self) -> list[Path]:
        """Return the files of a local folder."""
        return sorted(file for file in Path(str(self.path)).expanduser().rglob("*") if file.is_file())

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the rows of a split."""
        if taken := self.taken() if split in ("train", *self.taken()) else ():
            return take(lambda: self._read("train"), split, taken)
        return self._read(split)

    def taken(self) -> tuple[Split, ...]:
        """Return the splits that are not named."""
        return tuple(split for split in ("dev", "test") if getattr(self, split) is None)

    def _read(self, split: Split) -> Iterator[Pair]:
        return read_rows(self._loaded[split], str(self.path), split, self.source, self.target, column="translation")

    @functools.cached_property
    def _loaded(self) -> dict[Split, Any]:
        remedy = "see data.path, data.config, data.revision and the split names; data.path may be a local folder"
        names = (self.train, self.dev or self.train, self.test or self.train)
        return load_from_hub(str(self.path), self.config, self.revision, names, remedy)


def load_from_hub(
    path: str, config: str | None, revision: str | None, splits: tuple[str, str, str], remedy: str
) -> dict[Split, Any]:
    """Return train, dev and test of a dataset, memory-mapped.

    Args:
        path: name on the hub, or a local folder.
        config: name of its configuration.
        revision: branch, tag or commit.
        splits: its names of train, dev and test.
        remedy: what the user can do if the dataset cannot be loaded, for the message.

    Raises:
        UserError: the dataset cannot be loaded, or the path is not that of a dataset.
    """
    import datasets

    if path.isidentifier() and importlib.util.find_spec(f"datasets.packaged_modules.{path}"):
        # `datasets` would read files of this format in the current folder, and some formats, such as pickle, run code.
        raise UserError(f"data.path={path}: names a file format, not a dataset: for a folder write ./{path}")
    log.info("loading %s", path)
    # The hub's client logs each of its attempts. The last failure is reported below.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        with quiet_downloads():
            loaded = datasets.load_dataset(path, config, revision=revision, split=list(splits))
    except Exception as error:  # The network, the hub, the files and their formats each have errors of their own.
        general = isinstance(error, datasets.exceptions.DatasetGenerationError)
        cause = error.__cause__ if general and error.__cause__ else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be loaded ({reason}); {remedy}") from error
    finally:
        client.setLevel(level)
    return dict(zip(SPLITS, loaded, strict=True))


def read_rows(rows: Any, path: str, split: Split, source: str, target: str, *, column: str | None) -> Iterator[Pair]:
    """Yield the pairs of a loaded split.

    Args:
        rows: a `datasets.Dataset`.
        path: name of the dataset, for messages.
        split: name of the split, for ids.
        source: key of the source side.
        target: key of the target side.
        column: the column with both sides under their keys; None: each side is a column.

    Raises:
        UserError: the column or a key is missing, or a value is not text.
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
                    raise UserError(f"data.{option}={language}: {place} is not text")
                if "\0" in (sentence[language] or ""):
                    raise UserError(f"{place}: a NUL character: remove it")
            yield Pair(f"{split}-{number}", sentence[source] or "", sentence[target] or "", (place, place))
