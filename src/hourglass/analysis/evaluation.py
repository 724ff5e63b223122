"""The result of `experiments.evaluation.evaluate`, and the JSON file that holds it.

The score is that of the main metric (`Evaluation.metric`): BLEU, where nothing else is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from hourglass.analysis.convergence import Convergence, Doubling, all_converged
from hourglass.corpora.facts import PairFacts
from hourglass.corpora.overlap import OverlapFacts
from hourglass.metrics.metric import MetricFacts
from hourglass.metrics.significance import AdjustedDifference, Difference, Estimate
from hourglass.system.records import read_record, write_record
from hourglass.training.finished import DevCurves, DevScores

# Add 1 whenever a field is added, removed, renamed, or changes its meaning: of `CorpusFacts` and `Tuning`, and of what
# an `Evaluation` has beside them.
SCHEMA_VERSION = 1
EVALUATION_VERSION = 3


LEARNING_RATE = "optimizer.learning_rate="

GridEnd = Literal["lowest", "highest"]
REVERSED_SOURCE = "encoder.reverse_source=true"
# Of encoder and decoder, which have the same.
DROPOUT = ".dropout="


@dataclass(frozen=True)
class TokenizerFacts:
    """The vocabulary of a corpus.

    Attributes:
        digest: of all pieces.
        pieces: number of target pieces.
        joint: whether both languages share one vocabulary.
    """

    digest: str
    pieces: int
    joint: bool


@dataclass(frozen=True, kw_only=True)
class CorpusFacts(PairFacts):
    """A prepared corpus in numbers: its pairs, and what is counted over them.

    Attributes:
        digest: of all sentences.
        leaks: pairs of train with a sentence of dev or test that are left.
        tokenizer: the vocabulary.
        target_tokens: number of target pieces in each split.
        source_words_of_test: number of test sentences by their number of source words.
        overlap: n-grams of dev and of test that train has, too, by split and side.
    """

    digest: str
    leaks: int
    tokenizer: TokenizerFacts
    target_tokens: dict[str, int]
    source_words_of_test: dict[int, int]
    overlap: dict[str, dict[str, OverlapFacts]] | None = None  # Older results lack it.


@dataclass(frozen=True)
class Candidate:
    """One run of the small search for a variant's settings.

    Attributes:
        overrides: its settings, as words of the command line.
        dev_loss: nats per target token; None: its training diverged.
        target_tokens: read in training.
        seconds: of training.
    """

    overrides: list[str]
    dev_loss: float | None
    target_tokens: int
    seconds: float

    @property
    def learning_rate(self) -> float:
        """Its learning rate."""
        return _learning_rate(self.overrides)

    @property
    def dropout(self) -> float | None:
        """Its dropout; None of a candidate for the learning rate alone."""
        return _dropout(self.overrides)


@dataclass(frozen=True)
class Tuning:
    """The small search for a variant's settings.

    Attributes:
        chosen: overrides of the candidate with the lowest dev loss.
        candidates: all of them.
    """

    chosen: list[str]
    candidates: list[Candidate]

    @property
    def learning_rate(self) -> float:
        """The learning rate that was chosen."""
        return _learning_rate(self.chosen)

    @property
    def dropout(self) -> float | None:
        """The dropout that was chosen; None where none was searched."""
        return _dropout(self.chosen)

    @property
    def reverses_source(self) -> bool:
        """Whether the variant reads the source from its last word to its first."""
        return REVERSED_SOURCE in self.chosen

    @property
    def tries_reversed_source(self) -> bool:
        """Whether some candidate reads the source from its last word to its first."""
        return any(REVERSED_SOURCE in candidate.overrides for candidate in self.candidates)

    @property
    def edge(self) -> GridEnd | None:
        """The end of the grid at which the chosen learning rate lies; None inside it, or of a single rate."""
        return grid_end(self.learning_rate, [candidate.learning_rate for candidate in self.candidates])

    @property
    def seconds(self) -> float:
        """Training time of all candidates."""
        return sum(candidate.seconds for candidate in self.candidates)


@dataclass(frozen=True)
class SeedResult:
    """One training of a variant.

    Attributes:
        seed: of the run.
        target_tokens: read in training.
        target_tokens_per_second: speed of training.
        seconds: duration of training.
        dev: scores on dev of the checkpoint that was kept.
        convergence: whether the last fifth of the budget still lowered the dev loss.
        curves: dev scores during training.
        others: further scores on test, by name.
    """

    seed: int
    target_tokens: int
    target_tokens_per_second: float
    seconds: float
    dev: DevScores
    convergence: Convergence
    curves: DevCurves
    others: dict[str, float | None]


@dataclass(frozen=True)
class SentenceBucket:
    """Test sentences of similar length.

    Attributes:
        source_words: first and last number of source words; None: no upper end.
        sentences: number of sentences.
        mean_source_words: None for a bucket without sentences.
    """

    source_words: tuple[int, int | None]
    sentences: int
    mean_source_words: float | None


@dataclass(frozen=True)
class BucketScores:
    """Scores of a variant in one bucket, means over seeds; None for a bucket without sentences.

    Attributes:
        score: with its interval and the value of each seed.
        copied: the score of the source as its own output; None where the metric has none.
        brevity_penalty: factor by which BLEU is lowered for short output; None of other metrics.
        length_ratio: tokens of the output over tokens of the references; None of other metrics than BLEU.
        premature: percent of the outputs that are right as far as they go and end too early; None unless sequence
            accuracy or its error rate is among the metrics.
    """

    score: Estimate | None
    copied: float | None
    brevity_penalty: float | None
    length_ratio: float | None
    premature: float | None


@dataclass(frozen=True)
class ScoreDifference:
    """The score of one of several variants less that of the one that it is compared with.

    Attributes:
        whole: on all test sentences; p is adjusted for the number of variants.
        by_length: by the number of the bucket, for those that have sentences; p is adjusted for the number of all
            buckets of all variants.
    """

    whole: AdjustedDifference
    by_length: dict[int, AdjustedDifference]


@dataclass(frozen=True)
class VariantResult:
    """One variant of the ablation: what it is, how its trainings went, and how it scores on test.

    Attributes:
        config: settings of the first seed, without paths.
        traits: in what variants can differ, by name; see `Pair`.
        parameters: of the model.
        commits: git commits of the code, one or more.
        dirty: whether files differed from that commit.
        machine: processor, GPU and versions.
        threads: numbers of CPU threads, one or more.
        tuning: the search for its settings.
        seeds: its trainings.
        score: on all test sentences, with its interval and the value of each seed.
        others: further scores by name, means over seeds.
        brevity_penalty: of BLEU, mean over seeds; None of other metrics.
        length_ratio: tokens of the output over tokens of the references, mean over seeds; None of other metrics.
        premature: see `BucketScores`.
        copied: the score of the source as its own output; None where the metric has none.
        buckets: scores by length, in the order of `Evaluation.buckets`.
        difference: to the baseline; None for the baseline itself.
        doubling: what its first seed gains over half the budget.
    """

    config: dict[str, Any]
    traits: dict[str, str | bool | int]
    parameters: int
    commits: list[str]
    dirty: bool
    machine: dict[str, Any]
    threads: list[int]
    tuning: Tuning
    seeds: list[SeedResult]
    score: Estimate
    others: dict[str, float | None]
    brevity_penalty: float | None
    length_ratio: float | None
    premature: float | None
    copied: float | None
    buckets: list[BucketScores]
    difference: ScoreDifference | None
    doubling: Doubling | None = None  # Older results lack it.

    @property
    def converged(self) -> bool | None:
        """Whether it had converged, by what doubling the budget gained; None where that cannot be told.

        An older result, without a training of half the budget, is judged by the last fifth of each seed's.
        """
        if self.doubling is None:
            return all_converged(training.convergence.converged for training in self.seeds)
        risen = any(training.convergence.no_better_since is not None for training in self.seeds)
        return None if risen and self.doubling.converged else self.doubling.converged

    @property
    def dev_loss(self) -> float:
        """Mean over seeds, nats per target token."""
        return fmean(training.dev.loss for training in self.seeds)


@dataclass(frozen=True)
class VariantPair:
    """Two variants.

    Attributes:
        first: name of the one.
        second: name of the other.
        differ_in: names of the traits in which they differ.
        difference: the score of the first less that of the second, where they differ in one trait alone.
    """

    first: str
    second: str
    differ_in: list[str]
    difference: Difference | None


@dataclass(frozen=True)
class CleanScores:
    """Scores of a variant on the clean part of the test set.

    Attributes:
        score: with its interval and the value of each seed.
        difference: to the baseline, with p adjusted for the number of variants; None for the baseline itself.
    """

    score: Estimate
    difference: AdjustedDifference | None


@dataclass(frozen=True)
class CleanPart:
    """The test sentences whose target shares no n-gram of words with a training target: see `corpora.overlap`.

    Attributes:
        sentences: number of sentences.
        mean_source_words: of them.
        variants: scores by variant.
    """

    sentences: int
    mean_source_words: float
    variants: dict[str, CleanScores]


@dataclass(frozen=True)
class TranslatedSentence:
    """A test sentence with a translation by each variant's first seed.

    Attributes:
        id: of the sentence.
        source: its text.
        reference: its translation in the corpus.
        source_words: number of words.
        translations: by variant.
    """

    id: str
    source: str
    reference: str
    source_words: int
    translations: dict[str, str]


@dataclass(frozen=True)
class Evaluation:
    """The variants of one corpus, scored on the same test sentences.

    Attributes:
        corpus: in numbers.
        baseline: the variant that all others are compared with.
        resamples: of the bootstrap.
        converged: share of the dev loss; a smaller gain of the last fifth of a budget counts as converged.
        floor: points from the worst score that the baseline must have come before a slope over length is reported.
        metrics: facts of the main metric, and then of the others, by name.
        sentences: of the test set.
        buckets: of its sentences, by length.
        variants: by name.
        slopes: by how much a variant's difference to the baseline grows per 10 more source words, by variant; empty
            where `slopes_refused` gives the reason.
        slopes_refused: why there are no slopes; None where there are.
        pairs: each two variants.
        examples: some test sentences, short to long.
        clean_part: scores on the sentences that share no n-gram with train; None of a made corpus, whose sentences
            share what chance has them share, and where no sentence is clean.
    """

    corpus: CorpusFacts
    baseline: str
    resamples: int
    converged: float
    floor: float
    metrics: dict[str, MetricFacts]
    sentences: int
    buckets: list[SentenceBucket]
    variants: dict[str, VariantResult]
    slopes: dict[str, Difference]
    slopes_refused: str | None
    pairs: list[VariantPair]
    examples: list[TranslatedSentence]
    clean_part: CleanPart | None = None  # Older results lack it.

    @property
    def metric(self) -> MetricFacts:
        """The facts of the main metric."""
        return next(iter(self.metrics.values()))

    @property
    def main(self) -> str:
        """The name of the main metric."""
        return next(iter(self.metrics))

    @property
    def mean_source_words(self) -> float:
        """The mean number of source words of the test sentences."""
        return sum(bucket.sentences * (bucket.mean_source_words or 0) for bucket in self.buckets) / self.sentences


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Write an evaluation to a JSON file."""
    write_record(file, evaluation, EVALUATION_VERSION)


