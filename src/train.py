"""Train a translation model, score it, track it: python src/train.py GROUP=CHOICE GROUP.KEY=VALUE ..."""

import dataclasses
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hourglass import jobs, runs, scoring, sweeping, usage
from hourglass.assembly import Config, build_model
from hourglass.checkpoints import Progress, Start, code_digest, find_start, load_progress, load_trained
from hourglass.devices import is_main_process, under_torchrun
from hourglass.errors import UserError, check_command_line, one_line_errors
from hourglass.imports import import_lightning
from hourglass.jobs import Outcome, Ticket
from hourglass.logger import MlflowSettings, NoSettings
from hourglass.model import Seq2Seq, draw_evenly
from hourglass.options import plain_values
from hourglass.preparation import Prepared, prepare
from hourglass.pretrained import check_files, fill_embeddings
from hourglass.runs import RunFolder
from hourglass.settings import Settings, check_settings
from hourglass.stopping import resumable
from hourglass.translation import translate_split

# Lightning takes seconds to import: what wants it is imported where the training begins, after all settings have been
# checked, and not by a sweep, whose jobs are processes of their own.
if TYPE_CHECKING:
    import pytorch_lightning as pl

    from hourglass.tracking import Tracking

log = logging.getLogger("hourglass")
# What torch takes by itself: a job of a sweep must not inherit the number of the job before it.
THREADS = torch.get_num_threads()
CODE = code_digest()


@dataclass(frozen=True)
class Job:
    """One run: where it lies and all that it was told."""

    run: RunFolder
    config: Config
    settings: Settings
    ticket: Ticket | None = None  # Where it is one of a sweep's.


@hydra.main(config_path="../conf", config_name="config", execution_whitelist=())
def main(composed: DictConfig) -> Any:
    """Run the training that the command line describes, or, in a sweep, start a child process that does."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return sweeping.run_job(composed)
    ticket = jobs.read_ticket()
    with one_line_errors(), jobs.answering(ticket) as answer:
        if not is_main_process():
            log.setLevel(logging.WARNING)  # The first process tells how it goes.
        job = open_job(composed, ticket)
        # A trial whose worker has died may still have the old child in its folder, which is about to stop.
        wait = ticket is not None and ticket.trial is not None
        with runs.at_work(job.run, wait=wait) if is_main_process() else nullcontext(), resumable(job.run):
            outcome = train(job)
        answer(outcome)
        return outcome.dev[job.settings.trainer.select]


def open_job(composed: DictConfig, ticket: Ticket | None) -> Job:
    """Check all settings, and make the run's folder, or find that of the run to go on with."""
    config = plain_values(composed)
    if config["resume"] is not None:
        run, config = runs.resume_run(str(config["resume"]), HydraConfig.get().overrides.task)
        return Job(run, config, check_settings(config))
    settings = check_settings(config)
    choices = HydraConfig.get().runtime.choices
    if choices.get("sweep") is not None:
        raise UserError(f"sweep={choices['sweep']}: needs -m: python src/train.py -m sweep={choices['sweep']} ...")
    if config["run_dir"] is None and under_torchrun():
        raise UserError("run_dir: not set; under torchrun set run_dir=PATH, a folder that all processes share")
    if not is_main_process():  # Only reads there.
        return Job(RunFolder(Path(config["run_dir"])), config, settings)
    check_files(config)
    run = runs.create_run(config["run_dir"], name_run(choices, config), continues=config["if_exists"] == "continue")
    return Job(run, config, settings, ticket)


