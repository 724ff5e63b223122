"""The end of a run: scores on the test split, metrics.json, and the outcome for a sweep."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hourglass.config.plugins import plugin_record, resume_command
from hourglass.corpora.corpus import references_of
from hourglass.corpora.recipe import FEATURES
from hourglass.corpora.recipes import lengths_of
from hourglass.corpora.sampling import evenly_spaced
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.metrics.scoring import format_table, score
from hourglass.models.checkpoint import load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import rows_of, write_translations
from hourglass.system.files import read_json, write_json
from hourglass.system.machine import describe_machine
from hourglass.system.markup import visible
from hourglass.system.project import code_version
from hourglass.system.secrets import first_line
from hourglass.training.job import Job
from hourglass.training.jobs import Outcome
from hourglass.training.preparation import PreparedData
from hourglass.training.resuming import Progress

log = logging.getLogger(__name__)


def write_metrics(job: Job, prepared: PreparedData, model: Seq2Seq, progress: Progress) -> None:
    """Write metrics.json, with scores on the test split unless the run was pruned or has trainer.test=false.

    A finished run that is started again keeps what its file says of the training, whose machine and commit may be
    others than the present ones, and its scores: only what is missing is made.
    """
    metrics = _metrics_of(job.run, progress)
    tests = job.settings.trainer.test and not progress.pruned
    if metrics and (not tests or ("test" in metrics and job.run.translations.exists())):
        log.info("%s: complete, so test is not translated again (to do so, remove the file first)", job.run.metrics)
        return
    metrics = metrics or {**describe_run(job, prepared, model, progress), **code_version()}
    if tests:
        metrics["test"] = score_test(job, prepared)
    write_json(job.run.metrics, metrics)


def _metrics_of(run: RunFolder, progress: Progress) -> dict[str, Any]:
    """Return the content of metrics.json if it is that of this finished training, else nothing."""
    try:
        metrics: dict[str, Any] = read_json(run.metrics)
        return metrics if metrics["dev"] == progress.best else {}
    except (UserError, KeyError, TypeError):
        return {}


@contextmanager
def finishing_step(run: RunFolder, name: str) -> Iterator[None]:
    """Log an error in one line, with the command that repeats the step: the run is trained, and the rest is finished.

    Args:
        run: the run folder.
        name: of what the step makes.
    """
    try:
        yield
    except Exception as error:  # Whatever it is, the results do not depend on it.
        reason = first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        log.warning("%s: not made (%s); to make it: %s", name, visible(reason), resume_command(run.path))
        log.debug("%s", name, exc_info=True)


def score_test(job: Job, prepared: PreparedData) -> dict[str, Any]:
    """Translate the test split with best.ckpt, write the translations, and print and return the scores."""
    trained = load_trained(job.run.best)
    split = prepared.corpus.splits["test"]
    test = split.select(evenly_spaced(len(split), job.settings.trainer.test_sentences))
    search = job.settings.search
    torch.manual_seed(job.config["seed"])  # For search=sample: the same draws whichever process trained.
    hypotheses = translate_split(trained, test, search, job.settings.trainer.device, name="test")
    sources, references = list(test["source"]), references_of(test)
    write_translations(job.run.translations, rows_of(test, hypotheses))
    scores = score(
        hypotheses,
        references,
        sources,
        list(test["source_words"]),
        edges=job.config["edges"],
        metrics=job.settings.metrics,
        copies=FEATURES not in test.column_names,
    )
    part = "all" if len(test) == len(split) else "a sample of"
    method = "greedy" if search.beam == 1 else f"beam {search.beam}"
    method += "" if search.precision == 32 else f" in {search.precision}"
    print(f"\ntest: {part} {len(test):,} sentences, {method}, the model of step {trained.step:,} (best on dev)")
    print(format_table(scores, lengths_of(job.config["data"]["name"])), end="\n\n")
    return scores


def describe_run(job: Job, prepared: PreparedData, model: Seq2Seq, progress: Progress) -> dict[str, Any]:
    """Return the content of metrics.json apart from commit and test scores: dev scores, counts, corpus, machine."""
    return {
        "dev": progress.best,
        "pruned": progress.pruned,
        "seed": job.config["seed"],
        "search_precision": job.settings.search.precision,
        "parameters": model.parameter_count,
        "target_tokens_budget": job.settings.trainer.target_tokens,
        "train_target_tokens": progress.target_tokens,
        "train_target_tokens_per_second": progress.target_tokens / progress.seconds,
        "train_seconds": progress.seconds,
        "precision": job.settings.trainer.precision,
        "padding_share": prepared.stream.padding_share,
        "corpus": {**prepared.corpus.facts.present(), "digest": prepared.corpus.digest},
        "tokenizer_digest": prepared.vocabularies.digest,
        "pieces": {"source": prepared.vocabularies.source.size, "target": prepared.vocabularies.target.size},
        "machine": {**describe_machine(), "threads": torch.get_num_threads()},
        "plugins": plugin_record(job.config),
    }


def outcome_of(job: Job, prepared: PreparedData, model: Seq2Seq, progress: Progress) -> Outcome:
    """Return the outcome of a run, with the speed of translation if the sweep has it as an objective."""
    speed = measure_speed(job, prepared) if job.measures_speed else None
    return Outcome(str(job.run.path), progress.best, model.parameter_count, speed, progress.pruned)


def measure_speed(job: Job, prepared: PreparedData) -> float:
    """Return how many dev sentences the best model translates per second, with the settings of `search`."""
    dev = prepared.corpus.splits["dev"]
    trained, started = load_trained(job.run.best), time.perf_counter()
    translate_split(trained, dev, job.settings.search, job.settings.trainer.device, name="dev")
    return len(dev) / (time.perf_counter() - started)
