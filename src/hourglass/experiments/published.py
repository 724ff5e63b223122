"""Published systems side by side on Multi30k: which runs there are, their training, and the record kept of each.

The settings are in conf/published.yaml, the runs in pipeline/published/SOURCE-TARGET/SYSTEM-SEED; an interrupted run
resumes. The record of a run is committed: results/published/SOURCE-TARGET/SYSTEM-SEED.json and .npz (BLEU's counts of
every sentence, and no text). `published_scores` computes all scores from the records. A run whose record exists, with
the same settings, is not made again, on any machine.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat

from hourglass.analysis.convergence import judge_convergence
from hourglass.config.options import Config, build
from hourglass.config.plugins import plugin_words
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.metrics.scoring import length_buckets
from hourglass.metrics.translation import bleu_statistics
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import Translation, read_translations, rows_of, write_translations
from hourglass.system.arrays import UNREADABLE
from hourglass.system.commands import path_override
from hourglass.system.files import write_whole
from hourglass.system.project import ROOT
from hourglass.system.records import read_record, write_record
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training
from hourglass.training.preparation import folder_override

# Of PublishedRecord: add 1 whenever a field is added, removed, renamed, or changes its meaning.
RECORD_VERSION = 1


# The command that makes records and scores.
COMMAND = "python pipelines/published.py FOLDER"
# Keys of conf/published.yaml that are not part of the record.
COMMAND_KEYS = ("corpus", "only", "plugins")


Names = Annotated[list[str], Field(min_length=1)]


SEARCHES = ("greedy", "beam")


@dataclass(frozen=True)
class PublishedSettings:
    """conf/published.yaml.

    Attributes:
        systems: command line of each system.
        common: overrides of all systems.
        baseline: one of `systems`, which all others are compared with.
        directions: language codes of source and target, joined by a hyphen.
        tests: names of test sets.
        seeds: of each system.
        edges: least number of reference tokens of each length bucket.
        resamples: of the bootstrap.
        converged: share of the dev loss below which the last fifth of a budget counts as no gain.
    """

    systems: Names
    common: list[str]
    baseline: str
    directions: Names
    tests: Names
    seeds: Annotated[list[int], Field(min_length=1)]
    edges: list[int]
    resamples: Annotated[int, Field(ge=1000)]
    converged: PositiveFloat

    def __post_init__(self) -> None:
        length_buckets(self.edges)
        for option, entries in (("systems", self.systems), ("directions", self.directions), ("seeds", self.seeds)):
            if len(set(entries)) < len(entries):
                raise UserError(f"{option}: an entry stands twice")
        if self.baseline not in self.systems:
            raise UserError(f"baseline={self.baseline}: not among systems")
        for direction in self.directions:
            if not re.fullmatch(r"\w+-\w+", direction):
                raise UserError(f"directions={direction}: write SOURCE-TARGET, as in de-en")


@dataclass(frozen=True)
class PublishedRun:
    """One system, direction and seed, and the names of its files."""

    system: str
    direction: str
    seed: int

    @property
    def target(self) -> str:
        """Language code of the target."""
        return self.direction.split("-")[1]

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        name = re.sub(r"[^\w.]+", "-", self.system.removeprefix("experiment="))
        return RunFolder(ROOT / "pipeline" / "published" / self.direction / f"{name}-{self.seed}")

    def translations(self, search: str) -> Path:
        """The file of its translations of all test sets, by greedy or beam search."""
        return self.folder.path / f"translations.{search}.tsv"

    @property
    def record_file(self) -> Path:
        """The file of its `PublishedRecord`."""
        return ROOT / "results" / "published" / self.direction / f"{self.folder.path.name}.json"

    @property
    def counts_file(self) -> Path:
        """BLEU's counts of every test sentence, [N, 10] for each test set and search."""
        return self.record_file.with_suffix(".npz")


@dataclass(frozen=True)
class PublishedRecord:
    """The record of a run, beside BLEU's counts.

    Attributes:
        words: its command line, without folders.
        parameters: of the model.
        train_target_tokens: read in training.
        train_seconds: duration of training.
        tokenizer_digest: digest of the vocabularies.
        machine: processor, GPU, threads, versions.
        commit: of the code; None outside a checkout.
        dirty: whether files differed from that commit.
        corpus_digest: digest of the corpus's sentences.
        dev_loss: of the best checkpoint, nats per target token.
        gain_of_last_fifth: share by which the last fifth of the budget lowered the dev loss.
        no_better_since: see `Convergence`; None in older records.
    """

    words: list[str]
    parameters: int
    train_target_tokens: int
    train_seconds: float
    tokenizer_digest: str
    machine: dict[str, Any]
    commit: str | None
    dirty: bool | None
    corpus_digest: str
    dev_loss: float
    gain_of_last_fifth: float
    no_better_since: float | None = None


