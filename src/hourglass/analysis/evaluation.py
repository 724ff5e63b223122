"""The result of `experiments.evaluation.evaluate`, and the JSON file that holds it.

BLEU, chrF and the brevity penalty are those of sacreBLEU: the first two from 0 to 100, the last from 0 to 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from hourglass.analysis.convergence import Convergence, Doubling, all_converged
from hourglass.corpora.overlap import OverlapFacts
from hourglass.metrics.significance import AdjustedDifference, Difference, Estimate
from hourglass.system.records import read_record, write_record
from hourglass.training.finished import DevCurves, DevScores

# Of the dataclasses below: add 1 whenever a field is added, removed, renamed, or changes its meaning.
SCHEMA_VERSION = 1


LEARNING_RATE = "optimizer.learning_rate="

GridEnd = Literal["lowest", "highest"]
REVERSED_SOURCE = "encoder.reverse_source=true"


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


@dataclass(frozen=True)
class CorpusFacts:
    """A prepared corpus in numbers.

    Attributes:
        name: of its file in conf/data.
        source: source language.
        target: target language.
        pairs: number of pairs in each split.
        source_words: number of source words in each split.
        target_words: number of target words in each split.
        dropped: number of pairs dropped from train, by reason.
        leaks_removed: whether pairs of train with a sentence of dev or test were searched for and dropped.
        dev_pairs_in_test: pairs of dev that test holds, too.
        digest: of all sentences.
        leaks: pairs of train with a sentence of dev or test that are left.
        tokenizer: the vocabulary.
        target_tokens: number of target pieces in each split.
        source_words_of_test: number of test sentences by their number of source words.
        overlap: n-grams of dev and of test that train has, too, by split and side.
    """

    name: str
    source: str
    target: str
    pairs: dict[str, int]
    source_words: dict[str, int]
    target_words: dict[str, int]
    dropped: dict[str, int]
    leaks_removed: bool
    dev_pairs_in_test: int
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
        chrf: on test.
    """

    seed: int
    target_tokens: int
    target_tokens_per_second: float
    seconds: float
    dev: DevScores
    convergence: Convergence
    curves: DevCurves
    chrf: float


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
        bleu: with its interval and the value of each seed.
        copy_bleu: BLEU of the source as its own translation.
        chrf: character n-gram F-score.
        brevity_penalty: factor by which BLEU is lowered for short output.
        length_ratio: tokens of the output over tokens of the references.
    """

    bleu: Estimate | None
    copy_bleu: float | None
    chrf: float | None
    brevity_penalty: float | None
    length_ratio: float | None


@dataclass(frozen=True)
class BleuDifference:
    """BLEU of one of several variants less BLEU of the one that it is compared with.

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
        bleu: on all test sentences, with its interval and the value of each seed.
        chrf: mean over seeds.
        brevity_penalty: mean over seeds.
        length_ratio: tokens of the output over tokens of the references, mean over seeds.
        copy_bleu: BLEU of the source as its own translation.
        signature: sacreBLEU's, of BLEU.
        chrf_signature: sacreBLEU's, of chrF.
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
    bleu: Estimate
    chrf: float
    brevity_penalty: float
    length_ratio: float
    copy_bleu: float
    signature: str
    chrf_signature: str
    buckets: list[BucketScores]
    difference: BleuDifference | None
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
        difference: BLEU of the first less that of the second, where they differ in one trait alone.
    """

    first: str
    second: str
    differ_in: list[str]
    difference: Difference | None


@dataclass(frozen=True)
class CleanScores:
    """Scores of a variant on the clean part of the test set.

    Attributes:
        bleu: with its interval and the value of each seed.
        difference: to the baseline, with p adjusted for the number of variants; None for the baseline itself.
    """

    bleu: Estimate
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
        floor: BLEU that the baseline must reach before a slope over length is reported.
        sentences: of the test set.
        buckets: of its sentences, by length.
        variants: by name.
        slopes: how many BLEU a variant's lead over the baseline grows per 10 more source words, by variant; empty
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
    sentences: int
    buckets: list[SentenceBucket]
    variants: dict[str, VariantResult]
    slopes: dict[str, Difference]
    slopes_refused: str | None
    pairs: list[VariantPair]
    examples: list[TranslatedSentence]
    clean_part: CleanPart | None = None  # Older results lack it.

    @property
    def mean_source_words(self) -> float:
        """The mean number of source words of the test sentences."""
        return sum(bucket.sentences * (bucket.mean_source_words or 0) for bucket in self.buckets) / self.sentences


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Write an evaluation to a JSON file."""
    write_record(file, evaluation, SCHEMA_VERSION)


def read_evaluation(file: Path, command: str) -> Evaluation:
    """Read an evaluation from a JSON file.

    Args:
        file: where it is.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, Evaluation, SCHEMA_VERSION, command)


def grid_end(rate: float, tried: Iterable[float]) -> GridEnd | None:
    """Return the end of the learning rates tried at which a rate lies; None inside them, and of fewer than two."""
    rates = set(tried)
    if len(rates) < 2 or min(rates) < rate < max(rates):
        return None
    return "lowest" if rate <= min(rates) else "highest"


def rate_word(rate: float) -> str:
    """Return the override that sets a learning rate."""
    return f"{LEARNING_RATE}{rate}"


def _learning_rate(overrides: list[str]) -> float:
    return next(float(word.removeprefix(LEARNING_RATE)) for word in overrides if word.startswith(LEARNING_RATE))
