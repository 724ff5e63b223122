"""Corpora of the Hugging Face hub, or of a local folder of the same form."""

import functools
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.corpora.recipe import SPLITS, LimitedRecipe, Pair, Split
from hourglass.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hub(LimitedRecipe):
    """Any dataset with a column `translation` of the form {"de": ..., "en": ...}, from the hub or a local folder.

    Attributes:
        path: the dataset's name on the hub, or a folder.
        config: the name of its configuration; null where it has one only.
        revision: branch, tag or commit on the hub; null: its main branch, when it is first fetched.
        train: its name of the split, or a part of one as `datasets` writes it: train[:10000].
        dev: likewise.
        test: likewise.
    """

    path: str | None
    config: str | None
    revision: str | None
    train: str
    dev: str
    test: str

    def __post_init__(self) -> None:
        if self.path is None:
            raise UserError("data.path: not set; set data.path=NAME of a dataset on the hub, or a local folder of one")

    def inputs(self) -> list[Path]:
        """Return the files of a local folder."""
        return sorted(file for file in Path(str(self.path)).expanduser().rglob("*") if file.is_file())

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the rows of a split."""
        return read_rows(self._loaded[split], str(self.path), split, self.source, self.target, column="translation")

    @functools.cached_property
    def _loaded(self) -> dict[Split, Any]:
        mend = "see data.path, data.config, data.revision and the split names; data.path may be a local folder"
        return load_from_hub(str(self.path), self.config, self.revision, (self.train, self.dev, self.test), mend)


def load_from_hub(
    path: str, config: str | None, revision: str | None, splits: tuple[str, str, str], mend: str
) -> dict[Split, Any]:
    """Return train, dev and test of a dataset, memory-mapped.

    Args:
        path: name on the hub, or a local folder.
        config: name of its configuration.
        revision: branch, tag or commit.
        splits: its names of train, dev and test.
        mend: what to do if it cannot be loaded.

    Raises:
        UserError: it cannot be loaded, or the path is that of no dataset.
    """
    import datasets

    if path.isidentifier() and importlib.util.find_spec(f"datasets.packaged_modules.{path}"):
        # `datasets` would read the files of that format in the current folder; some, pickles among them, can run code.
        raise UserError(f"data.path={path}: names a file format, no dataset; if a folder is meant, write ./{path}")
    log.info("loading %s", path)
    # The hub's client tells of each of its attempts; the last failure is told below.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        loaded = datasets.load_dataset(path, config, revision=revision, split=list(splits))
    except Exception as error:  # the network, the hub, the files and their formats all have errors of their own
        general = isinstance(error, datasets.exceptions.DatasetGenerationError)
        cause = error.__cause__ if general and error.__cause__ else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be loaded ({reason}); {mend}") from error
    finally:
        client.setLevel(level)
    return dict(zip(SPLITS, loaded, strict=True))


def read_rows(rows: Any, path: str, split: Split, source: str, target: str, *, column: str | None) -> Iterator[Pair]:
    """Yield the pairs of a loaded split.

    Args:
        rows: a `datasets.Dataset`.
        path: its name, for messages.
        split: which split it is, for ids.
        source: key of the source side.
        target: key of the target side.
        column: the column that holds both sides under their keys; null: each side is a column of its own.

    Raises:
        UserError: the column or a key is missing, or what it holds is no text.
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
                    raise UserError(f"data.{option}={language}: {place} is no text")
                if "\0" in (sentence[language] or ""):
                    raise UserError(f"{place}: a NUL character: remove it")
            yield Pair(f"{split}-{number}", sentence[source] or "", sentence[target] or "", (place, place))
