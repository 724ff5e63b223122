"""Batches of sentences of similar length, in a shuffled stream that can stop and resume at any step."""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

# Share of the pairs, the shortest ones, that a curriculum begins with.
FIRST_SHARE = 0.1
# Keep the random numbers of nulled sources and of joined pairs apart from those of the order, of [seed, epoch].
NULLED_STREAM, JOINED_STREAM = 1, 2
# In the place of a row number: a sentence is joined from fewer pairs.
NO_ROW = -1


class Part(NamedTuple):
    """The share of a global batch that one rank reads at once."""

    rows: IntArray  # [sentences] row numbers in the split; or [sentences, most], see `join_at_random`
    step_tokens: int  # target tokens of the whole global batch that the loss counts
    blank: bool = False  # a placeholder for a rank that got no sentence: it adds nothing to the loss
    nulled: BoolArray | None = None  # [sentences] whose source is read as empty; None: none


def cut(order: IntArray, source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> list[IntArray]:
    """Cut rows in this order into batches of at most `batch_tokens` padded tokens on the longer side.

    A sentence that is longer than `batch_tokens` is a batch of its own.

    Args:
        order: row numbers.
        source_lengths: [pairs], in tokens.
        target_lengths: [pairs], in tokens.
        batch_tokens: padded tokens of a batch.
    """
    longer: list[int] = np.maximum(source_lengths, target_lengths)[order].tolist()  # Twice as fast to loop over.
    batches, first, longest = [], 0, 0
    for position, length in enumerate(longer):
        longest = max(longest, length)
        if longest * (position + 1 - first) > batch_tokens and position > first:
            batches.append(order[first:position])
            first, longest = position, length
    batches.append(order[first:])
    return batches


def join_at_random(pairs: int, most: int, random: np.random.Generator) -> IntArray:
    """Return the row numbers of pairs in groups of 1 to `most`, each pair in one: [groups, most], filled with NO_ROW.

    The pairs are in random order. The size of a group is drawn evenly; the last has no more pairs than are left.

    Args:
        pairs: their number, 1 or more.
        most: the largest size of a group.
        random: draws both.
    """
    order = random.permutation(pairs)
    sizes = random.integers(1, most + 1, pairs)  # More than enough.
    starts = np.cumsum(sizes) - sizes
    sizes, starts = sizes[starts < pairs], starts[starts < pairs]
    sizes[-1] = pairs - starts[-1]
    groups = np.full((len(sizes), most), NO_ROW)
    groups[np.repeat(np.arange(len(sizes)), sizes), np.arange(pairs) - np.repeat(starts, sizes)] = order
    return groups


def joined_lengths(lengths: IntArray, rows: IntArray) -> IntArray:
    """Return the tokens of sentences, [sentences], with end-of-sentence.

    Args:
        lengths: [pairs] tokens of each pair, with end-of-sentence.
        rows: see `Part`. Of joined pairs, the last alone keeps its end-of-sentence.
    """
    if rows.ndim == 1:
        return lengths[rows]
    return 1 + np.where(rows == NO_ROW, 0, lengths[rows] - 1).sum(1)


def in_order(source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> list[IntArray]:
    """Return the batches of a dev or test split by length, the longest last; for the arguments see `cut`."""
    return cut(np.lexsort((target_lengths, source_lengths)), source_lengths, target_lengths, batch_tokens)


class TrainingStream:
    """All global batches of a training run, a function of lengths, budget and seed alone.

    Each epoch sorts the sentences by length, equal lengths in random order, cuts global batches of `batch_tokens` and
    shuffles them. The run ends with the step at which the target tokens reach `target_tokens`, rounded to a multiple
    of `validations` steps, so that the last validation falls on the last step.
    A global batch is one optimizer step. It is divided evenly into `ranks * accumulate` parts, so that the weights
    after a step do not depend on the number of processes (except for dropout, which each process draws itself).
    Which sources are nulled is drawn for each global batch, by seed and step, so that it does not depend on it either,
    nor on where a run has resumed. The batches are those of a stream without nulled sources.
    With `joined`, the sentences of an epoch are 1 to so many pairs in a row, which are drawn anew in each epoch.

    A curriculum reads the same batches in another order, short pairs first: until the share `curriculum` of the budget
    is read, the next batch is the first of the shuffled ones that has no pair longer than a limit. The limit is the
    length of the longest of a share of the pairs by length, which grows evenly with the tokens read, from
    `FIRST_SHARE` to 1 (the linear competence of Platanios et al. 2019, "Competence-based curriculum learning for neural
    machine translation", section 3; there sentences are drawn, and here each is read once an epoch). If no batch is
    short enough, the shortest is next.

    Args:
        source_lengths: [pairs], in tokens.
        target_lengths: [pairs], in tokens, with prefixes.
        batch_tokens: padded tokens of a global batch on its longer side.
        target_tokens: the budget of the run, target tokens with end-of-sentence.
        validations: how many times the run validates.
        seed: of the order, and of which sources are nulled.
        null_source: probability that a pair is read with an empty source, anew in each epoch; from 0 to below 1.
        prefix_lengths: [pairs], target tokens that are given, which neither budget nor loss counts; None: 0 of each.
        joined: the largest number of pairs in a sentence. Pairs with a prefix are not joined.
        curriculum: share of the budget in which the longest pairs come in, from 0 (none) to 1.

    Attributes:
        steps: optimizer steps of the run.
        validate_every: steps from one validation to the next.
        padding_share: padding as a share of all positions, source and target together; by the lengths of the sources
            as they are, so that of a nulled one all but the end is not counted as padding.
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
        null_source: float = 0.0,
        prefix_lengths: IntArray | None = None,
        joined: int = 1,
        curriculum: float = 0.0,
    ):
        assert joined == 1 or prefix_lengths is None
        self.source_lengths, self.target_lengths, self.joined = source_lengths, target_lengths, joined
        self.loss_lengths = target_lengths if prefix_lengths is None else target_lengths - prefix_lengths
        self.batch_tokens, self.seed, self.null_source = batch_tokens, seed, null_source
        self.curriculum_tokens = curriculum * target_tokens
        self._last: tuple[int, list[IntArray]] | None = None
        steps, positions, real = self._measure(target_tokens)
        self.steps = max(1, round(steps / validations)) * validations
        self.validate_every = self.steps // validations
        self.padding_share = 1 - real / positions

    def _measure(self, budget: int) -> tuple[int, int, int]:
        """Return the steps to the budget, and their positions and real tokens, source and target together."""
        steps = tokens = positions = real = 0
        epoch = 0
        while tokens < budget:
            for batch in self.epoch(epoch):
                source, target = (joined_lengths(each, batch) for each in (self.source_lengths, self.target_lengths))
                positions += len(batch) * int(source.max() + target.max())
                real += int(source.sum() + target.sum())
                tokens += int(joined_lengths(self.loss_lengths, batch).sum())
                steps += 1
                if tokens >= budget:
                    break
            epoch += 1
        return steps, positions, real

    def epoch(self, number: int) -> list[IntArray]:
        """Return the global batches of one epoch, each as row numbers of the split, see `Part`.

        The last epoch is kept: the first one is needed twice, to count steps and to train, and takes seconds for
        millions of pairs.
        """
        if self._last is None or self._last[0] != number:
            self._last = number, self._order(number)
        return self._last[1]

    def _order(self, number: int) -> list[IntArray]:
        random = np.random.default_rng([self.seed, number])
        sentences: IntArray = np.arange(len(self.source_lengths))
        if self.joined > 1:
            drawing = np.random.default_rng([self.seed, number, JOINED_STREAM])
            sentences = join_at_random(len(sentences), self.joined, drawing)
        source, target = (joined_lengths(each, sentences) for each in (self.source_lengths, self.target_lengths))
        tie_break = random.permutation(len(sentences))
        # By target length first, as the output layer takes the most time, then by source length.
        order = np.lexsort((tie_break, source, target))
        batches = cut(order, source, target, self.batch_tokens)
        random.shuffle(batches)
        # Of joined pairs it is more than was read, as each counts an end of its own.
        tokens = number * int(self.loss_lengths.sum())
        if tokens < self.curriculum_tokens:
            batches = self._short_first(batches, np.maximum(source, target), sentences, tokens)
        return [sentences[batch] for batch in batches]

    def _short_first(
        self, batches: list[IntArray], longer: IntArray, sentences: IntArray, tokens: int
    ) -> list[IntArray]:
        """Return the batches of an epoch in the order of the curriculum, from the target tokens read before it on.

        Args:
            batches: numbers of sentences.
            longer: [sentences] tokens on the longer side of each.
            sentences: the rows of each, see `Part`.
            tokens: target tokens read before the epoch.
        """
        by_length = np.sort(longer)
        # Batches of equal length in shuffled order, and the place of each in the shuffled epoch.
        waiting: dict[int, deque[int]] = {}
        for place, batch in enumerate(batches):
            waiting.setdefault(int(longer[batch].max()), deque()).append(place)
        order: list[int] = []
        while waiting and tokens < self.curriculum_tokens:
            share = FIRST_SHARE + (1 - FIRST_SHARE) * tokens / self.curriculum_tokens
            limit = by_length[math.ceil(share * len(by_length)) - 1]
            allowed = [length for length in waiting if length <= limit] or [min(waiting)]
            length = min(allowed, key=lambda each: waiting[each][0])
            order.append(waiting[length].popleft())
            if not waiting[length]:
                del waiting[length]
            tokens += int(joined_lengths(self.loss_lengths, sentences[batches[order[-1]]]).sum())
        return [batches[place] for place in [*order, *sorted(place for rest in waiting.values() for place in rest)]]

    def parts(self, *, first_step: int, rank: int, ranks: int, accumulate: int) -> Iterator[Part]:
        """Yield the parts of one rank from optimizer step `first_step` on, `accumulate` parts a step."""
        step = epoch = 0
        while step < self.steps:
            for batch in self.epoch(epoch):
                if step >= self.steps:
                    return
                if step >= first_step:
                    tokens = int(joined_lengths(self.loss_lengths, batch).sum())
                    nulled = self._draw_nulled(step, len(batch))
                    for turn in range(accumulate):
                        own = slice(turn * ranks + rank, None, ranks * accumulate)
                        if len(share := batch[own]):
                            yield Part(share, tokens, nulled=None if nulled is None else nulled[own])
                        else:
                            yield Part(batch[:1], tokens, blank=True)
                step += 1
            epoch += 1

    def _draw_nulled(self, step: int, pairs: int) -> BoolArray | None:
        """Return which of the pairs of a global batch have a nulled source, [pairs]; None: none may have."""
        if not self.null_source:
            return None
        return np.random.default_rng([self.seed, step, NULLED_STREAM]).random(pairs) < self.null_source


class StreamSampler(Sampler[Part]):
    """The parts of a stream that one rank has not read yet, for a `DataLoader`.

    Its length is that of the whole run: after a resume, Lightning 2.6 counts the batches of before as well, and stops
    when the count reaches the length.
    """

    def __init__(self, stream: TrainingStream, *, first_step: int, rank: int, ranks: int, accumulate: int):
        self.stream, self.first_step = stream, first_step
        self.share = {"rank": rank, "ranks": ranks, "accumulate": accumulate}

    def __iter__(self) -> Iterator[Part]:
        return self.stream.parts(first_step=self.first_step, **self.share)

    def __len__(self) -> int:
        return self.stream.steps * self.share["accumulate"]
