"""The steps of a training, from its first weights or from a checkpoint to its end."""

import hashlib
import logging
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig

from hourglass.config.differences import PLACES
from hourglass.config.plugins import plugin_record
from hourglass.corpora.sampling import evenly_spaced
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.inputs import FeatureInput
from hourglass.models.pretrained import fill_embeddings
from hourglass.models.seq2seq import Seq2Seq, draw_evenly
from hourglass.runs.folder import clear, write_config
from hourglass.system.devices import is_main_process
from hourglass.system.machine import bfloat16_instructions
from hourglass.system.project import code_version
from hourglass.tracking.client import DESCRIPTION
from hourglass.tracking.settings import NoSettings
from hourglass.tracking.tracking import Tracking
from hourglass.training.alignments import Alignments
from hourglass.training.branching import branch_off
from hourglass.training.datamodule import TranslationData
from hourglass.training.fit import fit
from hourglass.training.freezing import copy_encoder, has_frozen_encoder, standardise_summary
from hourglass.training.job import OTHERWISE, THREADS, Job
from hourglass.training.module import TranslationModule
from hourglass.training.preparation import PreparedData
from hourglass.training.resuming import NEW_RUN, Progress, Start, code_digest, find_start, load_progress
from hourglass.training.saving import Checkpoints

log = logging.getLogger("hourglass")
# At import, before a file can change while the training runs.
CODE = code_digest()
# Characters of each part of a description; MLflow cuts tags at 8,000.
DESCRIPTION_LENGTH = 3000
# Pictures of train by which features are standardised.
STANDARDISED = 200


def meet_hosts(job: Job) -> None:
    """Under torchrun, wait for the other processes, before any long work, and check that they do the same.

    Raises:
        MachineLostError: one has ended or does not answer, or has other settings, code or run folder.
    """
    if job.hosts is not None:
        plugins = plugin_record(job.config)
        job.hosts.meet(job.run, {**job.config, "plugins": plugins}, CODE)


def compare_hosts(job: Job, prepared: PreparedData, start: Start | None) -> None:
    """Under torchrun, wait until all processes have prepared their data, and check that these are the same.

    Raises:
        MachineLostError: one has ended or does not answer, or has other data.
    """
    if job.hosts is not None:
        vocabularies = prepared.vocabularies.source.model + prepared.vocabularies.target.model
        job.hosts.compare(
            {
                "corpus": prepared.corpus.digest,
                "vocabulary": hashlib.sha256(vocabularies).hexdigest(),
                "checkpoint": str(start and start.progress.step),
            }
        )


def make_model(job: Job, prepared: PreparedData) -> Seq2Seq:
    """Build the model with its initial weights.

    Raises:
        UserError: the model cannot take the longest source of a split.
    """
    torch.set_num_threads(job.settings.trainer.threads or THREADS)
    torch.manual_seed(job.config["seed"])
    vocabularies = prepared.vocabularies
    model = build_model(job.config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)
    if width := job.config["init_range"]:
        draw_evenly(model, width)
    layer = getattr(model.encoder, "embedding", None)
    if isinstance(layer, FeatureInput):
        train = prepared.splits["train"]
        rows = np.array(evenly_spaced(len(train), STANDARDISED))
        layer.standardise(torch.from_numpy(np.concatenate(list(train.sources.rows(rows))).astype(np.float32)))
    for name, split in prepared.splits.items():
        model.check_length(int(split.source_lengths.max()), name)
    log.info(
        "model: %s parameters; training: %s steps, padding %.1f %% of positions; folder %s",
        f"{model.parameter_count:,}",
        f"{prepared.stream.steps:,}",
        100 * prepared.stream.padding_share,
        job.run.path,
    )
    trainer, instructions = job.settings.trainer, bfloat16_instructions()
    if trainer.precision == "32-true" and trainer.device.type == "cpu" and instructions and not job.config["resume"]:
        log.info(
            "this CPU has %s: trainer.precision=bf16-mixed may train faster: see pipelines/bench.py precisions",
            " and ".join(instructions),
        )
    return model


def choose_start(job: Job, prepared: PreparedData, model: Seq2Seq) -> Start | None:
    """Return the checkpoint to resume from, or None for a new training.

    A new training that starts from another run has a checkpoint of that run. For any other new training, copy
    pretrained embeddings and a frozen encoder into the model.

    Raises:
        UserError: the checkpoint is of other settings, data or vocabularies; not with
            if_exists=continue_or_replace.
    """
    start = _find_start(job, prepared)
    if start is None and job.config.get("start_from") is not None:
        vocabularies, digest = prepared.vocabularies, prepared.corpus.digest
        for warning in branch_off(job.run, job.config, vocabularies, digest, CODE):
            log.warning("%s", warning)
        start = _find_start(job, prepared)
    if start is None:
        fill_embeddings(model, job.config, prepared.vocabularies)
        if has_frozen_encoder(job.config):
            copy_encoder(model, job.config, prepared.vocabularies, prepared.corpus.digest)
            standardise_summary(model.encoder, prepared.splits["train"], prepared.stream.joined)
    return start


