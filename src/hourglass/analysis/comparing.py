"""BLEU of several outputs on one test set, and its differences, in all and by sentence length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hourglass.analysis.evaluation import BleuDifference, BucketDifference
from hourglass.corpora.languages import count_words
from hourglass.errors import UserError
from hourglass.metrics import scoring
from hourglass.metrics.significance import (
    Quantity,
    bleu_quantity,
    compare_quantities,
    draw_resamples,
    holm,
    pool,
    slope,
)
from hourglass.runs.translations import Translation
from hourglass.training.finished import FinishedRun


@dataclass(frozen=True)
class TestSet:
    """The sentences that all outputs translate, in length buckets.

    Attributes:
        rows: id, source and reference of each sentence; the hypothesis is that of any one output.
        source_words: [N].
        bounds: first and last number of source words of each bucket; the last bucket has no upper end.
        target_language: selects BLEU's tokenizer.
    """

    __test__ = False  # Not a test case for pytest.

    rows: list[Translation]
    source_words: np.ndarray
    bounds: list[tuple[int, int | None]]
    target_language: str

    def inside(self, bucket: int) -> np.ndarray:
        """Return the indices of the sentences in a bucket."""
        low, high = self.bounds[bucket]
        upper = np.inf if high is None else high
        return np.flatnonzero((self.source_words >= low) & (self.source_words <= upper))


@dataclass(frozen=True)
class BleuByLength:
    """BLEU of one variant's seeds on the test set and on its resamples.

    Attributes:
        whole: on all sentences.
        buckets: by the number of the bucket, for those that have sentences.
    """

    whole: Quantity
    buckets: dict[int, Quantity]


@dataclass(frozen=True)
class Draws:
    """The bootstrap resamples that all variants share.

    Attributes:
        whole: [R, N] counts over the whole test set.
        buckets: [R, N of the bucket] counts, each bucket resampled within itself.
    """

    whole: np.ndarray
    buckets: dict[int, np.ndarray]


def make_test_set(
    files: Mapping[str, list[Translation]], edges: Sequence[int], source_language: str, target_language: str
) -> TestSet:
    """Return the test set that several outputs share.

    Args:
        files: the outputs, by name.
        edges: first number of source words of each bucket.
        source_language: decides how words are counted.
        target_language: selects BLEU's tokenizer.

    Raises:
        UserError: two outputs do not translate the same sentences.
    """
    (first, rows), *others = files.items()
    for name, other in others:
        if [row[:3] for row in rows] != [row[:3] for row in other]:
            raise UserError(f"{first} and {name} do not translate the same sentences: give two runs of one test set")
    words = np.array([max(edges[0], count_words(row.source, source_language)) for row in rows])
    return TestSet(rows, words, scoring.length_buckets(edges), target_language)


def make_draws(test: TestSet, resamples: int) -> Draws:
    """Draw the resamples of a test set and of its buckets."""
    inside = {bucket: test.inside(bucket) for bucket in range(len(test.bounds))}
    return Draws(
        draw_resamples(len(test.rows), resamples),
        {bucket: draw_resamples(len(rows), resamples) for bucket, rows in inside.items() if len(rows)},
    )


def bleu_by_length(outputs: Sequence[Sequence[str]], test: TestSet, draws: Draws) -> BleuByLength:
    """Return BLEU of a variant.

    Args:
        outputs: translations of the test set, one sequence for each seed.
        test: the test set.
        draws: its resamples.
    """
    references = [row.reference for row in test.rows]
    statistics = [scoring.bleu_statistics(output, references, test.target_language) for output in outputs]
    buckets = {
        bucket: bleu_quantity([counts[test.inside(bucket)] for counts in statistics], drawn)
        for bucket, drawn in draws.buckets.items()
    }
    return BleuByLength(bleu_quantity(statistics, draws.whole), buckets)


def compare_bleu(first: BleuByLength, second: BleuByLength, everyone: Sequence[BleuByLength]) -> BleuDifference:
    """Return `first` less `second`, in all and by bucket; p of the buckets is adjusted by Holm's method, too.

    Args:
        first: BLEU of a variant.
        second: BLEU of the variant that it is compared with.
        everyone: BLEU of all variants; the variance over seeds is pooled over them.
    """
    buckets = {
        bucket: compare_quantities(
            first.buckets[bucket], second.buckets[bucket], pool([bleu.buckets[bucket] for bleu in everyone])
        )
        for bucket in first.buckets
    }
    adjusted = holm([difference.p for difference in buckets.values()])
    return BleuDifference(
        compare_quantities(first.whole, second.whole, pool([bleu.whole for bleu in everyone])),
        {
            bucket: BucketDifference(**vars(difference), p_holm=p)
            for (bucket, difference), p in zip(buckets.items(), adjusted, strict=True)
        },
    )


def length_slope(bleu: BleuByLength, test: TestSet) -> Quantity:
    """Return the slope of BLEU over length, in BLEU per 10 source words, over the buckets that have intervals."""
    buckets = {bucket: quantity for bucket, quantity in bleu.buckets.items() if quantity.scorable}
    means = [float(test.source_words[test.inside(bucket)].mean()) for bucket in buckets]
    return slope(list(buckets.values()), means, [len(test.inside(bucket)) for bucket in buckets])


def compare_runs(first: Path, second: Path, resamples: int) -> tuple[TestSet, BleuDifference, dict[str, BleuByLength]]:
    """Compare the test translations of two run folders.

    Returns:
        the test set; the difference `first` less `second`; BLEU of both runs.

    Raises:
        UserError: a folder holds no translations, or the two are of different test sets.
    """
    test, scores = score_runs([first, second], resamples)
    of_first, of_second = scores.values()
    return test, compare_bleu(of_first, of_second, [of_first, of_second]), scores


def score_runs(paths: Sequence[Path], resamples: int) -> tuple[TestSet, dict[str, BleuByLength]]:
    """Return the test set that several run folders have translated, in the buckets of the first, and BLEU of each.

    Raises:
        UserError: a folder holds no translations, or they are of different test sets.
    """
    runs = {str(path): FinishedRun.open(path) for path in paths}
    if len(runs) < len(paths):
        raise UserError(f"{' '.join(map(str, paths))}: the same folder twice: give different runs")
    config = runs[str(paths[0])].config
    test = make_test_set(
        {name: run.translations for name, run in runs.items()},
        config["edges"],
        config["data"]["source"],
        config["data"]["target"],
    )
    draws = make_draws(test, resamples)
    return test, {
        name: bleu_by_length([[row.hypothesis for row in run.translations]], test, draws) for name, run in runs.items()
    }
