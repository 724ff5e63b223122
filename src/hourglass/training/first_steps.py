"""Measure the fingerprint of a training: its real settings and data, through the first steps and one dev batch."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from hourglass.config.differences import PLACES
from hourglass.config.options import Config
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.batches import Part
from hourglass.runs.folder import RunFolder
from hourglass.training.datamodule import TranslationData
from hourglass.training.fingerprint import IDLE, Fingerprint
from hourglass.training.fit import fit
from hourglass.training.job import Job
from hourglass.training.module import TranslationModule
from hourglass.training.preparation import prepare
from hourglass.training.run import CODE, make_model
from hourglass.training.saving import Checkpoints
from hourglass.training.settings import check_settings

# Enough that clipping, the moments of Adam and dropout show in a loss; seconds for any variant.
STEPS, DEV_SENTENCES, RATES = 8, 32, 21


class _FirstSteps(pl.Callback):
    """Keep the losses of the first steps and the gradients of the very first, and end the training after them."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: dict[str, float] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self.gradients:
            weights = [(name, weight.grad) for name, weight in pl_module.named_parameters() if weight.grad is not None]
            self.gradients = {name: round_to(float(gradient.norm()), 5) for name, gradient in weights}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step >= STEPS:
            trainer.should_stop = True


def measure_fingerprint(config: Config) -> Fingerprint:
    """Train for a few steps, in a folder that is removed, and return what they show.

    Args:
        config: the resolved settings.

    Raises:
        UserError: as `check_settings` and `prepare`.
    """
    settings = check_settings(config)
    prepared = prepare(config, settings)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):  # Without a progress bar.
        job = Job(RunFolder(Path(scratch)), config, settings)
        model = make_model(job, prepared)
        stream, first_steps = prepared.stream, _FirstSteps()
        data = TranslationData(
            prepared.splits,
            stream,
            batch_tokens=settings.search.batch_tokens,
            dev_sentences=settings.trainer.dev_sentences,
        )
        module = TranslationModule(model, prepared, config, settings, code=CODE)
        checkpoints = Checkpoints(
            job.run,
            settings.trainer,
            settings.metrics.main,
            steps=stream.steps,
            validate_every=stream.validate_every,
            resume=None,
        )
        fit(module, data, checkpoints=checkpoints, callbacks=[first_steps], loggers=[], resume=None)
    dev = prepared.splits["dev"]
    rows = np.array(evenly_spaced(len(dev), DEV_SENTENCES))
    batch = dev[Part(rows, dev.loss_tokens(rows))]
    model.eval()
    with torch.no_grad():
        inputs = batch.source, batch.source_lengths, batch.target
        nats = model.loss(*inputs, prefix_lengths=batch.prefix_lengths).nll
    steps = stream.steps
    return Fingerprint(
        settings=_deciding(config),
        corpus=prepared.corpus.digest,
        vocabularies=prepared.vocabularies.digest,
        rates=[settings.optimizer.rate(step, steps) for step in np.linspace(0, steps - 1, RATES).astype(int).tolist()],
        train_losses=[round_to(loss, 6) for loss in first_steps.losses],
        gradients=first_steps.gradients,
        dev_loss=round_to(float(nats) / batch.step_tokens, 6),
    )


def _deciding(config: Config) -> dict[str, Any]:
    """Return the settings that the weights of a run or the choice of its best checkpoint hang on."""
    groups = {name: value for name, value in config.items() if name not in (*PLACES, "fingerprint", *IDLE)}
    trainer = {name: value for name, value in config["trainer"].items() if f"trainer.{name}" not in IDLE}
    return {**groups, "trainer": trainer}


def round_to(value: float, digits: int) -> float:
    """Return a value with so many significant digits."""
    return float(f"{value:.{digits}g}")