def _find_start(job: Job, prepared: PreparedData) -> Start | None:
    run, if_exists = job.run, job.config["if_exists"]
    # resume=PATH may continue with other code: the user asked for it. A command that runs again, such as a DVC stage or
    # a trial, must give what its code gives: the text of the code must be the same, or its fingerprint, a setting.
    code = None if if_exists == "refuse" or job.config.get("fingerprint") else CODE
    otherwise = OTHERWISE if if_exists == "continue" else NEW_RUN
    vocabularies, corpus = prepared.vocabularies, prepared.corpus.digest
    try:
        start = find_start(run.last, run.previous, job.config, vocabularies, corpus, code=code, otherwise=otherwise)
    except UserError as reason:
        if if_exists != "continue_or_replace":
            raise
        if is_main_process():
            log.warning("training starts anew: %s", reason)
            clear(run)
        return None
    if start is not None and is_main_process():
        for warning in start.warnings:
            log.warning("%s", warning)
    return start


def open_tracking(job: Job, prepared: PreparedData) -> Tracking:
    """Return the tracking of the run, a context manager; it tracks nothing in processes other than the first."""
    config, corpus = job.config, prepared.corpus
    tags = {
        "attention": config["attention"]["name"],
        "encoder": config["encoder"]["name"],
        "decoder": config["decoder"]["cell"],
        "seed": config["seed"],
        "corpus": corpus.facts.name,
        **code_version(),
        **{f"plugin {name}": entry["digest"] for name, entry in plugin_record(config).items()},
        **(job.ticket.tags if job.ticket is not None else {}),
        **describe_command(),
    }
    return Tracking(
        job.settings.logger if is_main_process() else NoSettings(),
        job.run,
        tags=tags,
        config=config,
        dataset=(corpus.facts.name, corpus.digest),
    )


def describe_command() -> dict[str, str]:
    """Return the tag that holds MLflow's description of the run, in Markdown: what it changes, and its command.

    Empty if no command line started the run, as in tests.
    """
    if not HydraConfig.initialized():
        return {}
    changed = [word for word in HydraConfig.get().overrides.task if re.split(r"[.=]", word)[0] not in PLACES]
    # Indented lines are code in Markdown, whatever they contain.
    code = [", ".join(changed) or "the default settings", f"python src/train.py {shlex.join(sys.argv[1:])}".rstrip()]
    return {DESCRIPTION: "\n\n".join(textwrap.indent(text[:DESCRIPTION_LENGTH], "    ") for text in code)}


def train_model(
    job: Job,
    prepared: PreparedData,
    model: Seq2Seq,
    tracking: Tracking,
    start: Start | None,
    *,
    callbacks: Sequence[pl.Callback] = (),
) -> Progress:
    """Train to the end of the budget.

    Args:
        job: the run.
        prepared: its data.
        model: with its initial weights; those of a checkpoint replace them.
        tracking: of the run, entered.
        start: the checkpoint to resume from; None: a new training.
        callbacks: of a sweep.

    Returns:
        Counters at the end, and the best scores on dev.
    """
    if is_main_process():
        write_config(job.run, job.config)
    run, settings = job.run, job.settings
    if start is not None and is_main_process():
        state = "trained already, to step" if start.progress.finished else "continuing at step"
        log.info("%s %s of %s", state, f"{start.progress.step:,}", f"{prepared.stream.steps:,}")
    if start is not None and start.progress.finished:
        return start.progress
    first_step = start.progress.step if start else 0
    resume = start.path if start else None
    module = TranslationModule(model, prepared, job.config, settings, code=CODE)
    data = TranslationData(
        prepared.splits,
        prepared.stream,
        batch_tokens=settings.search.batch_tokens,
        dev_sentences=settings.trainer.dev_sentences,
    )
    others = list(callbacks)
    if count := settings.trainer.pictures:
        patch = job.config["data"].get("patch")
        others.append(Alignments(run, prepared.splits["dev"], prepared.vocabularies, count, first_step, patch=patch))
    checkpoints = Checkpoints(
        run,
        settings.trainer,
        settings.metrics.main,
        steps=prepared.stream.steps,
        validate_every=prepared.stream.validate_every,
        stable=settings.optimizer.stable_steps(prepared.stream.steps),
        resume=resume,
    )
    loggers = tracking.loggers(first_step)
    fit(module, data, checkpoints=checkpoints, callbacks=others, loggers=loggers, resume=resume)
    return load_progress(run.last)
