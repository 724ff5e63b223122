"""The LightningModule of a training: loss, optimizer, dropout seeds, validation, and the content of checkpoints."""

import logging
import math
import threading
from collections import deque
from contextlib import nullcontext
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch.distributed
from torch import Tensor
from tqdm import tqdm

from hourglass.config.options import Config
from hourglass.config.plugins import load_plugins, plugin_record
from hourglass.corpora.corpus import references_of
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.encoded import Batch
from hourglass.data.pieces import PAD
from hourglass.decoding.precision import in_precision
from hourglass.decoding.search import search
from hourglass.errors import DivergedError
from hourglass.models.loss import without_prefixes
from hourglass.models.precision import in_bfloat16
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.devices import die_with_parent, end_without_python, under_torchrun
from hourglass.system.memory import keep_heap
from hourglass.training.freezing import freeze, has_frozen_encoder
from hourglass.training.graphs import GraphedLoss
from hourglass.training.preparation import PreparedData
from hourglass.training.progress import is_curve_point
from hourglass.training.settings import Settings

log = logging.getLogger(__name__)


class _PendingLoss(NamedTuple):
    step: int
    loss: Tensor  # [], on the CPU; valid once `copied` has happened
    copied: torch.cuda.Event | None  # None: the loss was computed on the CPU.


