"""From a corpus to batches: token ids on disk, batches by a budget of tokens, the training stream.

Shapes: B sentences of a batch, S source length, T target length.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hourglass.corpus import Corpus
from hourglass.tokenizer import BOS, EOS, PAD, Vocabularies

log = logging.getLogger(__name__)

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class Batch(NamedTuple):
    """Sentences of similar length, padded on the right."""

    source: Tensor  # [B, S] ids, each row ending in end-of-sentence
    source_lengths: Tensor  # [B]
    target: Tensor  # [B, T+1] ids, from beginning-of-sentence to end-of-sentence
    index: Tensor  # [B] rows of the split
    step_tokens: Tensor  # [] target tokens of the whole global batch of this optimizer step


class Part(NamedTuple):
    """What one rank reads at once: its share of a global batch."""

    index: IntArray  # rows of the split
    step_tokens: int  # target tokens of the whole global batch
    blank: bool = False  # a stand-in for a rank that the global batch had no sentence for: adds nothing to the loss


class EncodedSplit(Dataset[Batch]):
    """One split as token ids, memory-mapped from Arrow. Indexed by a `Part`, it returns that batch."""

    def __init__(self, rows: Any):
        import datasets  # noqa: PLC0415  slow to import

        assert isinstance(rows, datasets.Dataset)
        self.rows = rows.with_format("numpy")
        # Lengths with end-of-sentence, [pairs].
        self.source_lengths = np.asarray(self.rows.with_format("numpy")["source_tokens"][:], dtype=np.int64)
        self.target_lengths = np.asarray(self.rows.with_format("numpy")["target_tokens"][:], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.source_lengths)

    def __getitem__(self, part: Part) -> Batch:
        rows = self.rows[part.index]
        source = [np.append(ids, EOS) for ids in rows["source_ids"]]
        target = [np.concatenate([[BOS], ids, [EOS]]) for ids in rows["target_ids"]]
        padded = pad(target)
        if part.blank:
            padded[:, 1:] = PAD
        lengths = torch.tensor([len(ids) for ids in source])
        return Batch(pad(source), lengths, padded, torch.from_numpy(part.index), torch.tensor(part.step_tokens))


def pad(rows: Sequence[Sequence[int] | IntArray]) -> Tensor:
    """Return the rows of ids as one tensor [B, longest], padded on the right."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(padded)


def encode_corpus(corpus: Corpus, vocabularies: Vocabularies, cache: Path) -> dict[str, EncodedSplit]:
    """Encode all splits once for this corpus and tokenizer, and memory-map the result.

    Args:
        corpus: the text.
        vocabularies: trained on its training split.
        cache: the cache folder; the encoded splits lie in encoded/DIGEST below it.
    """
    import datasets  # noqa: PLC0415  slow to import

    digest = hashlib.sha256(f"1 {corpus.digest} {vocabularies.digest}".encode()).hexdigest()[:12]
    folder = cache / "encoded" / digest
    if not folder.exists():
        log.info("encoding %s", corpus.facts.get("name", "the corpus"))

        def encode(rows: Mapping[str, list[str]]) -> dict[str, list[Any]]:
            source = vocabularies.source.encode(rows["source"])
            target = vocabularies.target.encode(rows["target"])
            return {
                "source_ids": source,
                "target_ids": target,
                "source_tokens": [len(ids) + 1 for ids in source],
                "target_tokens": [len(ids) + 1 for ids in target],
            }

        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{digest}-"))
        numbers = datasets.Sequence(datasets.Value("int32"))
        features = datasets.Features(
            source_ids=numbers,
            target_ids=numbers,
            source_tokens=datasets.Value("int32"),
            target_tokens=datasets.Value("int32"),
        )
        try:
            for name, split in corpus.splits.items():
                encoded = split.map(
                    encode,
                    batched=True,
                    remove_columns=split.column_names,
                    features=features,
                    cache_file_name=str(scratch / f"{name}.map.arrow"),
                    desc=f"encoding {name}",
                )
                encoded.save_to_disk(scratch / name)
                (scratch / f"{name}.map.arrow").unlink(missing_ok=True)
            if not folder.exists():
                os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return {name: EncodedSplit(datasets.load_from_disk(folder / name)) for name in corpus.splits}


def cut(order: IntArray, source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> list[IntArray]:
    """Cut rows, in the order given, into batches of at most `batch_tokens` padded tokens on the longer side.

    A sentence that is longer than the budget makes a batch of its own.
    """
    longer = np.maximum(source_lengths, target_lengths)[order]
    batches, first, longest = [], 0, 0
    for position, length in enumerate(longer):
        longest = max(longest, int(length))
        if longest * (position + 1 - first) > batch_tokens and position > first:
            batches.append(order[first:position])
            first, longest = position, int(length)
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
    weights after a step do not depend on how many processes share it.

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
        """Return the global batches of one epoch, each the rows of the split."""
        random = np.random.default_rng([self.seed, number])
        tie_break = random.permutation(len(self.source_lengths))
        # Target length first: the output layer is the dearest part of a position. Then the source within it.
        order = np.lexsort((tie_break, self.source_lengths, self.target_lengths))
        batches = cut(order, self.source_lengths, self.target_lengths, self.batch_tokens)
        random.shuffle(batches)  # type: ignore[arg-type]
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
    """The parts of a stream that one rank still has to read, for a `DataLoader`."""

    def __init__(self, stream: TrainingStream, *, first_step: int, rank: int, ranks: int, accumulate: int):
        self.stream, self.first_step = stream, first_step
        self.share = {"rank": rank, "ranks": ranks, "accumulate": accumulate}

    def __iter__(self) -> Iterator[Part]:
        return self.stream.parts(first_step=self.first_step, **self.share)

    def __len__(self) -> int:
        return (self.stream.steps - self.first_step) * self.share["accumulate"]


class TranslationData(pl.LightningDataModule):
    """Hands the Trainer its batches: the training stream, and the dev split dealt out over the ranks.

    Args:
        splits: of `encode_corpus`.
        stream: of the training split.
        batch_tokens: padded tokens of a dev batch.
        dev_sentences: how many dev sentences are read at a validation, from the first; 0: all.
    """

    def __init__(
        self, splits: dict[str, EncodedSplit], stream: TrainingStream, *, batch_tokens: int, dev_sentences: int
    ):
        super().__init__()
        self.splits, self.stream, self.batch_tokens = splits, stream, batch_tokens
        self.dev_sentences = dev_sentences or len(splits["dev"])
        self.first_step = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the rest of the stream: a resumed run goes on with the batch after the checkpoint's last."""
        assert self.trainer is not None
        sampler = StreamSampler(
            self.stream,
            first_step=self.first_step,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            accumulate=self.trainer.accumulate_grad_batches,
        )
        return DataLoader(self.splits["train"], batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's dev batches: every sentence on one rank, once."""
        assert self.trainer is not None
        dev = self.splits["dev"]
        lengths = dev.source_lengths[: self.dev_sentences], dev.target_lengths[: self.dev_sentences]
        batches = in_order(*lengths, self.batch_tokens)
        share = batches[self.trainer.global_rank :: self.trainer.world_size]
        parts = [Part(batch, int(lengths[1][batch].sum())) for batch in share]
        return DataLoader(dev, batch_size=None, sampler=parts)

    def state_dict(self) -> dict[str, int]:
        """Return how far the stream was read, for the checkpoint."""
        assert self.trainer is not None
        return {"first_step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where the checkpoint stopped."""
        self.first_step = state_dict["first_step"]
