"""What models read: the ids of a text's pieces, or the features of regions of a picture or of frames of a recording.

A source is either ids, without end-of-sentence, or features. What both have in common is here; what reads a source
below the layers of an encoder is in models/inputs.py.

Shapes: S regions or frames, F numbers of each.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hourglass.corpora.recipe import FEATURES, FeatureArray
from hourglass.data.batches import NO_ROW, IntArray
from hourglass.data.tokenizer import Vocabularies

# Ids without end-of-sentence, or [S, F].
Source = Sequence[int] | IntArray | FeatureArray
# Rows that are read from a split at once.
_ROWS_AT_ONCE = 64


class Lists:
    """A column of lists, read in Arrow's memory without a copy: ten times as fast as rows of the table.

    Args:
        column: lists without nulls, of integers, or of lists of F numbers.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._values = [_values_of(chunk) for chunk in column.chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._starts = np.cumsum([0, *map(len, column.chunks)])[:-1]  # The first row of each chunk.

    def lengths(self) -> IntArray:
        """Return the length of each list, [rows]."""
        return np.concatenate([np.empty(0, np.int32), *map(np.diff, self._offsets)])

    def rows(self, rows: IntArray) -> Iterator[np.ndarray]:
        """Yield the lists of these rows."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk, row in zip(chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True):
            first, end = self._offsets[chunk][row : row + 2]
            yield self._values[chunk][first:end]

    def joined(self, rows: IntArray) -> Iterator[np.ndarray]:
        """Yield the lists of sentences, each joined from those of its pairs; see `Part`."""
        if rows.ndim == 1:
            yield from self.rows(rows)
            return
        lists = self.rows(rows[rows != NO_ROW])
        for pairs in (rows != NO_ROW).sum(1).tolist():
            yield np.concatenate([next(lists) for _ in range(pairs)])


def _values_of(chunk: pa.ListArray) -> np.ndarray:
    """Return the values of all lists of a chunk, one after another: [values], or [values, F]."""
    values = chunk.values
    if isinstance(values, pa.FixedSizeListArray):
        width: int = values.type.list_size
        # `values.flatten()` would leave out what lies before the first list; the offsets count from there.
        numbers = values.values.to_numpy()[values.offset * width : (values.offset + len(values)) * width]
        return numbers.reshape(-1, width)
    array: np.ndarray = values.to_numpy()
    return array


def has_features(rows: Any) -> bool:
    """Return whether rows of a split have features in place of a text that is read."""
    return FEATURES in getattr(rows, "column_names", rows)


def sources_of(rows: Any) -> Iterable[str] | Iterable[FeatureArray]:
    """Return what a model reads of each row: its source, or its features, which are read as they are asked for.

    Args:
        rows: a split or some rows of one.
    """
    return _features_of(rows) if has_features(rows) else list(rows["source"])


def _features_of(rows: Any) -> Iterator[FeatureArray]:
    for table in rows.select_columns([FEATURES]).with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        yield from Lists(table[FEATURES]).rows(np.arange(len(table)))


def encode_sources(vocabularies: Vocabularies, sources: Iterable[str] | Iterable[FeatureArray]) -> list[Source]:
    """Return texts as ids, without end-of-sentence, and features as they are."""
    rows: list[Any] = list(sources)
    if rows and not isinstance(rows[0], str):
        return rows
    return list(vocabularies.source.encode(rows))


def positions_of(source: Source) -> int:
    """Return how many positions an encoder reads of a source: its pieces and end-of-sentence, or its regions.

    An empty source is end-of-sentence, or one region of zeros.
    """
    return max(1, len(source)) if is_features(source) else len(source) + 1


def is_features(source: Source) -> bool:
    """Return whether a source is features."""
    return isinstance(source, np.ndarray) and source.ndim == 2