class TranslationModule(pl.LightningModule):
    """A `Seq2Seq` with its training.

    A checkpoint holds the resolved config, the vocabularies, and digests of the corpus, the code and the plugins, so
    that a model is loaded by build(config) + weights and a training never resumes with other data.

    Args:
        model: the model to train.
        prepared: corpus, vocabularies and training stream.
        config: the resolved settings, as plain values.
        settings: the same, checked and typed.
        code: digest of the code that trains.
    """

    def __init__(self, model: Seq2Seq, prepared: PreparedData, config: Config, settings: Settings, *, code: str):
        super().__init__()
        self.model = model
        self.has_frozen_encoder = has_frozen_encoder(config)
        if self.has_frozen_encoder:
            freeze(model.encoder)
        self.config = config
        self.settings = settings
        self.code = code
        self.plugins = plugin_record(config)
        # Not `prepared` itself: Lightning hands this object to every process that it spawns.
        self.vocabularies = prepared.vocabularies
        self.corpus_digest = prepared.corpus.digest
        self.steps = prepared.stream.steps
        dev = prepared.corpus.splits["dev"]
        chosen = dev.select(evenly_spaced(len(dev), settings.trainer.dev_sentences))
        self.dev_references, self.dev_sources = references_of(chosen), list(chosen["source"])
        self.greedy = settings.search.greedy
        self._dev_loss = torch.zeros(3, dtype=torch.float64)  # nats, smoothed nats, tokens
        self._dev_output: list[tuple[int, str]] = []
        self._dev_models: list[Seq2Seq] = []  # One, during a validation: in a list, it is no part of this module.
        self._pending: deque[_PendingLoss] = deque()
        self.graphed: GraphedLoss | None = None

    def setup(self, stage: str) -> None:
        """Prepare this process, which may be one that Lightning has spawned."""
        keep_heap()
        load_plugins(self.plugins)  # Those of the process that has spawned this one.
        if threads := self.settings.trainer.threads:
            torch.set_num_threads(threads)
        if self.trainer.strategy.launcher is not None and not under_torchrun():
            die_with_parent()
            end_without_python()
        # tqdm's default lock is shared between processes. A killed process leaves it locked, and no bar is shared.
        tqdm.set_lock(threading.RLock())

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, but that a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.has_frozen_encoder:
            freeze(self.model.encoder)
        return self

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its learning-rate schedule, which advances after each step."""
        settings, steps = self.settings.optimizer, self.steps
        optimizer = settings.make(self.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.rate(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Prepare CUDA graphs, now that the model is on its device."""
        if self.settings.trainer.cuda_graphs:
            log.warning(
                "trainer.cuda_graphs=true: faster, but its test at full size (tests/training/test_graphs.py) has not "
                "passed on a GPU yet: compare a result with one of trainer.cuda_graphs=false"
            )
            smoothing, step_loop = self.settings.optimizer.label_smoothing, self.settings.trainer.step_loop
            self.graphed = GraphedLoss(self.model, smoothing, step_loop=step_loop)

    def on_train_end(self) -> None:
        """Free the memory of the CUDA graphs."""
        self.graphed = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout for this part of this step, so that a resumed run draws what an uninterrupted one draws."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        ticket = (self.global_step * self.trainer.accumulate_grad_batches + part) * self.trainer.world_size
        seed = self.config["seed"] * 1_000_000_007 + ticket + self.global_rank
        # Not torch.manual_seed, which takes a millisecond, as it also seeds devices that this machine does not have.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | dict[str, Any]:
        """Return this part's share of the loss, such that a step's gradient is that of the mean over the global batch.

        Where the step is a point of the curves, the values for `Meter` are returned beside the loss.
        """
        trainer_settings, smoothing = self.settings.trainer, self.settings.optimizer.label_smoothing
        inputs = batch.source, batch.source_lengths, batch.target
        if self.graphed is not None:
            loss = self.graphed(*inputs, batch.prefix_lengths)
        else:
            sampling = trainer_settings.scheduled_sampling * self.global_step / self.steps
            with in_bfloat16(self.model) if trainer_settings.casts_weights else nullcontext():
                loss = self.model.loss(
                    *inputs,
                    smoothing,
                    sampling=sampling,
                    step_loop=trainer_settings.step_loop,
                    prefix_lengths=batch.prefix_lengths,
                )
        # DDP averages over ranks and Lightning over accumulated parts: undo both.
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        share = loss.smoothed * parts / batch.step_tokens
        self._check_loss_later(share)
        if not is_curve_point(self.trainer, self.trainer.global_step + 1):
            return share
        labels = batch.target[:, 1:]
        if batch.prefix_lengths is not None:
            labels = without_prefixes(labels, batch.prefix_lengths)
        tokens = (labels != PAD).sum().clamp(min=1)
        mean = loss.smoothed.detach() / tokens  # Of this part and rank: good enough for a curve.
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return {"loss": share, "point": {"train/loss": mean, "train/learning_rate": rate}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient by its norm over all weights.

        Lightning refuses to clip for a fused optimizer in bf16-mixed, because such an optimizer may unscale gradients.
        """
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _check_loss_later(self, loss: Tensor) -> None:
        """Queue a check that a loss is finite: at once on a CPU, two steps later on a GPU, which would idle else."""
        on_cpu, copied = loss.detach().to("cpu", non_blocking=loss.is_cuda), None
        if loss.is_cuda:
            copied = torch.cuda.Event()
            copied.record()
        self._pending.append(_PendingLoss(self.global_step, on_cpu, copied))
        self._check_pending(keep=2 if loss.is_cuda else 0)

    def _check_pending(self, keep: int) -> None:
        """Check the queued losses, but for the newest `keep`."""
        while len(self._pending) > keep:
            pending = self._pending.popleft()
            if pending.copied is not None:
                pending.copied.synchronize()
            _check_finite(float(pending.loss), "training", pending.step)

    def on_validation_epoch_start(self) -> None:
        """Clear the sums of the previous validation, and convert the model if dev is translated in less precision."""
        self._dev_models = [in_precision(self.model, self.greedy.precision)]
        self._dev_loss = torch.zeros(3, dtype=torch.float64)
        self._dev_output = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the negative log-likelihood and the smoothed loss, and translate greedily."""
        smoothing, step_loop = self.settings.optimizer.label_smoothing, self.settings.trainer.step_loop
        inputs = batch.source, batch.source_lengths, batch.target
        loss = self.model.loss(*inputs, smoothing, step_loop=step_loop, prefix_lengths=batch.prefix_lengths)
        _check_finite(float(loss.nll), "dev", self.global_step)
        self._dev_loss += torch.tensor([float(loss.nll), float(loss.smoothed), batch.step_tokens], dtype=torch.float64)
        # In the precision of the search, as test is translated, not in that of the training.
        with torch.autocast(self.device.type, enabled=False):
            prefixes = batch.prefixes()
            hypotheses = search(self._dev_models[0], batch.source, batch.source_lengths, self.greedy, prefixes=prefixes)
        outputs = [hypothesis.tokens for hypothesis in hypotheses]
        if prefixes is not None:  # The references have none either.
            outputs = [tokens[len(prefix) :] for tokens, prefix in zip(outputs, prefixes, strict=True)]
        texts = self.vocabularies.target.decode(outputs)
        self._dev_output += zip(batch.rows.tolist(), texts, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Gather the parts of all ranks, and log dev/loss (nats per token) and dev/METRIC.

        With label smoothing, dev/smoothed_loss is what the training minimises, on dev. The negative log-likelihood
        alone would favour early checkpoints: smoothing holds it above 0 however well a model has learnt.
        """
        parts: list[Any] = [(self._dev_loss.tolist(), self._dev_output)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, (self._dev_loss.tolist(), self._dev_output))
        nats, smoothed, tokens = (sum(column) for column in zip(*(loss for loss, _ in parts), strict=True))
        hypotheses = [text for _, text in sorted(pair for _, output in parts for pair in output)]
        self._dev_models = []
        _check_finite(nats / tokens, "dev", self.global_step)
        # Every rank has the same numbers, so Lightning has nothing to reduce.
        self.log("dev/loss", nats / tokens, prog_bar=True)
        if self.settings.optimizer.label_smoothing:
            self.log("dev/smoothed_loss", smoothed / tokens)
        metric = self.settings.metrics.main
        self.log(f"dev/{metric.name}", metric.total(hypotheses, self.dev_references, self.dev_sources), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint self-contained.

        Raises:
            DivergedError: a loss is not finite; no checkpoint is written then.
        """
        self._check_pending(keep=0)
        checkpoint["hourglass"] = {
            "config": dict(self.config),
            "vocabularies": self.vocabularies.state_dict(),
            "corpus_digest": self.corpus_digest,
            "code": self.code,
            "plugins": self.plugins,
        }


def _check_finite(loss: float, name: str, step: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the {name} loss is {loss} at step {step}: the run has diverged; set a lower "
            "optimizer.learning_rate, a longer optimizer.warmup or a lower optimizer.clip_norm"
        )
