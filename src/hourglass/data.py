"""From a corpus to batches: token ids on disk, batches by a budget of tokens, the training stream.

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
from torch.utils.data import Dataset, Sampler

from hourglass.cache import fill, reading
from hourglass.corpus import Corpus
from hourglass.tokenizer import BOS, EOS, PAD, Vocabularies

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]


class Batch(NamedTuple):
    """Sentences of similar length, padded on the right."""

    source: Tensor  # [B, S] ids, each row ending in end-of-sentence
    source_lengths: Tensor  # [B]
    target: Tensor  # [B, T+1] ids, from beginning-of-sentence to end-of-sentence
    rows: Tensor  # [B] row numbers in the split
    step_tokens: int  # target tokens of the whole global batch of this optimizer step


class Part(NamedTuple):
    """What one rank reads at once: its share of a global batch."""

    rows: IntArray  # row numbers in the split
    step_tokens: int  # target tokens of the whole global batch
    blank: bool = False  # a stand-in for a rank that the global batch had no sentence for: adds nothing to the loss


class EncodedSplit(Dataset[Batch]):
    """One split as token ids, memory-mapped from an Arrow file. Indexed by a `Part`, it returns that batch.

    Args:
        file: an Arrow stream of lists, source_ids and target_ids.

    Attributes:
        source_ids: of each pair, without end-of-sentence.
        target_ids: likewise, without beginning-of-sentence either.
        source_lengths: [pairs] source tokens, with end-of-sentence.
        target_lengths: [pairs] target tokens, with end-of-sentence.
    """

    def __init__(self, file: Path):
        self.file = file
        table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
        self.source_ids, self.target_ids = Lists(table["source_ids"]), Lists(table["target_ids"])
        self.source_lengths, self.target_lengths = self.source_ids.lengths() + 1, self.target_ids.lengths() + 1

    def __reduce__(self) -> tuple[type["EncodedSplit"], tuple[Path]]:
        """Go to another process as the file that it maps, too."""
        return EncodedSplit, (self.file,)

    def __len__(self) -> int:
        return len(self.source_lengths)

    def __getitem__(self, part: Part) -> Batch:
        target = pad(list(self.target_ids.rows(part.rows)), first=[BOS], last=[EOS])
        if part.blank:
            target[:, 1:] = PAD
        return Batch(
            pad(list(self.source_ids.rows(part.rows)), last=[EOS]),
            torch.from_numpy(self.source_lengths[part.rows].astype(np.int64)),
            target,
            torch.from_numpy(part.rows),
            part.step_tokens,
        )


class Lists:
    """A column of lists in Arrow's memory, which is not copied: ten times as fast to read as rows of the table.

    Args:
        column: of integers, none of them null.
    """

    def __init__(self, column: pa.ChunkedArray):
        self._values = [chunk.values.to_numpy() for chunk in column.chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._starts = np.cumsum([0, *map(len, column.chunks)])[:-1]  # The first row of each chunk.

    def lengths(self) -> IntArray:
        """Return how long each list is [rows]."""
        return np.concatenate([np.empty(0, np.int32), *map(np.diff, self._offsets)])

    def rows(self, rows: IntArray) -> Iterator[IntArray]:
        """Yield the lists of these rows."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk, row in zip(chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True):
            first, end = self._offsets[chunk][row : row + 2]
            yield self._values[chunk][first:end]


def pad(rows: Sequence[Sequence[int] | IntArray], *, first: Sequence[int] = (), last: Sequence[int] = ()) -> Tensor:
    """Return the rows of ids as one tensor [B, longest], each between `first` and `last`, padded on the right."""
    start, more = len(first), len(first) + len(last)
    padded = np.full((len(rows), more + max(map(len, rows))), PAD, dtype=np.int64)
    padded[:, :start] = first
    for row, ids in zip(padded, rows, strict=True):
        end = start + len(ids)
        row[start:end] = ids
        row[end : end + len(last)] = last
    return torch.from_numpy(padded)


def encode_corpus(corpus: Corpus, vocabularies: Vocabularies, cache: Path) -> dict[str, EncodedSplit]:
    """Encode all splits once for this corpus and tokenizer, and memory-map the result.

    Args:
        corpus: the text.
        vocabularies: trained on its training split.
        cache: the cache folder; the encoded splits lie in encoded/KEY below it.

    Raises:
        UserError: the cache cannot be written or is damaged.
    """
    key = hashlib.sha256(f"3 {corpus.digest} {vocabularies.digest}".encode()).hexdigest()[:12]

    def write(folder: Path) -> None:
        log.info("encoding %s", corpus.facts["name"])
        for name, split in corpus.splits.items():
            _encode_split(split, vocabularies, folder / f"{name}.arrow")

    folder = fill(cache, "encoded", key, write)
    with reading(folder):
        return {name: EncodedSplit(folder / f"{name}.arrow") for name in corpus.splits}


def _encode_split(split: "datasets.Dataset", vocabularies: Vocabularies, file: Path) -> None:
    """Write the ids of a split to an Arrow file, some thousand sentences at a time."""
    from datasets import Features, Sequence, Value  # noqa: PLC0415 (a second to import)
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    ids = Sequence(Value("int32"))
    with ArrowWriter(features=Features(source_ids=ids, target_ids=ids), path=str(file)) as writer:
        for rows in split.iter(batch_size=1000):
            source = vocabularies.source.encode(rows["source"])
            target = vocabularies.target.encode(rows["target"])
            writer.write_batch({"source_ids": source, "target_ids": target})
        writer.finalize()