def published_settings(values: Config) -> PublishedSettings:
    """Return the checked settings of conf/published.yaml, without the keys of the command alone.

    Raises:
        UserError: a setting is unknown, missing, or outside its choices.
    """
    settings = {name: value for name, value in values.items() if name not in COMMAND_KEYS}
    try:
        return build(PublishedSettings, settings, "")
    except UserError as error:
        raise UserError(f"conf/published.yaml: {error}") from None


def list_published_runs(settings: PublishedSettings, directions: Sequence[str]) -> list[PublishedRun]:
    """Return all runs of these directions, the first seed of every system first.

    Raises:
        UserError: conf/published.yaml has no such direction.
    """
    for direction in directions:
        if direction not in settings.directions:
            raise UserError(f"{direction}: not in conf/published.yaml; it has {', '.join(settings.directions)}")
    return [
        PublishedRun(system, direction, seed)
        for seed in settings.seeds
        for direction in directions
        for system in settings.systems
    ]


def make_published_run(run: PublishedRun, settings: PublishedSettings, folder: str) -> bool:
    """Train a run, translate the test sets by greedy and beam search, and write its record.

    Args:
        run: the run.
        settings: of all runs.
        folder: of the corpus's raw files.

    Returns:
        False if the record was there already.
    """
    if is_recorded(run, settings):
        return False
    run.record_file.unlink(missing_ok=True)  # An interrupted run has no record.
    words = command_line(run, settings)
    place = [folder_override(folder, words), path_override("run_dir", run.folder.path), "if_exists=continue_or_replace"]
    run_training([*plugin_words(), *words, *place])
    finished = FinishedRun.open(run.folder.path)
    test, search = finished.prepared.corpus.splits["test"], finished.settings.search
    for name, search_settings in zip(SEARCHES, (search.greedy, search), strict=True):
        hypotheses = translate_split(
            finished.trained, test, search_settings, finished.settings.trainer.device, f"{run.system} {name} test"
        )
        write_translations(run.translations(name), rows_of(test, hypotheses))
    _record(run, finished, settings)
    return True


def _record(run: PublishedRun, finished: FinishedRun, settings: PublishedSettings) -> None:
    counts: dict[str, Any] = {
        f"{test}.{search}": bleu_statistics(
            [row.hypothesis for row in rows], [row.reference for row in rows], run.target
        ).astype(np.int32)
        for search in SEARCHES
        for test, rows in _by_test(read_translations(run.translations(search))).items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, **counts)
    write_whole(run.counts_file, content.getvalue())
    metrics, convergence = finished.metrics, judge_convergence(finished, settings.converged)
    record = PublishedRecord(
        words=command_line(run, settings),
        parameters=metrics.parameters,
        train_target_tokens=metrics.train_target_tokens,
        train_seconds=metrics.train_seconds,
        tokenizer_digest=metrics.tokenizer_digest,
        machine=metrics.machine,
        commit=metrics.commit,
        dirty=metrics.dirty,
        corpus_digest=metrics.corpus_digest,
        dev_loss=metrics.dev.loss,
        gain_of_last_fifth=convergence.gain_of_last_fifth,
        no_better_since=convergence.no_better_since,
    )
    write_record(run.record_file, record, RECORD_VERSION)  # Last: a run with a record is complete.


def command_line(run: PublishedRun, settings: PublishedSettings) -> list[str]:
    """Return the overrides of a run, without folders."""
    source, target = run.direction.split("-")
    return [
        *run.system.split(),
        *settings.common,
        "data=multi30k",
        f"data.source={source}",
        f"data.target={target}",
        f"data.test=[{','.join(settings.tests)}]",
        "trainer.test=false",
        "logger=csv",
        f"seed={run.seed}",
    ]


def is_recorded(run: PublishedRun, settings: PublishedSettings) -> bool:
    """Whether a run has a record with these settings; the commit may be another one.

    Raises:
        UserError: the record is damaged, or of another version.
    """
    return run.record_file.is_file() and read_published_record(run).words == command_line(run, settings)


def read_published_record(run: PublishedRun) -> PublishedRecord:
    """Read the record of a run.

    Raises:
        UserError: it is missing, damaged, or of another version; the message says how to make it again.
    """
    return read_record(run.record_file, PublishedRecord, RECORD_VERSION, f"{COMMAND}, after deleting this file")


def read_counts(run: PublishedRun) -> dict[str, np.ndarray]:
    """Return BLEU's counts of a run, [N, 10] under TEST.SEARCH.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(run.counts_file, allow_pickle=False) as content:
            return {name: content[name].astype(np.int64) for name in content.files}
    except (*UNREADABLE, AttributeError) as error:  # AttributeError: a single array, which is no archive.
        raise UserError(
            f"{run.counts_file}: not a whole file of counts ({error}): delete {run.record_file.name} beside it, "
            "and make the run again"
        ) from None


def _by_test(rows: Sequence[Translation]) -> dict[str, list[Translation]]:
    """Return the rows of each test set; an id is NAME-NUMBER."""
    return {name: list(group) for name, group in groupby(rows, key=lambda row: row.id.rsplit("-", 1)[0])}
