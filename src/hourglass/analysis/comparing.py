"""Scores of several outputs on one test set, and its differences, in all and by sentence length."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from hourglass.analysis.evaluation import ScoreDifference
from hourglass.analysis.grouping import RUN, Grouping, RunGroup, find_settings, group_runs, shown_setting
from hourglass.corpora.languages import count_words
from hourglass.corpora.overlap import corpus_overlap
from hourglass.errors import UserError
from hourglass.metrics import scoring
from hourglass.metrics.metric import Metric
from hourglass.metrics.metrics import main_metric
from hourglass.metrics.significance import (
    Difference,
    Estimate,
    Interval,
    Quantity,
    adjust_differences,
    compare_quantities,
    draw_resamples,
    metric_quantity,
    own_spread,
    pool,
    pooled_spread,
    slope,
)
from hourglass.runs.translations import Translation
from hourglass.training.finished import FinishedRun

Name = TypeVar("Name")


@dataclass(frozen=True)
class SentenceLengths:
    """The lengths of test sentences, in buckets.

    Attributes:
        source_words: [N].
        bounds: first and last number of source words of each bucket; the last bucket has no upper end.
    """

    source_words: np.ndarray
    bounds: list[tuple[int, int | None]]

    def inside(self, bucket: int) -> np.ndarray:
        """Return the indices of the sentences in a bucket."""
        return scoring.inside_bounds(self.source_words, self.bounds[bucket])


@dataclass(frozen=True)
class TestSet(SentenceLengths):
    """The sentences that all outputs translate, in length buckets.

    Attributes:
        rows: id, source and reference of each sentence; the hypothesis is that of any one output.
        target_language: decides what a word is.
    """

    __test__ = False  # Not a test case for pytest.

    rows: list[Translation]
    target_language: str


@dataclass(frozen=True)
class ScoreByLength:
    """The score of one variant's seeds on the test set and on its resamples.

    Attributes:
        whole: on all sentences.
        buckets: by the number of the bucket, for those that have sentences.
    """

    whole: Quantity
    buckets: dict[int, Quantity]

    def estimates(self, buckets: int) -> list[Estimate | None]:
        """Return the estimate of each of so many buckets; None for one without sentences."""
        return [self.buckets[bucket].estimate if bucket in self.buckets else None for bucket in range(buckets)]


@dataclass(frozen=True)
class Draws:
    """The bootstrap resamples that all variants share.

    Attributes:
        whole: [R, N] counts over the whole test set.
        buckets: [R, N of the bucket] counts, each bucket resampled within itself.
    """

    whole: np.ndarray
    buckets: dict[int, np.ndarray]


@dataclass(frozen=True)
class GroupScores:
    """The score of a group of runs.

    Attributes:
        group: its runs.
        score: on the test set and by length.
        pooled: interval of the mean over sentences and seeds, from the variance over seeds of all groups; None where
            no group has two seeds.
        own_spread: the same from its own seeds alone; None of one seed.
        baseline: name of the group that it is compared with; None for a baseline, and for a group that has none.
        difference: the score less that of the baseline; None without one.
    """

    group: RunGroup
    score: ScoreByLength
    pooled: Interval | None
    own_spread: Interval | None
    baseline: str | None
    difference: ScoreDifference | None


@dataclass(frozen=True)
class TestSetComparison:
    """Groups of runs that have translated the same sentences.

    Attributes:
        name: of the test set, among others.
        metric: the score.
        test: its sentences.
        grouping: the groups, and in what they differ.
        scores: of each group, in their order.
        baseline: value of the first axis that others are compared with; None where no group has it.
        clean: the same on the sentences whose target shares no n-gram of words with a training target of any of the
            runs (`corpora.overlap`); None where it is not asked for, where there are none, and on a made corpus, whose
            pairs are drawn independently of each other.
    """

    __test__ = False  # Not a test case for pytest.

    name: str
    metric: Metric
    test: TestSet
    grouping: Grouping
    scores: list[GroupScores]
    baseline: str | None
    clean: "TestSetComparison | None" = None

    @property
    def partial(self) -> str | None:
        """Which part of the corpus's test split it is; None: all of it."""
        runs = [run for item in self.scores for run in item.group.runs]
        if not any(run.config.get("trainer", {}).get("test_sentences") for run in runs):
            return None
        whole, own = runs[0].metrics.corpus["pairs"].get("test"), len(self.test.rows)
        if whole == own:
            return None
        return f"only {own:,}{f' of {whole:,}' if whole else ''} sentences (trainer.test_sentences)"


