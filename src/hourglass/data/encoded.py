"""Encoded corpora: token ids on disk, read by memory-mapping, and the padded batches made of them.

Shapes: B sentences of a batch, S source length, T target length.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hourglass.corpora.corpus import Corpus, prefixes_of
from hourglass.data.batches import NO_ROW, IntArray, Part, joined_lengths
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.tokenizer import Vocabularies
from hourglass.system.cache import fill_cache, reading

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A batch of sentences, padded on the right."""

    source: Tensor  # [B, S] ids, each row ending in end-of-sentence
    source_lengths: Tensor  # [B]
    target: Tensor  # [B, T+1] ids, from beginning-of-sentence to end-of-sentence
    rows: Tensor  # [B] row numbers in the split; of a joined sentence, of its first pair
    step_tokens: int  # target tokens of the whole global batch of this optimizer step, without prefixes
    prefix_lengths: Tensor | None = None  # [B] target tokens after the first that are given; None: the corpus has none

    def prefixes(self) -> list[list[int]] | None:
        """Return the ids of the prefix of each row, or None."""
        if self.prefix_lengths is None:
            return None
        lengths = self.prefix_lengths.tolist()
        return [row[1 : 1 + length] for row, length in zip(self.target.tolist(), lengths, strict=True)]


class EncodedSplit(Dataset[Batch]):
    """One split as token ids, memory-mapped from an Arrow file. Indexed by a `Part`, it returns that batch.

    Args:
        file: an Arrow stream of lists, source_ids and target_ids, and of numbers, prefix_lengths, where the corpus has
            prefixes.

    Attributes:
        source_ids: of each pair, without end-of-sentence.
        target_ids: of each pair, with the prefix, without beginning-of-sentence and end-of-sentence.
        source_lengths: [pairs] source tokens, with end-of-sentence.
        target_lengths: [pairs] target tokens, with the prefix and end-of-sentence.
        prefix_lengths: [pairs] target tokens that are given; None: the corpus has no prefixes.
    """

    def __init__(self, file: Path):
        self.file = file
        table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
        self.source_ids, self.target_ids = Lists(table["source_ids"]), Lists(table["target_ids"])
        self.source_lengths, self.target_lengths = self.source_ids.lengths() + 1, self.target_ids.lengths() + 1
        self.prefix_lengths: IntArray | None = None
        if "prefix_lengths" in table.column_names:
            self.prefix_lengths = table["prefix_lengths"].to_numpy()

    def __reduce__(self) -> tuple[type["EncodedSplit"], tuple[Path]]:
        """Pickle the file's path: another process maps the file itself."""
        return EncodedSplit, (self.file,)

    def __len__(self) -> int:
        return len(self.source_lengths)

    def loss_tokens(self, rows: IntArray) -> int:
        """Return the number of target tokens of these rows that the loss counts: all but their prefixes."""
        given = 0 if self.prefix_lengths is None else int(self.prefix_lengths[rows].sum())
        return int(self.target_lengths[rows].sum()) - given

    def __getitem__(self, part: Part) -> Batch:
        target = pad(list(self.target_ids.joined(part.rows)), first=[BOS], last=[EOS])
        if part.blank:
            target[:, 1:] = PAD
        source = list(self.source_ids.joined(part.rows))
        lengths = joined_lengths(self.source_lengths, part.rows).astype(np.int64)
        if part.nulled is not None:
            source = [ids[:0] if nulled else ids for ids, nulled in zip(source, part.nulled, strict=True)]
            lengths[part.nulled] = 1  # End-of-sentence alone.
        given = None
        if self.prefix_lengths is not None:
            given = torch.from_numpy(self.prefix_lengths[part.rows].astype(np.int64))
        return Batch(
            pad(source, last=[EOS]),
            torch.from_numpy(lengths),
            target,
            torch.from_numpy(part.rows if part.rows.ndim == 1 else part.rows[:, 0]),
            part.step_tokens,
            given,
        )