def train(job: Job) -> Outcome:
    """Prepare, train, score and track one run, or what is left of it."""
    import_lightning()
    from hourglass import pictures  # noqa: PLC0415 (see above)
    from hourglass.tracking import Tracking  # noqa: PLC0415

    torch.set_num_threads(job.settings.trainer.threads or THREADS)
    prepared = prepare(job.config, job.settings)
    model = make_model(job, prepared)
    start = choose_start(job, prepared)
    if start is None:
        fill_embeddings(model, job.config, prepared.vocabularies)
    version = runs.code_version()
    with Tracking(
        job.settings.logger if is_main_process() else NoSettings(),
        job.run,
        tags=tags(job, prepared, version),
        config=job.config,
        dataset=(prepared.corpus.facts["name"], prepared.corpus.digest),
    ) as tracking:
        if is_main_process():
            runs.write_config(job.run, job.config)
        progress = train_model(job, prepared, model, tracking, start)
        outcome = Outcome(str(job.run.path), progress.best, count(model), pruned=progress.pruned)
        if not is_main_process():
            return outcome
        metrics = {**describe(job, prepared, model, progress), **version}
        if job.settings.trainer.test and not progress.pruned:
            metrics["test"] = score_test(job, prepared)
        runs.write_json(job.run.metrics, metrics)
        if job.settings.trainer.pictures:
            pictures.draw(job.run)
        if keeps_model(job):
            from hourglass.packing import pack  # noqa: PLC0415 (MLflow takes seconds to import)

            shutil.rmtree(job.run.model, ignore_errors=True)  # Of an earlier start.
            pack(job.run, job.run.model)
    if hint := tracking.hint():
        print(hint)
    print(f"run: {job.run.path}", flush=True)
    if job.ticket is not None and job.ticket.measure_speed:
        outcome = dataclasses.replace(outcome, sentences_per_second=measure_speed(job, prepared))
    return outcome


def keeps_model(job: Job) -> bool:
    """Whether the model is to be packed for MLflow."""
    logger = job.settings.logger
    return isinstance(logger, MlflowSettings) and (job.ticket is None if logger.model == "auto" else logger.model)


def make_model(job: Job, prepared: Prepared) -> Seq2Seq:
    """Build the model with its first weights, and see that it can take every sentence of the corpus."""
    torch.manual_seed(job.config["seed"])
    vocabularies = prepared.vocabularies
    model = build_model(job.config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)
    if width := job.config["init_range"]:
        draw_evenly(model, width)
    for name, split in prepared.splits.items():
        model.decoder.attention.check_length(int(split.source_lengths.max()), name)
    log.info(
        "model: %s parameters; training: %s steps, padding %.1f %% of positions; folder %s",
        f"{count(model):,}",
        f"{prepared.stream.steps:,}",
        100 * prepared.stream.padding_share,
        job.run.path,
    )
    return model


def choose_start(job: Job, prepared: Prepared) -> Start | None:
    """Return the checkpoint to go on from, one of these settings, data and vocabularies; None: begin."""
    run = job.run
    try:
        # Who resumes by name has decided; a stage that runs again, or a trial, is to be what its code makes it.
        code = CODE if job.config["if_exists"] == "continue" else None
        start = find_start(run.last, run.previous, job.config, prepared.vocabularies, prepared.corpus.digest, code=code)
    except UserError as reason:
        if job.config["if_exists"] == "refuse":
            raise
        if is_main_process():
            log.warning("starts clean, as there is %s", reason)
            runs.clear(run)
        return None
    if start is not None and start.warning is not None and is_main_process():
        log.warning("%s", start.warning)
    return start


def train_model(job: Job, prepared: Prepared, model: Seq2Seq, tracking: "Tracking", start: Start | None) -> Progress:
    """Train to the end, from a checkpoint if there is one, and return how it went."""
    from hourglass import pictures  # noqa: PLC0415 (see above)
    from hourglass.pruning import Pruning  # noqa: PLC0415
    from hourglass.saving import Checkpoints  # noqa: PLC0415
    from hourglass.training import TranslationData, TranslationModule, fit  # noqa: PLC0415

    run, stream, settings = job.run, prepared.stream, job.settings.trainer
    if start is not None and start.progress.finished:
        return start.progress
    dev = prepared.corpus.splits["dev"]
    dev_sentences = min(settings.dev_sentences or len(dev), len(dev))
    greedy = job.settings.search.greedy
    module = TranslationModule(
        model,
        prepared.vocabularies,
        job.config,
        corpus_digest=prepared.corpus.digest,
        code=CODE,
        optimizer=job.settings.optimizer,
        search_settings=greedy,
        steps=stream.steps,
        scheduled_sampling=settings.scheduled_sampling,
        step_loop=settings.step_loop,
        cuda_graphs=settings.cuda_graphs,
        seed=job.config["seed"],
        threads=settings.threads,
        dev_references=list(dev["target"][:dev_sentences]),
        target_language=prepared.corpus.target_language,
    )
    data = TranslationData(prepared.splits, stream, batch_tokens=greedy.batch_tokens, dev_sentences=dev_sentences)
    trial = job.ticket.trial if job.ticket is not None else None
    others: list[pl.Callback] = []
    if trial is not None and trial.objective:
        others.append(Pruning(trial, stream.validate_every))
    if settings.pictures:
        first_step = start.progress.step if start else 0
        others.append(
            pictures.Alignments(run, prepared.splits["dev"], prepared.vocabularies, settings.pictures, first_step)
        )
    checkpoints = Checkpoints(
        run,
        resume=start.path if start else None,
        every=settings.checkpoint_every,
        validate_every=stream.validate_every,
        steps=stream.steps,
        select=settings.select,
        keep=settings.keep,
    )
    fit(
        module,
        data,
        settings,
        checkpoints=checkpoints,
        others=others,
        logger=tracking.curves(start.progress.step if start else 0),
        resume=start.path if start else None,
    )
    return load_progress(run.last)


