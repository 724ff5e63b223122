"""Scores of the published systems, from the records of their runs, and the file scores.json that holds them.

Shapes: N test sentences, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hourglass.analysis.convergence import JUDGED_TOKENS
from hourglass.errors import UserError
from hourglass.experiments.published import (
    COMMAND,
    SEARCHES,
    PublishedRun,
    PublishedSettings,
    is_recorded,
    read_counts,
    read_published_record,
)
from hourglass.metrics.scoring import length_buckets
from hourglass.metrics.significance import (
    AdjustedDifference,
    Estimate,
    Quantity,
    adjust_differences,
    compare_quantities,
    draw_resamples,
    metric_quantity,
    pool,
)
from hourglass.metrics.translation import Bleu
from hourglass.system.records import read_record, write_record

# The counts hang on the language, the score of counts does not.
_BLEU = Bleu("en")

# Of the dataclasses below: add 1 whenever a field is added, removed, renamed, or changes its meaning.
SCORES_VERSION = 1


@dataclass(frozen=True)
class SystemTestScores:
    """BLEU of a system on one test set.

    Attributes:
        greedy: by greedy search.
        beam: by beam search.
        difference: to the baseline, by beam search, p adjusted for the number of systems; None for the baseline, and
            where the baseline has no runs.
    """

    greedy: Estimate
    beam: Estimate
    difference: AdjustedDifference | None


@dataclass(frozen=True)
class SystemScores:
    """A system with all its seeds. Lists have one entry for each seed, if not said otherwise.

    Attributes:
        parameters: of the model.
        seeds: that have a record.
        dev_loss: nats per target token.
        gain_of_last_fifth: share of the dev loss.
        converged: whether that gain is below the share in the settings; None: too short to be judged.
        train_target_tokens: read in training.
        train_seconds: duration of training.
        machines: processor, GPU, threads, versions.
        commits: of all seeds, each once, sorted.
        dirty: whether files differed from the commit, for any seed.
        words: command line of the first seed, without folders.
        scores: by test set.
        buckets: BLEU by beam search in each length bucket, all test sets together.
    """

    parameters: int
    seeds: list[int]
    dev_loss: list[float]
    gain_of_last_fifth: list[float]
    converged: list[bool | None]
    train_target_tokens: list[int]
    train_seconds: list[float]
    machines: list[dict[str, Any]]
    commits: list[str]
    dirty: bool
    words: list[str]
    scores: dict[str, SystemTestScores]
    buckets: list[Estimate]


@dataclass(frozen=True)
class ReferenceBucket:
    """Test sentences whose references are similarly long.

    Attributes:
        tokens: first and last number of reference tokens; None: no upper end.
        sentences: number of sentences.
        mean: number of reference tokens.
    """

    tokens: tuple[int, int | None]
    sentences: int
    mean: float


@dataclass(frozen=True)
class DirectionScores:
    """All systems of one direction that have records.

    Attributes:
        systems: by command line.
        buckets: length buckets that have sentences; none without systems.
        signature: of sacreBLEU.
    """

    systems: dict[str, SystemScores]
    buckets: list[ReferenceBucket]
    signature: str


@dataclass(frozen=True)
class PublishedScores:
    """Scores of all directions, by name (de-en)."""

    directions: dict[str, DirectionScores]

    @property
    def all_systems(self) -> list[SystemScores]:
        """The systems of all directions."""
        return [system for scores in self.directions.values() for system in scores.systems.values()]


def write_scores(file: Path, scores: PublishedScores) -> None:
    """Write scores.json."""
    write_record(file, scores, SCORES_VERSION)


def read_scores(file: Path) -> PublishedScores:
    """Read scores.json.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message says how to make it again.
    """
    return read_record(file, PublishedScores, SCORES_VERSION, COMMAND)


def score_published(settings: PublishedSettings) -> PublishedScores:
    """Score all systems by the runs that have records.

    Raises:
        UserError: records of a direction belong to different corpora, or a file is damaged.
    """
    return PublishedScores({direction: _score_direction(settings, direction) for direction in settings.directions})


def _score_direction(settings: PublishedSettings, direction: str) -> DirectionScores:
    all_runs = {
        system: [PublishedRun(system, direction, seed) for seed in settings.seeds] for system in settings.systems
    }
    recorded = {system: [run for run in runs if is_recorded(run, settings)] for system, runs in all_runs.items()}
    runs_of = {system: runs for system, runs in recorded.items() if runs}
    _check_one_corpus([run for runs in runs_of.values() for run in runs])
    target_signature = Bleu(direction.split("-")[1]).signature()
    if not runs_of:
        return DirectionScores({}, [], target_signature)
    bleu = {(system, search): _score(runs, search, settings) for system, runs in runs_of.items() for search in SEARCHES}
    counts = {system: [_all_tests(run, settings) for run in runs] for system, runs in runs_of.items()}
    tokens = next(iter(counts.values()))[0][:, -1]  # Of the references, [N].
    buckets, resamples = [], []
    for low, high in length_buckets(settings.edges):
        rows = np.flatnonzero((tokens >= low) & (tokens <= (high or np.inf)))
        if len(rows):
            buckets.append(ReferenceBucket((low, high), len(rows), float(tokens[rows].mean())))
            resamples.append((rows, draw_resamples(len(rows), settings.resamples)))
    differences = {test: _compare_systems(bleu, test, settings.baseline) for test in settings.tests}
    systems = {
        system: _describe_system(
            runs,
            settings,
            scores={
                test: SystemTestScores(
                    bleu[system, "greedy"][test].estimate,
                    bleu[system, "beam"][test].estimate,
                    differences[test].get(system),
                )
                for test in settings.tests
            },
            buckets=[
                metric_quantity(_BLEU, [seed[rows] for seed in counts[system]], drawn).estimate
                for rows, drawn in resamples
            ],
        )
        for system, runs in runs_of.items()
    }
    return DirectionScores(systems, buckets, target_signature)


def _check_one_corpus(runs: Sequence[PublishedRun]) -> None:
    files = {read_published_record(run).corpus_digest: run.record_file for run in runs}
    if len(files) > 1:
        raise UserError(
            f"{' and '.join(map(str, files.values()))}: of runs on different data: delete the one that is not of "
            "this corpus, and make the run again"
        )


def _describe_system(
    runs: Sequence[PublishedRun],
    settings: PublishedSettings,
    scores: dict[str, SystemTestScores],
    buckets: list[Estimate],
) -> SystemScores:
    records = [read_published_record(run) for run in runs]
    return SystemScores(
        parameters=records[0].parameters,
        seeds=[run.seed for run in runs],
        dev_loss=[record.dev_loss for record in records],
        gain_of_last_fifth=[record.gain_of_last_fifth for record in records],
        converged=[
            # Every run has the validations that it takes: its command line is written in the settings.
            record.gain_of_last_fifth < settings.converged
            if record.train_target_tokens >= JUDGED_TOKENS and record.no_better_since is None
            else None
            for record in records
        ],
        train_target_tokens=[record.train_target_tokens for record in records],
        train_seconds=[record.train_seconds for record in records],
        machines=[record.machine for record in records],
        commits=sorted({str(record.commit) for record in records}),
        dirty=any(record.dirty for record in records),
        words=records[0].words,
        scores=scores,
        buckets=buckets,
    )


def _compare_systems(
    bleu: Mapping[tuple[str, str], Mapping[str, Quantity]], test: str, baseline: str
) -> dict[str, AdjustedDifference]:
    """Return each system's difference to the baseline on one test set, by beam search; none without the baseline."""
    beam = {system: by_test[test] for (system, search), by_test in bleu.items() if search == "beam"}
    if baseline not in beam:
        return {}
    seeds = pool(list(beam.values()))
    return adjust_differences(
        {system: compare_quantities(own, beam[baseline], seeds) for system, own in beam.items() if system != baseline}
    )


def _score(runs: Sequence[PublishedRun], search: str, settings: PublishedSettings) -> dict[str, Quantity]:
    """Return BLEU of a system's seeds on each test set."""
    counts = [read_counts(run) for run in runs]
    names = {test: f"{test}.{search}" for test in settings.tests}
    return {
        test: metric_quantity(
            _BLEU, [seed[name] for seed in counts], draw_resamples(len(counts[0][name]), settings.resamples)
        )
        for test, name in names.items()
    }


def _all_tests(run: PublishedRun, settings: PublishedSettings) -> np.ndarray:
    """Return BLEU's counts of a run by beam search, all test sets after each other, [N, 10]."""
    counts = read_counts(run)
    return np.concatenate([counts[f"{test}.beam"] for test in settings.tests])