def make_test_set(
    files: Mapping[str, list[Translation]], edges: Sequence[int], source_language: str, target_language: str
) -> TestSet:
    """Return the test set that several outputs share.

    Args:
        files: the outputs, by name.
        edges: first number of source words of each bucket.
        source_language: decides how words are counted.
        target_language: decides what a word is.

    Raises:
        UserError: two outputs do not translate the same sentences.
    """
    (first, rows), *others = files.items()
    for name, other in others:
        if [_sentence(row) for row in rows] != [_sentence(row) for row in other]:
            raise UserError(f"{first} and {name} do not translate the same sentences: give two runs of one test set")
    words = np.array([max(edges[0], count_words(row.source, source_language)) for row in rows])
    return TestSet(words, scoring.length_buckets(edges), rows, target_language)


def _sentence(row: Translation) -> tuple[object, ...]:
    """Return what outputs share of a row: all but the output."""
    return row.id, row.source, row.references


def make_draws(lengths: SentenceLengths, resamples: int) -> Draws:
    """Draw the resamples of a test set and of its buckets."""
    inside = {bucket: lengths.inside(bucket) for bucket in range(len(lengths.bounds))}
    return Draws(
        draw_resamples(len(lengths.source_words), resamples),
        {bucket: draw_resamples(len(rows), resamples) for bucket, rows in inside.items() if len(rows)},
    )


def score_by_length(metric: Metric, outputs: Sequence[Sequence[str]], test: TestSet, draws: Draws) -> ScoreByLength:
    """Return the score of a variant.

    Args:
        metric: which score.
        outputs: translations of the test set, one sequence for each seed.
        test: the test set.
        draws: its resamples.
    """
    references, sources = [row.references for row in test.rows], [row.source for row in test.rows]
    statistics = [metric.statistics(output, references, sources) for output in outputs]
    return score_from_sentences(metric, statistics, test, draws)


def score_from_sentences(
    metric: Metric, statistics: Sequence[np.ndarray], lengths: SentenceLengths, draws: Draws
) -> ScoreByLength:
    """Return the score of a variant from its counts.

    Args:
        metric: which score.
        statistics: [N, counts] of `Metric.statistics`, one array for each seed.
        lengths: of the N sentences.
        draws: their resamples.
    """
    buckets = {
        bucket: metric_quantity(metric, [counts[lengths.inside(bucket)] for counts in statistics], drawn)
        for bucket, drawn in draws.buckets.items()
    }
    return ScoreByLength(metric_quantity(metric, statistics, draws.whole), buckets)


def compare_scores(scores: Mapping[Name, ScoreByLength], baselines: Mapping[Name, Name]) -> dict[Name, ScoreDifference]:
    """Return the scores of variants less those of their baselines, in all and by bucket.

    The p-values are adjusted by Holm's method (1979): those over all sentences for their number, and those of the
    buckets for the number of all buckets of all variants.

    Args:
        scores: of all variants; the variance over seeds is pooled over them.
        baselines: of each variant that is compared, the other one.
    """

    def compare(quantities: Mapping[Name, Quantity], name: Name) -> Difference:
        return compare_quantities(quantities[name], quantities[baselines[name]], pool(list(quantities.values())))

    whole = {name: item.whole for name, item in scores.items()}
    buckets = {
        bucket: {name: item.buckets[bucket] for name, item in scores.items()}
        for bucket in next(iter(scores.values())).buckets
    }
    differences = adjust_differences({name: compare(whole, name) for name in baselines})
    by_length = adjust_differences(
        {(name, bucket): compare(buckets[bucket], name) for name in baselines for bucket in buckets}
    )
    return {
        name: ScoreDifference(differences[name], {bucket: by_length[name, bucket] for bucket in buckets})
        for name in baselines
    }


