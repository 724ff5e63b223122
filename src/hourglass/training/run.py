"""A training from its start, or from a checkpoint, to its end."""

import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.pretrained import fill_embeddings
from hourglass.models.seq2seq import Seq2Seq, draw_evenly
from hourglass.runs.folder import clear, write_config
from hourglass.system.devices import is_main_process
from hourglass.system.project import code_version
from hourglass.tracking.settings import NoSettings
from hourglass.tracking.tracking import Tracking
from hourglass.training.alignments import Alignments
from hourglass.training.datamodule import TranslationData
from hourglass.training.fit import fit
from hourglass.training.job import THREADS, Job
from hourglass.training.module import TranslationModule
from hourglass.training.preparation import PreparedData
from hourglass.training.resuming import Progress, Start, code_digest, find_start, load_progress
from hourglass.training.saving import Checkpoints

log = logging.getLogger("hourglass")
CODE = code_digest()


def make_model(job: Job, prepared: PreparedData) -> Seq2Seq:
    """Build the model with its first weights, and check that it can take every sentence of the corpus."""
    torch.set_num_threads(job.settings.trainer.threads or THREADS)
    torch.manual_seed(job.config["seed"])
    vocabularies = prepared.vocabularies
    model = build_model(job.config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)
    if width := job.config["init_range"]:
        draw_evenly(model, width)
    for name, split in prepared.splits.items():
        model.decoder.attention.check_length(int(split.source_lengths.max()), name)
    log.info(
        "model: %s parameters; training: %s steps, padding %.1f %% of positions; folder %s",
        f"{model.parameter_count:,}",
        f"{prepared.stream.steps:,}",
        100 * prepared.stream.padding_share,
        job.run.path,
    )
    return model


def choose_start(job: Job, prepared: PreparedData, model: Seq2Seq) -> Start | None:
    """Return the checkpoint to resume from, of the same settings, data and vocabularies.

    Where there is none, fill in the pretrained embeddings, and return None: the training begins.

    Raises:
        UserError: the checkpoint does not fit, and the run was resumed by name.
    """
    start = _find_start(job, prepared)
    if start is None:
        fill_embeddings(model, job.config, prepared.vocabularies)
    return start


def _find_start(job: Job, prepared: PreparedData) -> Start | None:
    run = job.run
    try:
        # A user who resumes by name has decided. A stage that runs again, or a trial, has to be what its code makes it.
        code = CODE if job.config["if_exists"] == "continue" else None
        start = find_start(run.last, run.previous, job.config, prepared.vocabularies, prepared.corpus.digest, code=code)
    except UserError as reason:
        if job.config["if_exists"] == "refuse":
            raise
        if is_main_process():
            log.warning("starts clean, as there is %s", reason)
            clear(run)
        return None
    if start is not None and start.warning is not None and is_main_process():
        log.warning("%s", start.warning)
    return start


def open_tracking(job: Job, prepared: PreparedData) -> Tracking:
    """Return the tracking of the run, to be entered."""
    config, corpus = job.config, prepared.corpus
    tags = {
        "attention": config["attention"]["name"],
        "encoder": config["encoder"]["name"],
        "decoder": config["decoder"]["cell"],
        "seed": config["seed"],
        "corpus": corpus.facts["name"],
        **code_version(),
        **(job.ticket.tags if job.ticket is not None else {}),
    }
    return Tracking(
        job.settings.logger if is_main_process() else NoSettings(),
        job.run,
        tags=tags,
        config=config,
        dataset=(corpus.facts["name"], corpus.digest),
    )


def train_model(
    job: Job,
    prepared: PreparedData,
    model: Seq2Seq,
    tracking: Tracking,
    start: Start | None,
    *,
    callbacks: Sequence[pl.Callback] = (),
) -> Progress:
    """Train to the end of the budget, from a checkpoint if there is one.

    Args:
        job: the run.
        prepared: its data.
        model: with its first weights; those of a checkpoint replace them.
        tracking: of the run; entered.
        start: the checkpoint to resume from.
        callbacks: what else follows the training, such as the pruning of a sweep.

    Returns:
        How far the training came.
    """
    if is_main_process():
        write_config(job.run, job.config)
    run, stream, settings = job.run, prepared.stream, job.settings.trainer
    if start is not None and start.progress.finished:
        return start.progress
    dev = prepared.corpus.splits["dev"]
    dev_sentences = min(settings.dev_sentences or len(dev), len(dev))
    greedy = job.settings.search.greedy
    first_step = start.progress.step if start else 0
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
    others = list(callbacks)
    if settings.pictures:
        others.append(Alignments(run, prepared.splits["dev"], prepared.vocabularies, settings.pictures, first_step))
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
        logger=tracking.curves(first_step),
        resume=start.path if start else None,
    )
    return load_progress(run.last)
