"""Published systems side by side on Multi30k: who is trained, and what each scores on each test set and by length.

The file is conf/published.yaml. Runs lie in pipeline/published/SOURCE-TARGET/SYSTEM-SEED; one that was killed goes on.
What the table is made of is kept beside it and committed, results/published/SOURCE-TARGET/SYSTEM-SEED.json and .npz
(the counts of BLEU, sentence by sentence, and no text): a run whose record is there, of the same settings, is not made
again, on whatever machine.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat

from hourglass.analysis.convergence import judge_convergence
from hourglass.config.compose import path_override
from hourglass.config.options import build, read_settings
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.metrics.scoring import bleu_statistics, length_buckets, signature
from hourglass.metrics.significance import Quantity, bleu_quantity, compare, draw, pool
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder, open_run
from hourglass.runs.translations import Translation, read_translations, write_translations
from hourglass.system.files import read_json, write_json, write_whole
from hourglass.system.project import ROOT
from hourglass.training.jobs import run_training
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_to_read

Names = Annotated[list[str], Field(min_length=1)]


SEARCHES = ("greedy", "beam")


@dataclass(frozen=True)
class PublishedSettings:
    """conf/published.yaml.

    Attributes:
        systems: the words of each system's command line.
        common: words that all systems are given.
        baseline: one of `systems`, which all others are compared with.
        directions: language codes of source and target, with a hyphen.
        tests: names of test sets.
        seeds: of each system.
        edges: least number of reference tokens of each bucket by length.
        resamples: of the bootstrap.
        converged: share of the dev loss under which the last fifth of a budget counts as no gain.
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
class Run:
    """One system, direction and seed."""

    system: str
    direction: str
    seed: int

    @property
    def folder(self) -> RunFolder:
        """Where it lies."""
        name = re.sub(r"[^\w.]+", "-", self.system.removeprefix("experiment="))
        return RunFolder(ROOT / "pipeline" / "published" / self.direction / f"{name}-{self.seed}")

    def translations(self, search: str) -> Path:
        """The file of its translations of all test sets."""
        return self.folder.path / f"translations.{search}.tsv"

    @property
    def record(self) -> Path:
        """What is kept of it: settings, dev losses, counts of tokens and parameters, machine, commit."""
        return ROOT / "results" / "published" / self.direction / f"{self.folder.path.name}.json"

    @property
    def counts(self) -> Path:
        """BLEU's counts of every test sentence, [N, 10] for each test set and search."""
        return self.record.with_suffix(".npz")


def load_published(file: Path = ROOT / "conf" / "published.yaml") -> PublishedSettings:
    """Read and check conf/published.yaml.

    Raises:
        UserError: it is missing, or a setting is wrong; the message names the file.
    """
    return read_settings(file, lambda content: build(PublishedSettings, content, "published"))


def runs_of(settings: PublishedSettings, directions: Sequence[str]) -> list[Run]:
    """Return all runs of these directions, the first seed of every system first.

    Raises:
        UserError: the file has no such direction.
    """
    for direction in directions:
        if direction not in settings.directions:
            raise UserError(f"{direction}: not in conf/published.yaml; it has {', '.join(settings.directions)}")
    return [
        Run(system, direction, seed)
        for seed in settings.seeds
        for direction in directions
        for system in settings.systems
    ]


def make_run(run: Run, settings: PublishedSettings, folder: str) -> bool:
    """Train a run and translate the test sets by it, greedily and by beam.

    Args:
        run: which.
        settings: of the table.
        folder: with the corpus's raw files.

    Returns:
        whether there was anything to do.
    """
    words = words_of(run, settings)
    if is_made(run, settings):
        return False
    run.record.unlink(missing_ok=True)  # From here on it is not made.
    corpus = path_override("data.folder", Path(folder).expanduser().resolve())
    run_training([*words, corpus, path_override("run_dir", run.folder.path), "if_exists=continue"])
    _, config = open_run(str(run.folder.path), "run")
    checked, trained = check_to_read(config), load_trained(run.folder.best)
    test = prepare(config, checked).corpus.splits["test"]
    searches = dict(zip(SEARCHES, (checked.search.greedy, checked.search), strict=True))
    for name, search in searches.items():
        found = translate_split(trained, test, search, checked.trainer.device, f"{run.system} {name} test")
        write_translations(run.translations(name), zip(test["id"], test["source"], test["target"], found, strict=True))
    write_record(run, settings)
    return True


def write_record(run: Run, settings: PublishedSettings) -> None:
    """Keep of a run, trained and translated, what the table is made of."""
    metrics = read_json(run.folder.metrics)
    _, gain = judge_convergence(run.folder, settings.converged)
    target = run.direction.split("-")[1]
    counts: dict[str, Any] = {
        f"{test}.{search}": bleu_statistics(
            [row.hypothesis for row in rows], [row.reference for row in rows], target
        ).astype(np.int32)
        for search in SEARCHES
        for test, rows in _by_test(read_translations(run.translations(search))).items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, **counts)
    write_whole(run.counts, content.getvalue())
    kept = ("parameters", "train_target_tokens", "train_seconds", "tokenizer_digest", "machine", "commit", "dirty")
    record = {
        "words": words_of(run, settings),
        **{name: metrics[name] for name in kept},
        "corpus_digest": metrics["corpus"]["digest"],
        "dev_loss": metrics["dev"]["loss"],
        "gain_of_last_fifth": gain,
    }
    write_json(run.record, record)  # The last: a run with a record is made.


