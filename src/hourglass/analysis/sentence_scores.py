"""What an ablation keeps of a run in git: the scores of each test sentence, without the sentences.

Weights are too large for git, and translations are text, which is not always ours to keep. Counts and likelihoods of
single sentences are neither, and scores, intervals, bits and ladders of budgets can be computed from them again,
beside those of runs that are trained later.

Shapes: N test sentences.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hourglass.analysis.comparing import SentenceLengths
from hourglass.analysis.evaluation import TranslatedSentence
from hourglass.corpora.languages import count_words
from hourglass.errors import UserError
from hourglass.metrics import scoring
from hourglass.metrics.metrics import Metrics
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import Translation
from hourglass.system.arrays import read_arrays, write_arrays
from hourglass.system.records import read_record, write_record

# Of the layout of the files, and of what the scores in them mean.
VERSION = 1


@dataclass(frozen=True)
class TestScores:
    """The scores of a run over all test sentences.

    Attributes:
        ids_digest: of the ids of the sentences, in their order.
        test_digest: of ids, sources and references.
        edges: first number of source words of each length bucket.
        scores: as `metrics.scoring.score` returns them.
        examples: some of the sentences, with the run's translation by the name of its variant.
    """

    __test__ = False  # Not a test case for pytest.

    ids_digest: str
    test_digest: str
    edges: list[int]
    scores: dict[str, Any]
    examples: list[TranslatedSentence]


@dataclass(frozen=True)
class SentenceScores:
    """The scores of a run on test.

    Attributes:
        source_words: [N], at least 1.
        statistics: [N, counts] of the main metric.
        whole: over all sentences.
    """

    source_words: np.ndarray
    statistics: np.ndarray
    whole: TestScores

    @property
    def lengths(self) -> SentenceLengths:
        """The lengths of the sentences, in buckets."""
        return SentenceLengths(self.source_words, scoring.length_buckets(self.whole.edges))


def score_sentences(
    variant: str,
    rows: Sequence[Translation],
    *,
    edges: Sequence[int],
    examples: int,
    source_language: str,
    metrics: Metrics,
) -> SentenceScores:
    """Score the translations of a run.

    Args:
        variant: its name.
        rows: N translations.
        edges: first number of source words of each length bucket.
        examples: number of sentences that are kept with their translation, at even ranks of length, short to long.
        source_language: decides how words are counted.
        metrics: which scores.
    """
    source_words = np.array([max(edges[0], count_words(row.source, source_language)) for row in rows])
    sources, hypotheses = [row.source for row in rows], [row.hypothesis for row in rows]
    references = [row.references for row in rows]
    order = np.argsort(source_words, kind="stable")
    ranks = np.linspace(0, len(order) - 1, num=examples + 2).round().astype(int)[1:-1]
    whole = TestScores(
        ids_digest=lines_digest(row.id for row in rows),
        test_digest=lines_digest("\t".join([row.id, row.source, *row.references]) for row in rows),
        edges=list(edges),
        scores=scoring.score(hypotheses, references, sources, source_words.tolist(), edges=edges, metrics=metrics),
        examples=[
            TranslatedSentence(
                id=rows[index].id,
                source=rows[index].source,
                reference=rows[index].reference,
                source_words=int(source_words[index]),
                translations={variant: rows[index].hypothesis},
            )
            for index in order[ranks].tolist()
        ],
    )
    return SentenceScores(source_words, metrics.main.statistics(hypotheses, references, sources), whole)


def lines_digest(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_sentence_scores(folder: RunFolder, scores: SentenceScores) -> None:
    """Write the scores into the folder of a run."""
    own = scores.statistics
    counts = own.astype(np.int32) if np.issubdtype(own.dtype, np.integer) else own
    name = scoring.main_of(scores.whole.scores)
    write_arrays(folder.sentence_scores, {"source_words": scores.source_words.astype(np.int32), name: counts})
    write_record(folder.scores, scores.whole, VERSION)


def read_sentence_scores(folder: RunFolder, remedy: str) -> SentenceScores:
    """Read what `write_sentence_scores` has written.

    Args:
        folder: of the run.
        remedy: the command that makes the files again, for messages.

    Raises:
        UserError: a file is missing, damaged, or of another version.
    """
    whole = read_record(folder.scores, TestScores, VERSION, remedy)
    arrays = read_arrays(folder.sentence_scores)
    sentences, name = whole.scores.get("sentences"), scoring.main_of(whole.scores)
    shapes = {key: array.shape for key, array in arrays.items()}
    wanted = {"source_words": 1, name: 2}  # Their dimensions.
    if {key: len(shape) for key, shape in shapes.items()} != wanted or {shape[0] for shape in shapes.values()} != {
        sentences
    }:
        raise UserError(f"{folder.sentence_scores}: not of the {sentences} sentences of {folder.scores}: run {remedy}")
    statistics = arrays[name]
    if np.issubdtype(statistics.dtype, np.integer):
        statistics = statistics.astype(np.int64)
    return SentenceScores(arrays["source_words"].astype(np.int64), statistics, whole)
