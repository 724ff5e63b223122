"""Encoded corpora: token ids on disk, read by memory-mapping, and the padded batches made of them.

Features are read where the corpus has them.

Shapes: B sentences of a batch, S source length, F numbers of a region, T target length.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hourglass.corpora.corpus import Corpus, prefixes_of
from hourglass.corpora.recipe import FEATURES
from hourglass.data.batches import IntArray, Part
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.sources import Lists, Source, has_features, is_features, positions_of
from hourglass.data.tokenizer import Vocabularies
from hourglass.system.cache import fill_cache, reading

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A batch of sentences, padded on the right."""

    source: Tensor  # [B, S] ids, each row ending in end-of-sentence; or features [B, S, F], padded with zeros
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
        features: Arrow streams with the column features, in place of source_ids; none for a corpus of texts.

    Attributes:
        has_features: whether sources are features.
        sources: of each pair: ids, without end-of-sentence, or features [S, F].
        target_ids: of each pair, with the prefix, without beginning-of-sentence and end-of-sentence.
        source_lengths: [pairs] source tokens, with end-of-sentence; or regions.
        target_lengths: [pairs] target tokens, with the prefix and end-of-sentence.
        prefix_lengths: [pairs] target tokens that are given; None: the corpus has no prefixes.
    """

    def __init__(self, file: Path, features: tuple[Path, ...] = ()):
        self.file, self.features = file, features
        table = _map(file)
        self.has_features = bool(features)
        self.sources = Lists(pa.concat_tables(map(_map, features))[FEATURES] if features else table["source_ids"])
        self.target_ids = Lists(table["target_ids"])
        self.source_lengths = self.sources.lengths() + (0 if self.has_features else 1)
        self.target_lengths = self.target_ids.lengths() + 1
        self.prefix_lengths: IntArray | None = None
        if "prefix_lengths" in table.column_names:
            self.prefix_lengths = table["prefix_lengths"].to_numpy()

    def __reduce__(self) -> tuple[type["EncodedSplit"], tuple[Path, tuple[Path, ...]]]:
        """Pickle the paths of the files: another process maps them itself."""
        return EncodedSplit, (self.file, self.features)

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
        source = list(self.sources.joined(part.rows))
        if part.nulled is not None:
            source = [each[:0] if nulled else each for each, nulled in zip(source, part.nulled, strict=True)]
        lengths = np.array(list(map(positions_of, source)))
        given = None
        if self.prefix_lengths is not None:
            given = torch.from_numpy(self.prefix_lengths[part.rows].astype(np.int64))
        return Batch(
            pad_sources(source),
            torch.from_numpy(lengths),
            target,
            torch.from_numpy(part.rows if part.rows.ndim == 1 else part.rows[:, 0]),
            part.step_tokens,
            given,
        )


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


def pad_sources(sources: Sequence[Source]) -> Tensor:
    """Return sources as one tensor, padded on the right.

    Args:
        sources: B lists of ids, without end-of-sentence, or B arrays of features [S_b, F].

    Returns:
        ids [B, S], each row ending in end-of-sentence; or features [B, S, F] in float32, padded with zeros.
    """
    if not is_features(sources[0]):
        return pad(sources, last=[EOS])  # type: ignore[arg-type]
    width = np.shape(sources[0])[1]
    padded = np.zeros((len(sources), max(map(positions_of, sources)), width), dtype=np.float32)
    for row, features in zip(padded, sources, strict=True):
        row[: len(features)] = features
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
        log.info("encoding %s", corpus.facts.name)
        for name, split in corpus.splits.items():
            _encode_split(split, vocabularies, folder / f"{name}.arrow")

    folder = fill_cache(cache, "encoded", key, write)
    with reading(folder):
        return {
            name: EncodedSplit(folder / f"{name}.arrow", _feature_files(split)) for name, split in corpus.splits.items()
        }


def _feature_files(split: "datasets.Dataset") -> tuple[Path, ...]:
    """Return the files in which the features of a split lie, in order; none for a split of texts."""
    return tuple(Path(file["filename"]) for file in split.cache_files) if has_features(split) else ()


def _map(file: Path) -> pa.Table:
    """Return the table of an Arrow stream, memory-mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


def _encode_split(split: "datasets.Dataset", vocabularies: Vocabularies, file: Path) -> None:
    """Write the ids of a split to an Arrow file, a thousand sentences at a time."""
    from datasets import Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    ids = Sequence(Value("int32"))
    columns = {"target_ids": ids} if has_features(split) else {"source_ids": ids, "target_ids": ids}
    if "prefix" in split.column_names:
        columns["prefix_lengths"] = Value("int32")
    split = split.select_columns([name for name in split.column_names if name != FEATURES])
    with ArrowWriter(features=Features(columns), path=str(file)) as writer:
        for rows in split.iter(batch_size=1000):
            encoded: dict[str, list[Any]] = {"target_ids": vocabularies.target.encode(rows["target"])}
            if "source_ids" in columns:
                encoded["source_ids"] = vocabularies.source.encode(rows["source"])
            if (prefixes := prefixes_of(rows)) is not None:
                # Encoded apart from the target, as a search encodes it, which does not know the target.
                given = vocabularies.target.encode(prefixes)
                encoded["target_ids"] = [[*a, *b] for a, b in zip(given, encoded["target_ids"], strict=True)]
                encoded["prefix_lengths"] = list(map(len, given))
            writer.write_batch(encoded)
        writer.finalize()