def read_evaluation(file: Path, command: str) -> Evaluation:
    """Read an evaluation from a JSON file.

    Args:
        file: where it is.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, Evaluation, EVALUATION_VERSION, command)


def mean_curve(curves: Sequence[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean of curves of one budget: pairs of target tokens read and value.

    The points of a rung of a ladder begin where it branches off. In some seeds a validation falls just before that, in
    others just after: so the curves are aligned at their ends, and points that some do not have are left out.

    Args:
        curves: of the seeds, or of variants; with as many target tokens from each point to the next.
    """
    most = min(map(len, curves))
    points = zip(*(curve[len(curve) - most :] for curve in curves), strict=True)
    return [(fmean(tokens for tokens, _ in each), fmean(value for _, value in each)) for each in points]


def grid_end(rate: float, tried: Iterable[float]) -> GridEnd | None:
    """Return the end of the learning rates tried at which a rate lies; None inside them, and of fewer than two."""
    rates = set(tried)
    if len(rates) < 2 or min(rates) < rate < max(rates):
        return None
    return "lowest" if rate <= min(rates) else "highest"


def rate_word(rate: float) -> str:
    """Return the override that sets a learning rate."""
    return f"{LEARNING_RATE}{rate}"


def _dropout(overrides: list[str]) -> float | None:
    return next((float(word.partition(DROPOUT)[2]) for word in overrides if DROPOUT in word), None)


def _learning_rate(overrides: list[str]) -> float:
    return next(float(word.removeprefix(LEARNING_RATE)) for word in overrides if word.startswith(LEARNING_RATE))