def length_slope(score: ScoreByLength, lengths: SentenceLengths) -> Quantity:
    """Return the slope of a score over length, per 10 source words, over the buckets that have intervals."""
    buckets = {bucket: quantity for bucket, quantity in score.buckets.items() if quantity.scorable}
    means = [float(lengths.source_words[lengths.inside(bucket)].mean()) for bucket in buckets]
    return slope(list(buckets.values()), means, [len(lengths.inside(bucket)) for bucket in buckets])


def compare_groups(
    runs: Sequence[FinishedRun],
    by: Sequence[str],
    baseline: str | None,
    resamples: int,
    *,
    clean: bool = False,
    metric: str | None = None,
) -> list[TestSetComparison]:
    """Compare finished runs in groups: the scores of each, and its difference to the group that is its baseline.

    Runs of different test sets are never compared: each test set has groups, baselines and intervals of its own. The
    p-values of a test set are adjusted for their number: those over all sentences, and those of all lengths.

    Args:
        runs: finished runs.
        by: what they are grouped by: settings such as encoder.summary_size, groups such as attention, `seed`, `run`,
            `commit`; empty: the settings in which they differ.
        baseline: the value of the first axis that others are compared with; None: the first.
        resamples: of the bootstrap.
        clean: whether the sentences are scored apart that share no n-gram with train.
        metric: name of the score; None: the main metric of the runs.

    Raises:
        UserError: the runs have several main metrics and `metric` names none, the metric is unknown, a corpus cannot be
            read, no run has a setting of `by`, no group has the value of `baseline`, or two runs of a group have the
            same seed and other translations.
    """
    settings = find_settings(by, runs)
    parts: dict[object, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        sentences = tuple(map(_sentence, run.translations))
        parts[run.config["data"]["source"], run.config["data"]["target"], sentences].append(run)
    groupings = [group_runs(members, settings) for members in parts.values()]
    if baseline is not None and all(_baseline_value(grouping, baseline) is None for grouping in groupings):
        axis = next((grouping.axes[0] for grouping in groupings if grouping.axes), None)
        values = dict.fromkeys(group.values[axis] for grouping in groupings for group in grouping.groups if axis)
        if axis is None:
            raise UserError(f"baseline={baseline}: there is one group")
        wanted = f"{shown_setting(axis)}={baseline}"
        raise UserError(f"baseline={baseline}: no group has {wanted}; choose from {', '.join(values)}")
    names = _name_test_sets(list(parts.values()))
    return [
        _compare_part(name, members, grouping, baseline, resamples, clean=clean, metric=metric)
        for name, members, grouping in zip(names, parts.values(), groupings, strict=True)
    ]


def _compare_part(
    name: str,
    runs: Sequence[FinishedRun],
    grouping: Grouping,
    baseline: str | None,
    resamples: int,
    *,
    clean: bool,
    metric: str | None,
) -> TestSetComparison:
    config = runs[0].config
    test = make_test_set(
        {str(run.path): run.translations for run in runs},
        config["edges"],
        config["data"]["source"],
        config["data"]["target"],
    )
    score = _shared_metric(runs, metric)
    whole = _score_part(name, score, test, grouping, baseline, rows=range(len(test.rows)), resamples=resamples)
    rows = clean_rows(runs, [row.id for row in test.rows]) if clean else None
    if not rows:
        return whole
    part = replace(test, rows=[test.rows[row] for row in rows], source_words=test.source_words[rows], bounds=[])
    return replace(whole, clean=_score_part(name, score, part, grouping, baseline, rows=rows, resamples=resamples))


def _shared_metric(runs: Sequence[FinishedRun], name: str | None) -> Metric:
    """Return the metric of this name, or the main one of all runs, with its options in the first run.

    Raises:
        UserError: the runs have several, or it is unknown.
    """
    if name is None:
        names = {run.config["metrics"]["main"]: run for run in runs}
        if len(names) > 1:
            (first, run), (second, other), *_ = names.items()
            raise UserError(
                f"{run.path} has metrics.main={first} and {other.path} {second}: set metric={first} or metric={second}"
            )
    return main_metric(runs[0].config, name)


def clean_rows(runs: Sequence[FinishedRun], ids: Sequence[str]) -> list[int] | None:
    """Return the numbers of the test sentences whose target shares no n-gram with a training target of any run.

    Args:
        runs: that have translated them.
        ids: of the sentences, N.

    Returns:
        None on a made corpus.

    Raises:
        UserError: a corpus cannot be read.
    """
    shared: set[str] = set()
    for run in {run.metrics.corpus_digest: run for run in runs}.values():
        if not run.corpus.facts.leaks_removed:
            return None
        overlap = corpus_overlap(run.corpus)
        covered = overlap.sides["test"]["target"].covered
        shared.update(name for name, words in zip(overlap.ids["test"], covered, strict=True) if words)
    return [row for row, name in enumerate(ids) if name not in shared]


def _score_part(
    name: str,
    metric: Metric,
    test: TestSet,
    grouping: Grouping,
    baseline: str | None,
    *,
    rows: Sequence[int],
    resamples: int,
) -> TestSetComparison:
    """Compare groups on some sentences of a test set, whose numbers are `rows`."""
    draws = make_draws(test, resamples)
    score = {
        group.name: score_by_length(
            metric, [[run.translations[row].hypothesis for row in rows] for run in group.runs], test, draws
        )
        for group in grouping.groups
    }
    seeds = pool([item.whole for item in score.values()])
    base = _baseline_value(grouping, baseline)
    baselines = {group.name: _baseline_name(grouping, group, base) for group in grouping.groups}
    differences = compare_scores(score, {name: other for name, other in baselines.items() if other})
    scores = [
        GroupScores(
            group=group,
            score=score[group.name],
            pooled=pooled_spread(score[group.name].whole, seeds),
            own_spread=own_spread(score[group.name].whole),
            baseline=baselines[group.name],
            difference=differences.get(group.name),
        )
        for group in grouping.groups
    ]
    return TestSetComparison(name, metric, test, grouping, scores, base)


def _baseline_value(grouping: Grouping, baseline: str | None) -> str | None:
    """Return the value of the first axis that others are compared with; None where there is none."""
    if not grouping.axes:
        return None
    axis = grouping.axes[0]
    if baseline is None:
        return grouping.groups[0].values[axis]
    for group in grouping.groups:
        folder = axis == RUN and Path(baseline) == group.runs[0].path
        if folder or group.values[axis] == baseline:
            return group.values[axis]
    return None


def _baseline_name(grouping: Grouping, group: RunGroup, value: str | None) -> str | None:
    """Return the group that a group is compared with: the same but for the first axis; None for a baseline itself."""
    if value is None or group.values[grouping.axes[0]] == value:
        return None
    partner = grouping.partner(group, value)
    return partner.name if partner else None


def _name_test_sets(parts: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """Return the names of test sets: corpus and number of sentences, with the corpus's digest where that is needed."""
    runs = [members[0] for members in parts]
    names = [f"{run.config['data']['name']}, {len(run.translations):,} sentences" for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name}, digest {run.metrics.corpus_digest[:12]}" for name, run in zip(names, runs, strict=True)]
    return names
