"""Compare the BLEU of variants on one test set, in all and by sentence length."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hourglass.corpora.languages import count_words
from hourglass.errors import UserError
from hourglass.metrics import scoring
from hourglass.metrics.significance import Quantity, bleu_quantity, compare, draw, holm, pool, slope
from hourglass.runs.folder import RunFolder, open_run
from hourglass.runs.translations import Translation, read_translations


@dataclass(frozen=True)
class TestSet:
    """The sentences that all outputs translate, and which length bucket each belongs to.

    Attributes:
        rows: id, source and reference of each sentence (the hypothesis is any output's).
        source_words: [N].
        bounds: first and last source word count of each bucket; the last is open.
        target_language: picks BLEU's tokenizer.
    """

    __test__ = False  # No test of pytest's.

    rows: list[Translation]
    source_words: np.ndarray
    bounds: list[tuple[int, int | None]]
    target_language: str

    def inside(self, bucket: int) -> np.ndarray:
        """Return the numbers of a bucket's sentences."""
        low, high = self.bounds[bucket]
        upper = np.inf if high is None else high
        return np.flatnonzero((self.source_words >= low) & (self.source_words <= upper))


@dataclass(frozen=True)
class Measured:
    """BLEU of one variant's seeds, in all and in each bucket that has sentences, on the test set and its resamples."""

    whole: Quantity
    buckets: dict[int, Quantity]


@dataclass(frozen=True)
class Draws:
    """The resamples that all variants share: of the whole test set, and of each bucket within itself."""

    whole: np.ndarray
    buckets: dict[int, np.ndarray]


def make_test_set(
    files: Mapping[str, list[Translation]], edges: Sequence[int], source_language: str, target_language: str
) -> TestSet:
    """Return the test set that outputs share.

    Args:
        files: the outputs, by name.
        edges: first source word count of each bucket.
        source_language: says how words are counted.
        target_language: picks BLEU's tokenizer.

    Raises:
        UserError: two outputs are not of the same sentences.
    """
    (first, rows), *others = files.items()
    for name, other in others:
        if [row[:3] for row in rows] != [row[:3] for row in other]:
            raise UserError(f"{first} and {name} do not translate the same sentences: give two runs of one test set")
    words = np.array([max(edges[0], count_words(row.source, source_language)) for row in rows])
    return TestSet(rows, words, scoring.length_buckets(edges), target_language)


def make_draws(test: TestSet, resamples: int) -> Draws:
    """Draw the resamples of a test set."""
    inside = {bucket: test.inside(bucket) for bucket in range(len(test.bounds))}
    return Draws(
        draw(len(test.rows), resamples), {b: draw(len(rows), resamples) for b, rows in inside.items() if len(rows)}
    )


def measure(outputs: Sequence[Sequence[str]], test: TestSet, draws: Draws) -> Measured:
    """Return BLEU of a variant's outputs, one a seed."""
    references = [row.reference for row in test.rows]
    statistics = [scoring.bleu_statistics(output, references, test.target_language) for output in outputs]
    buckets = {
        bucket: bleu_quantity([one[test.inside(bucket)] for one in statistics], counts)
        for bucket, counts in draws.buckets.items()
    }
    return Measured(bleu_quantity(statistics, draws.whole), buckets)


def compare_measured(one: Measured, other: Measured, everyone: Sequence[Measured]) -> dict[str, Any]:
    """Return the difference in all, by bucket (with Holm-adjusted p), and of the slopes; plain values.

    Args:
        one: the variant.
        other: what it is compared with.
        everyone: all variants, over which the variance of seeds is pooled.
    """
    buckets = {
        bucket: compare(one.buckets[bucket], other.buckets[bucket], pool([m.buckets[bucket] for m in everyone]))
        for bucket in one.buckets
    }
    adjusted = holm([difference.p for difference in buckets.values()])
    return {
        **asdict(compare(one.whole, other.whole, pool([m.whole for m in everyone]))),
        "buckets": {
            bucket: {**asdict(difference), "p_holm": p}
            for (bucket, difference), p in zip(buckets.items(), adjusted, strict=True)
        },
    }


def slope_of(measured: Measured, test: TestSet) -> Quantity:
    """Return the slope of a variant's length curve, BLEU per 10 source words, over buckets that have intervals."""
    buckets = {bucket: quantity for bucket, quantity in measured.buckets.items() if quantity.scorable}
    means = [float(test.source_words[test.inside(bucket)].mean()) for bucket in buckets]
    return slope(list(buckets.values()), means, [len(test.inside(bucket)) for bucket in buckets])


def score_summary(quantity: Quantity) -> dict[str, Any]:
    """Return the mean over seeds, the spread of the seeds, and the interval."""
    interval = quantity.interval
    return {"mean": quantity.mean, "spread": quantity.spread, "interval": asdict(interval) if interval else None}


def _translations(run: RunFolder) -> Path:
    """Return where a run's translations of test lie: those of an ablation in another stage's folder."""
    of_stage = run.path.resolve().parent.parent / "translations" / run.path.resolve().name / "test.tsv"
    return of_stage if of_stage.exists() and not run.translations.exists() else run.translations


def compare_runs(one: Path, other: Path, resamples: int) -> tuple[TestSet, dict[str, Any], dict[str, Any]]:
    """Compare the test translations of two run folders.

    Returns:
        the test set; the difference `one` less `other` as `compare_measured` has it; and both runs' BLEU.

    Raises:
        UserError: a folder holds no translations, or the two are not of one test set.
    """
    test, measured = measure_runs([one, other], resamples)
    first, second = measured.values()
    scores = {name: score_summary(found.whole) for name, found in measured.items()}
    return test, compare_measured(first, second, [first, second]), scores


def measure_runs(paths: Sequence[Path], resamples: int) -> tuple[TestSet, dict[str, Measured]]:
    """Return the test set that run folders have translated, with the buckets of the first, and each one's BLEU.

    Raises:
        UserError: a folder holds no translations, or they are not of one test set.
    """
    runs = {str(path): open_run(str(path), "run") for path in paths}
    if len(runs) < len(paths):
        raise UserError(f"{' '.join(map(str, paths))}: the same folder twice: give different runs")
    files = {name: read_translations(_translations(run)) for name, (run, _) in runs.items()}
    config = runs[str(paths[0])][1]
    test = make_test_set(files, config["edges"], config["data"]["source"], config["data"]["target"])
    draws = make_draws(test, resamples)
    return test, {name: measure([[row.hypothesis for row in rows]], test, draws) for name, rows in files.items()}