def cut(order: IntArray, source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> list[IntArray]:
    """Cut rows, in the order given, into batches of at most `batch_tokens` padded tokens on the longer side.

    A sentence that is longer than the budget makes a batch of its own.
    """
    longer: list[int] = np.maximum(source_lengths, target_lengths)[order].tolist()  # Twice as fast to go through.
    batches, first, longest = [], 0, 0
    for position, length in enumerate(longer):
        longest = max(longest, length)
        if longest * (position + 1 - first) > batch_tokens and position > first:
            batches.append(order[first:position])
            first, longest = position, length
    batches.append(order[first:])
    return batches


def in_order(source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> list[IntArray]:
    """Return batches of a dev or test split, sentences of similar length together, the longest last."""
    return cut(np.lexsort((target_lengths, source_lengths)), source_lengths, target_lengths, batch_tokens)


class TrainingStream:
    """All global batches of a training run, a function of lengths, budget and seed and nothing else.

    Each epoch orders the sentences by length, equal lengths at random, cuts global batches of `batch_tokens`
    and shuffles them; the run ends with the step that brings the target tokens to `target_tokens`, rounded to a
    multiple of `validations` steps so that the last validation falls on the last step.
    A global batch is one optimizer step. It is dealt out evenly to `ranks * accumulate` parts, so that the
    weights after a step do not depend on how many processes share it (but for dropout, which each draws itself).

    Args:
        source_lengths: [pairs], in tokens.
        target_lengths: [pairs], in tokens.
        batch_tokens: padded tokens of a global batch on its longer side.
        target_tokens: the budget of the run, target tokens with end-of-sentence.
        validations: how many times the run stops to validate.
        seed: of the order.
    """

    def __init__(
        self,
        source_lengths: IntArray,
        target_lengths: IntArray,
        *,
        batch_tokens: int,
        target_tokens: int,
        validations: int,
        seed: int,
    ):
        self.source_lengths, self.target_lengths = source_lengths, target_lengths
        self.batch_tokens, self.seed = batch_tokens, seed
        self._last: tuple[int, list[IntArray]] | None = None
        steps, positions, real = self._measure(target_tokens)
        self.steps = max(1, round(steps / validations)) * validations
        self.validate_every = self.steps // validations
        self.padding_share = 1 - real / positions

    def _measure(self, budget: int) -> tuple[int, int, int]:
        """Count the steps to the budget, their positions and real tokens, source and target together."""
        steps = tokens = positions = real = 0
        epoch = 0
        while tokens < budget:
            for batch in self.epoch(epoch):
                source, target = self.source_lengths[batch], self.target_lengths[batch]
                positions += len(batch) * int(source.max() + target.max())
                real += int(source.sum() + target.sum())
                tokens += int(target.sum())
                steps += 1
                if tokens >= budget:
                    break
            epoch += 1
        return steps, positions, real

    def epoch(self, number: int) -> list[IntArray]:
        """Return the global batches of one epoch, each the rows of the split; the last epoch asked for is remembered.

        The first one is wanted twice, to count and to read, and takes seconds where there are millions of pairs.
        """
        if self._last is None or self._last[0] != number:
            self._last = number, self._order(number)
        return self._last[1]

    def _order(self, number: int) -> list[IntArray]:
        random = np.random.default_rng([self.seed, number])
        tie_break = random.permutation(len(self.source_lengths))
        # Target length first: the output layer is the dearest part of a position. Then the source within it.
        order = np.lexsort((tie_break, self.source_lengths, self.target_lengths))
        batches = cut(order, self.source_lengths, self.target_lengths, self.batch_tokens)
        random.shuffle(batches)
        return batches

    def parts(self, *, first_step: int, rank: int, ranks: int, accumulate: int) -> Iterator[Part]:
        """Yield what one rank reads from optimizer step `first_step` on, `accumulate` parts a step."""
        step = epoch = 0
        while step < self.steps:
            for batch in self.epoch(epoch):
                if step >= self.steps:
                    return
                if step >= first_step:
                    tokens = int(self.target_lengths[batch].sum())
                    for turn in range(accumulate):
                        share = batch[turn * ranks + rank :: ranks * accumulate]
                        yield Part(share, tokens) if len(share) else Part(batch[:1], tokens, blank=True)
                step += 1
            epoch += 1


class StreamSampler(Sampler[Part]):
    """The parts of a stream that one rank still has to read, for a `DataLoader`.

    Its length is that of the whole run all the same: resuming, Lightning 2.6 adds the batches it ran before to those
    it fetches now, and stops where their sum reaches the length.
    """

    def __init__(self, stream: TrainingStream, *, first_step: int, rank: int, ranks: int, accumulate: int):
        self.stream, self.first_step = stream, first_step
        self.share = {"rank": rank, "ranks": ranks, "accumulate": accumulate}

    def __iter__(self) -> Iterator[Part]:
        return self.stream.parts(first_step=self.first_step, **self.share)

    def __len__(self) -> int:
        return self.stream.steps * self.share["accumulate"]