class Lists:
    """A column of lists, read in Arrow's memory without a copy: ten times as fast as rows of the table.

    Args:
        column: lists of integers, without nulls.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._values = [chunk.values.to_numpy() for chunk in column.chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._starts = np.cumsum([0, *map(len, column.chunks)])[:-1]  # The first row of each chunk.

    def lengths(self) -> IntArray:
        """Return the length of each list, [rows]."""
        return np.concatenate([np.empty(0, np.int32), *map(np.diff, self._offsets)])

    def rows(self, rows: IntArray) -> Iterator[IntArray]:
        """Yield the lists of these rows."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk, row in zip(chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True):
            first, end = self._offsets[chunk][row : row + 2]
            yield self._values[chunk][first:end]

    def joined(self, rows: IntArray) -> Iterator[IntArray]:
        """Yield the lists of sentences, each joined from those of its pairs; see `Part`."""
        if rows.ndim == 1:
            yield from self.rows(rows)
            return
        lists = self.rows(rows[rows != NO_ROW])
        for pairs in (rows != NO_ROW).sum(1).tolist():
            yield np.concatenate([next(lists) for _ in range(pairs)])


def pad(rows: Sequence[Sequence[int] | IntArray], *, first: Sequence[int] = (), last: Sequence[int] = ()) -> Tensor:
    """Return rows of ids as one tensor, padded on the right.

    Args:
        rows: B lists of ids.
        first: ids before each row.
        last: ids after each row.

    Returns:
        [B, longest], with `first` and `last`.
    """
    start, added = len(first), len(first) + len(last)
    padded = np.full((len(rows), added + max(map(len, rows))), PAD, dtype=np.int64)
    padded[:, :start] = first
    for row, ids in zip(padded, rows, strict=True):
        end = start + len(ids)
        row[start:end] = ids
        row[end : end + len(last)] = last
    return torch.from_numpy(padded)


def encode_corpus(corpus: Corpus, vocabularies: Vocabularies, cache: Path) -> dict[str, EncodedSplit]:
    """Encode all splits of a corpus, or take them from the cache; return them memory-mapped, by name.

    Args:
        corpus: the text.
        vocabularies: trained on its training split.
        cache: the cache folder; the encoded splits are in its folder encoded/KEY.

    Raises:
        UserError: the cache cannot be written or is damaged.
    """
    key = hashlib.sha256(f"3 {corpus.digest} {vocabularies.digest}".encode()).hexdigest()[:12]

    def write(folder: Path) -> None:
        log.info("encoding %s", corpus.facts["name"])
        for name, split in corpus.splits.items():
            _encode_split(split, vocabularies, folder / f"{name}.arrow")

    folder = fill_cache(cache, "encoded", key, write)
    with reading(folder):
        return {name: EncodedSplit(folder / f"{name}.arrow") for name in corpus.splits}


def _encode_split(split: "datasets.Dataset", vocabularies: Vocabularies, file: Path) -> None:
    """Write the ids of a split to an Arrow file, a thousand sentences at a time."""
    from datasets import Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    ids = Sequence(Value("int32"))
    columns = {"source_ids": ids, "target_ids": ids}
    if "prefix" in split.column_names:
        columns["prefix_lengths"] = Value("int32")
    with ArrowWriter(features=Features(columns), path=str(file)) as writer:
        for rows in split.iter(batch_size=1000):
            encoded: dict[str, list[Any]] = {
                "source_ids": vocabularies.source.encode(rows["source"]),
                "target_ids": vocabularies.target.encode(rows["target"]),
            }
            if (prefixes := prefixes_of(rows)) is not None:
                # Encoded apart from the target, as a search encodes it, which does not know the target.
                given = vocabularies.target.encode(prefixes)
                encoded["target_ids"] = [[*a, *b] for a, b in zip(given, encoded["target_ids"], strict=True)]
                encoded["prefix_lengths"] = list(map(len, given))
            writer.write_batch(encoded)
        writer.finalize()
