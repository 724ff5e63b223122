"""The same clauses translated apart and joined: what length costs, where the words are the same.

Long sentences have other words than short ones, so a score that falls with length need not fall for it. Here a test
sentence that is joined from k clauses (data.clauses) is translated as it is, and once more clause by clause. The k
outputs in a row are scored against the same reference, so that content, reference and number of words agree, and the
model reads and writes k times as much at once or in k steps. Training has both kinds of sentences: neither is longer
than what the model has learnt.

Joining does two things: it lengthens the input, and it lets a clause see its neighbours. Attention has both, so what it
gains or loses is an estimate of the second, and the difference of two variants' differences is free of it as far as
they use a neighbour alike.

Shapes: N sentences, R resamples, K seeds of a variant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hourglass.analysis.grouping import Grouping, group_runs
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.languages import count_words
from hourglass.corpora.sampling import evenly_spaced
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.metrics.scoring import inside_bounds, length_buckets, show_bounds
from hourglass.metrics.significance import (
    AdjustedDifference,
    Difference,
    Quantity,
    VarianceEstimate,
    adjust_differences,
    compare_quantities,
    draw_resamples,
    metric_quantity,
    own_spread,
    p_value,
    pool,
    pooled_spread,
)
from hourglass.metrics.translation import Bleu, bleu_statistics
from hourglass.runs.translations import Translation
from hourglass.training.finished import FinishedRun

# The counts hang on the language, the score of counts does not.
_BLEU = Bleu("en")


@dataclass(frozen=True)
class JoinedSentence:
    """A test sentence of two or more parts.

    Attributes:
        row: its number among the translations of the runs.
        source_words: of the whole sentence.
        parts: the sources of its parts, in their order.
    """

    row: int
    source_words: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class SentenceKind:
    """Sentences that are scored together.

    Attributes:
        name: for tables: "2 parts", "6-10 words", "all".
        chosen: [N] their places among the joined sentences.
        source_words: mean of the whole sentences.
    """

    name: str
    chosen: np.ndarray
    source_words: float


@dataclass(frozen=True)
class ApartScores:
    """BLEU of a variant on one kind of sentences, means over seeds.

    Attributes:
        joined: of the sentences as they are.
        apart: of their parts, translated one by one, in a row.
        difference: joined less apart, where each seed is compared with itself.
        contrast: `difference` less that of the baseline; None for the baseline.
    """

    joined: Quantity
    apart: Quantity
    difference: AdjustedDifference
    contrast: AdjustedDifference | None


@dataclass(frozen=True)
class ApartComparison:
    """Variants on the sentences of two or more parts.

    Attributes:
        grouping: the variants, whose runs differ in the seed alone.
        baseline: name of the variant whose differences are subtracted from those of the others.
        kinds: of sentences: by number of parts, by length, and all.
        buckets: which of the kinds are length buckets.
        scores: of each variant, for each kind.
        target_language: selects BLEU's tokenizer.
    """

    grouping: Grouping
    baseline: str
    kinds: list[SentenceKind]
    buckets: range
    scores: dict[str, list[ApartScores]]
    target_language: str


def compare_apart(runs: Sequence[FinishedRun], resamples: int, sentences: int) -> ApartComparison:
    """Translate the parts of the test sentences that have two or more, by each run, and score them.

    The whole sentences are taken from the runs' translations of test, and the parts translated by the same search.

    Args:
        runs: finished, of one test set; the first one's variant is the baseline.
        resamples: of the bootstrap.
        sentences: at most so many sentences of each number of parts, evenly spaced; 0: all.

    Raises:
        UserError: the runs have no test set in common, its sentences are not joined from parts, or a run's settings or
            model cannot be read.
    """
    rows = runs[0].translations
    for run in runs[1:]:
        if [row[:3] for row in run.translations] != [row[:3] for row in rows]:
            raise UserError(
                f"{runs[0].path} and {run.path} do not translate the same sentences: give runs of one corpus"
            )
    joined = find_joined(runs[0], sentences)
    grouping = group_runs(runs, [])
    kinds, buckets = _sort(joined, runs[0].config["edges"])
    language = runs[0].config["data"]["target"]
    references = [rows[sentence.row].reference for sentence in joined]
    statistics: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for group in grouping.groups:
        statistics[group.name] = ([], [])
        for run in group.runs:
            outputs = ([run.translations[sentence.row].hypothesis for sentence in joined], translate_apart(run, joined))
            for own, texts in zip(statistics[group.name], outputs, strict=True):
                own.append(bleu_statistics(texts, references, language))
    baseline = next(group.name for group in grouping.groups if runs[0] in group.runs)
    scores = score_apart(statistics, [kind.chosen for kind in kinds], baseline, resamples)
    return ApartComparison(grouping, baseline, kinds, buckets, scores, language)


def find_joined(run: FinishedRun, sentences: int) -> list[JoinedSentence]:
    """Return the test sentences of a run that are joined from two or more parts, in their order.

    Args:
        run: with translations of test.
        sentences: at most so many of each number of parts, evenly spaced; 0: all.

    Raises:
        UserError: there are none, or the translations are of other sentences than the settings name.
    """
    data = run.config["data"]
    _, recipe = check_recipe(data)
    parts = {pair.id: pair.parts for pair in recipe.pairs("test") if len(pair.parts) > 1}
    by_count: dict[int, list[JoinedSentence]] = {}
    for number, row in enumerate(run.translations):
        own = tuple(source for source, _ in parts.get(row.id, ()))
        if own:
            _check_parts(run, row, own)
            sentence = JoinedSentence(number, count_words(row.source, recipe.source), own)
            by_count.setdefault(len(own), []).append(sentence)
    if not by_count:
        raise UserError(
            f"{run.path}: no test sentence of data={data['name']} is joined from parts: train with data=kjv_web "
            "data.clauses=2 or more, or with data=multi30k data.captions=2 or more"
        )
    chosen = [own[place] for own in by_count.values() for place in evenly_spaced(len(own), sentences)]
    return sorted(chosen, key=lambda sentence: sentence.row)


def _check_parts(run: FinishedRun, row: Translation, parts: Sequence[str]) -> None:
    if " ".join(parts) != row.source:
        raise UserError(
            f"{run.folder.translations}: {row.id} is not the sentence that this code reads from the corpus: translate "
            "the test split again with this code"
        )


def translate_apart(run: FinishedRun, joined: Sequence[JoinedSentence]) -> list[str]:
    """Return the outputs of a run for the parts of each sentence, in a row; equal parts are translated once."""
    texts = list(dict.fromkeys(part for sentence in joined for part in sentence.parts))
    search = run.settings.search
    torch.manual_seed(run.metrics.seed)  # For search=sample.
    split: Mapping[str, Any] = {"source": texts}
    outputs = translate_split(run.trained, split, search, run.settings.trainer.device, name="parts of test")
    of_part = dict(zip(texts, outputs, strict=True))
    return [" ".join(of_part[part] for part in sentence.parts) for sentence in joined]


def _sort(joined: Sequence[JoinedSentence], edges: Sequence[int]) -> tuple[list[SentenceKind], range]:
    """Return the kinds of sentences, and which of them are length buckets."""
    counts = np.array([len(sentence.parts) for sentence in joined])
    words = np.array([max(edges[0], sentence.source_words) for sentence in joined])
    named = {f"{count} parts": np.flatnonzero(counts == count) for count in np.unique(counts).tolist()}
    by_length = {f"{show_bounds(bounds)} words": inside_bounds(words, bounds) for bounds in length_buckets(edges)}
    by_length = {name: chosen for name, chosen in by_length.items() if len(chosen)}
    every = {**named, **by_length, "all": np.arange(len(joined))}
    kinds = [SentenceKind(name, chosen, float(words[chosen].mean())) for name, chosen in every.items()]
    return kinds, range(len(named), len(named) + len(by_length))


def score_apart(
    statistics: Mapping[str, tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
    kinds: Sequence[np.ndarray],
    baseline: str,
    resamples: int,
) -> dict[str, list[ApartScores]]:
    """Return BLEU joined and apart of each variant, for each kind of sentences.

    A seed's model translates both ways, so a variant's difference varies over seeds as the differences of its seeds
    do. Seeds of two variants are independent.

    Args:
        statistics: of each variant, for the joined sentences and for their parts: K arrays [N, 10] of
            `translation.bleu_statistics`.
        kinds: places of the sentences of each kind.
        baseline: the variant whose differences are subtracted from those of the others.
        resamples: of the bootstrap.
    """
    quantities: dict[tuple[str, int], tuple[Quantity, Quantity]] = {}
    own: dict[tuple[str, int], Difference] = {}
    others: dict[tuple[str, int], Difference] = {}
    for kind, chosen in enumerate(kinds):
        draws = draw_resamples(len(chosen), resamples)
        of_kind: dict[str, Quantity] = {}
        for name, both in statistics.items():
            joined, apart = (metric_quantity(_BLEU, [counts[chosen] for counts in way], draws) for way in both)
            quantities[name, kind] = joined, apart
            of_kind[name] = joined + apart.times(-1)
        seeds = pool(list(of_kind.values()))
        for name, difference in of_kind.items():
            own[name, kind] = _difference_to_zero(difference, seeds)
            if name != baseline:
                others[name, kind] = compare_quantities(difference, of_kind[baseline], seeds)
    differences, contrasts = adjust_differences(own), adjust_differences(others)
    return {
        name: [
            ApartScores(*quantities[name, kind], differences[name, kind], contrasts.get((name, kind)))
            for kind in range(len(kinds))
        ]
        for name in statistics
    }


def _difference_to_zero(difference: Quantity, seeds: VarianceEstimate) -> Difference:
    """Return a difference within a variant, with its intervals and p."""
    return Difference(
        difference.mean,
        difference.interval,
        pooled_spread(difference, seeds),
        own_spread(difference),
        p_value(difference.drawn.mean(0), difference.mean) if difference.scorable else None,
    )