def score_test(job: Job, prepared: Prepared) -> dict[str, Any]:
    """Translate the test split with the model that was best on dev, write the translations and print the scores."""
    trained = load_trained(job.run.best)
    whole = prepared.corpus.splits["test"]
    test = whole.select(range(min(job.settings.trainer.test_sentences or len(whole), len(whole))))
    search = job.settings.search
    torch.manual_seed(job.config["seed"])  # Of draws: also where another process trained.
    found = translate_split(trained, test, search, job.settings.trainer.device, name="test")
    sources, references = list(test["source"]), list(test["target"])
    runs.write_translations(job.run.translations, zip(test["id"], sources, references, found, strict=True))
    scores = scoring.score(
        found,
        references,
        sources,
        list(test["source_words"]),
        edges=job.config["edges"],
        target_language=prepared.corpus.target_language,
    )
    part = "all" if len(test) == len(whole) else "only the first"
    how = "greedy" if search.beam == 1 else f"beam {search.beam}"
    print(f"\ntest: {part} {len(test):,} sentences, {how}, the model of step {trained.step:,} (best on dev)")
    print(scoring.format_table(scores), end="\n\n")
    return scores


def measure_speed(job: Job, prepared: Prepared) -> float:
    """Return how many dev sentences are translated in a second, by the model that is kept, as test is."""
    dev = prepared.corpus.splits["dev"]
    trained, started = load_trained(job.run.best), time.perf_counter()
    translate_split(trained, dev, job.settings.search, job.settings.trainer.device, name="dev")
    return len(dev) / (time.perf_counter() - started)


def describe(job: Job, prepared: Prepared, model: Seq2Seq, progress: Progress) -> dict[str, Any]:
    """Return what metrics.json says beside the scores."""
    return {
        "dev": progress.best,
        "pruned": progress.pruned,
        "seed": job.config["seed"],
        "parameters": count(model),
        "target_tokens_budget": job.settings.trainer.target_tokens,
        "train_target_tokens": progress.target_tokens,
        "train_target_tokens_per_second": progress.target_tokens / progress.seconds,
        "train_seconds": progress.seconds,
        "padding_share": prepared.stream.padding_share,
        "corpus": {**prepared.corpus.facts, "digest": prepared.corpus.digest},
        "tokenizer_digest": prepared.vocabularies.digest,
        "machine": {**runs.machine(), "threads": torch.get_num_threads()},
    }


def tags(job: Job, prepared: Prepared, version: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tracking lists a run by."""
    config = job.config
    names = {group: config[group]["name"] for group in ("attention", "encoder")}
    corpus = prepared.corpus.facts["name"]
    of_sweep = job.ticket.tags if job.ticket is not None else {}
    return {
        **names,
        "decoder": config["decoder"]["cell"],
        "seed": config["seed"],
        "corpus": corpus,
        **version,
        **of_sweep,
    }


def name_run(choices: Mapping[str, Any], config: Config) -> list[str]:
    """Return what names a run: corpus, attention and seed, and encoder and experiment where they are special."""
    special = [choices[group] for group in ("experiment", "encoder") if choices.get(group) not in (None, "null", "rnn")]
    return [choices["data"], *special, choices["attention"], f"s{config['seed']}"]


def count(model: Seq2Seq) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage.describe())
        raise SystemExit
    check_command_line("config")
    sweeping.register()
    with one_line_errors():
        main()