def words_of(run: Run, settings: PublishedSettings) -> list[str]:
    """Return what a run's command line says, but for where things lie."""
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


def is_made(run: Run, settings: PublishedSettings) -> bool:
    """Whether a run's record is there, of these settings; of which commit it is, it says itself."""
    return run.record.is_file() and read_json(run.record)["words"] == words_of(run, settings)


def summarise(settings: PublishedSettings) -> dict[str, Any]:
    """Return all scores of the runs that are made: plain values.

    A system is in it, for a direction, with the seeds that are made.
    """
    return {
        direction: {**_direction(settings, direction), "signature": signature(direction.split("-")[1])}
        for direction in settings.directions
    }


def _direction(settings: PublishedSettings, direction: str) -> dict[str, Any]:
    all_runs = {system: [Run(system, direction, seed) for seed in settings.seeds] for system in settings.systems}
    some = {system: [run for run in runs if is_made(run, settings)] for system, runs in all_runs.items()}
    made = {system: runs for system, runs in some.items() if runs}
    digests = {read_json(run.record)["corpus_digest"]: run.record for runs in made.values() for run in runs}
    if len(digests) > 1:
        raise UserError(
            f"{' and '.join(map(str, digests.values()))}: of runs on different data: delete the one that is not of "
            "this corpus, and make the run again"
        )
    if not made:
        return {"systems": {}}
    measured = {
        (system, search): _measure(runs, search, settings) for system, runs in made.items() for search in SEARCHES
    }
    beams = {system: [_joined(run, settings) for run in runs] for system, runs in made.items()}
    tokens = next(iter(beams.values()))[0][:, -1]  # of the references, [N]
    found: dict[str, Any] = {"systems": {}, "buckets": []}
    inside = []
    for low, high in length_buckets(settings.edges):
        rows = np.flatnonzero((tokens >= low) & (tokens <= (high or np.inf)))
        if len(rows):
            inside.append((rows, draw(len(rows), settings.resamples)))
            found["buckets"].append({"tokens": [low, high], "sentences": len(rows), "mean": float(tokens[rows].mean())})
    for system, runs in made.items():
        records = [read_json(run.record) for run in runs]
        scores = {
            test: {search: measured[system, search][test].plain() for search in SEARCHES} for test in settings.tests
        }
        if settings.baseline in made and system != settings.baseline:
            for test in settings.tests:
                everyone = [measured[other, "beam"][test] for other in made]
                base = measured[settings.baseline, "beam"][test]
                scores[test]["difference"] = asdict(compare(measured[system, "beam"][test], base, pool(everyone)))
        found["systems"][system] = {
            "parameters": records[0]["parameters"],
            "seeds": [run.seed for run in runs],
            "dev_loss": [one["dev_loss"] for one in records],
            "gain_of_last_fifth": [one["gain_of_last_fifth"] for one in records],
            "converged": [one["gain_of_last_fifth"] < settings.converged for one in records],
            "train_target_tokens": [one["train_target_tokens"] for one in records],
            "train_seconds": [one["train_seconds"] for one in records],
            "machines": [one["machine"] for one in records],
            "commits": sorted({str(one["commit"]) for one in records}),
            "dirty": any(one["dirty"] for one in records),
            "words": records[0]["words"],
            "scores": scores,
            "buckets": [bleu_quantity([one[rows] for one in beams[system]], counts).plain() for rows, counts in inside],
        }
    return found


def _measure(runs: Sequence[Run], search: str, settings: PublishedSettings) -> dict[str, Quantity]:
    """Return BLEU of a system's seeds on each test set."""
    counts = [read_counts(run) for run in runs]
    names = {test: f"{test}.{search}" for test in settings.tests}
    return {
        test: bleu_quantity([one[name] for one in counts], draw(len(counts[0][name]), settings.resamples))
        for test, name in names.items()
    }


def _joined(run: Run, settings: PublishedSettings) -> np.ndarray:
    """Return BLEU's counts of a run's translations by beam, all test sets after each other, [N, 10]."""
    counts = read_counts(run)
    return np.concatenate([counts[f"{test}.beam"] for test in settings.tests])


def read_counts(run: Run) -> dict[str, np.ndarray]:
    """Return BLEU's counts of a run, [N, 10] under TEST.SEARCH.

    Raises:
        UserError: the file is missing, or not whole.
    """
    try:
        with np.load(run.counts, allow_pickle=False) as content:
            return {name: content[name].astype(np.int64) for name in content.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{run.counts}: not a whole file of counts ({error}): delete {run.record.name} beside it, "
            "and make the run again"
        ) from None


def _by_test(rows: Sequence[Translation]) -> dict[str, list[Translation]]:
    """Return the rows of each test set; an id is NAME-NUMBER."""
    return {name: list(some) for name, some in groupby(rows, key=lambda row: row.id.rsplit("-", 1)[0])}
