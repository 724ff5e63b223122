"""Training: the LightningModule, its optimizer and schedule, validation by loss and BLEU, what a checkpoint holds."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor

from hourglass.data import Batch
from hourglass.model import Seq2Seq
from hourglass.scoring import bleu
from hourglass.search import SearchSettings, search
from hourglass.tokenizer import PAD, Vocabularies

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Literal["none", "linear", "sqrt", "inverse_sqrt"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the learning rate moves, and what else all optimizers share.

    Attributes:
        learning_rate: the peak.
        warmup: share of the run in which the rate rises linearly from 0 to the peak.
        decay: after it: none; linear or sqrt, to zero at the end of the run, the second with the square root of the
            way left; inverse_sqrt, with one over the square root of the step (Vaswani et al. 2017, section 5.3).
        clip_norm: largest norm of the gradient of a step (Pascanu et al. 2013); 0: no clipping.
        label_smoothing: mass of the training target spread over the vocabulary.
    """

    learning_rate: PositiveFloat
    warmup: Share
    decay: Decay
    clip_norm: NonNegativeFloat
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]

    def rate(self, step: int, steps: int) -> float:
        """Return the factor on the peak rate at `step` (from 0) of `steps`."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        left = max(0.0, 1 - (step - rise) / max(1, steps - rise))
        factors = {
            "none": 1.0,
            "linear": left,
            "sqrt": math.sqrt(left),
            "inverse_sqrt": math.sqrt(rise / (step + 1)),
        }
        return factors[self.decay]


@dataclass(frozen=True, kw_only=True)
class AdamSettings(Schedule):
    """Adam (Kingma and Ba 2015).

    Attributes:
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
    """

    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=(self.beta1, self.beta2), fused=True)


@dataclass(frozen=True, kw_only=True)
class SGDSettings(Schedule):
    """Stochastic gradient descent.

    Attributes:
        momentum: 0 for the plain form.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)]

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)


OPTIMIZERS: dict[str, type[AdamSettings] | type[SGDSettings]] = {"adam": AdamSettings, "sgd": SGDSettings}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The config group `trainer`.

    Attributes:
        accelerator: cpu, or gpu for whatever Lightning finds (auto takes the best there is).
        devices: processes on this machine, one a device.
        nodes: machines.
        strategy: auto for one device, ddp for several.
        precision: of Lightning.
        threads: CPU threads of each process; 0 leaves torch's choice.
        target_tokens: the budget: the run ends when it has read so many target tokens.
        batch_tokens: padded tokens of a global batch, on its longer side; one optimizer step, over all devices.
        accumulate: parts that each device cuts its share of a global batch into, one after the other.
        validations: how many times, evenly spaced, the dev split is read.
        dev_sentences: the first so many of it; 0: all.
        test_sentences: sentences translated at the end, the first so many; 0: all. Fewer are for trying out.
        test: whether the run ends by translating and scoring the test split.
        select: what "best" is on dev: bleu (highest) or loss (lowest).
        patience: validations without a new best after which the run stops; 0: never.
        checkpoint_every: steps between last.ckpt and the next; what a kill can lose.
        log_every: steps between points of the training curves.
    """

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: PositiveInt
    nodes: PositiveInt
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed"]
    threads: NonNegativeInt
    target_tokens: PositiveInt
    batch_tokens: PositiveInt
    accumulate: PositiveInt
    validations: PositiveInt
    dev_sentences: NonNegativeInt
    test_sentences: NonNegativeInt
    test: bool
    select: Literal["bleu", "loss"]
    patience: NonNegativeInt
    checkpoint_every: PositiveInt
    log_every: PositiveInt


class TranslationModule(pl.LightningModule):
    """A `Seq2Seq` with its training.

    Args:
        model: what is trained.
        vocabularies: kept in the checkpoint, so that a model never meets another vocabulary.
        config: the resolved settings, a plain mapping, kept in the checkpoint: model = build(config) + weights.
        optimizer: settings of the optimizer.
        search_settings: how dev is decoded at a validation.
        steps: optimizer steps of the whole run.
        seed: of dropout; step by step, so that a resumed run draws what an unbroken one draws.
        dev_references: the target text of the dev sentences that are read.
        target_language: picks BLEU's tokenizer.
    """

    def __init__(
        self,
        model: Seq2Seq,
        vocabularies: Vocabularies,
        config: Mapping[str, Any],
        *,
        optimizer: AdamSettings | SGDSettings,
        search_settings: SearchSettings,
        steps: int,
        seed: int,
        dev_references: Sequence[str],
        target_language: str,
    ):
        super().__init__()
        self.model = model
        self.vocabularies = vocabularies
        self.config = config
        self.optimizer = optimizer
        self.search_settings = search_settings
        self.steps = steps
        self.seed = seed
        self.dev_references = dev_references
        self.target_language = target_language
        # Kept in the checkpoint: what the run has read, and in how long, validation left out.
        self.target_tokens_read = 0
        self.training_seconds = 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=50)  # Tokens and seconds of the last parts.
        self._dev_loss = torch.zeros(2, dtype=torch.float64)  # nats, tokens
        self._dev_output: list[tuple[int, str]] = []

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with the schedule advanced after each step."""
        optimizer = self.optimizer.make(self.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimizer.rate(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout for this part of this step and start the clock."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        ticket = (self.global_step * self.trainer.accumulate_grad_batches + part) * self.trainer.world_size
        torch.manual_seed(self.seed * 1_000_000_007 + ticket + self.global_rank)
        self._started = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this part's share of the loss, so that a step's gradient is that of the global batch's mean."""
        loss = self.model.loss(batch.source, batch.source_lengths, batch.target, self.optimizer.label_smoothing)
        # DDP averages over ranks and Lightning over accumulated parts: both are undone.
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        share = loss.smoothed * parts / batch.step_tokens
        if not torch.isfinite(share):
            raise DivergedError(f"the training loss is {float(share)} at step {self.global_step}")
        tokens = (batch.target[:, 1:] != PAD).sum().clamp(min=1)
        self.log("train/loss", loss.smoothed.detach() / tokens)  # Of this part and rank: a curve to look at.
        return share

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count tokens and seconds."""
        stepped = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        tokens, seconds = int(batch.step_tokens) * stepped, time.perf_counter() - self._started
        self.target_tokens_read += tokens
        self.training_seconds += seconds
        self._recent.append((tokens, seconds))
        recent_tokens, recent_seconds = map(sum, zip(*self._recent, strict=True))
        self.log("tok/s", round(recent_tokens / recent_seconds), prog_bar=True, logger=False)
        self.log("train/tokens_per_second", recent_tokens / recent_seconds)
        self.log("train/target_tokens", float(self.target_tokens_read))
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._dev_loss = torch.zeros(2, dtype=torch.float64)
        self._dev_output = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the likelihood and translate greedily."""
        nll = self.model.loss(batch.source, batch.source_lengths, batch.target).nll
        self._dev_loss += torch.tensor([float(nll), float(batch.step_tokens)], dtype=torch.float64)
        found = search(self.model, batch.source, batch.source_lengths, self.search_settings)
        texts = self.vocabularies.target.decode([hypothesis.tokens for hypothesis in found])
        self._dev_output += zip(batch.rows.tolist(), texts, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Gather the ranks' parts, and log dev/loss (nats a token) and dev/bleu."""
        losses, outputs = [self._dev_loss], [self._dev_output]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, (self._dev_loss.tolist(), self._dev_output))
            losses = [torch.tensor(loss, dtype=torch.float64) for loss, _ in gathered]
            outputs = [output for _, output in gathered]
        nats, tokens = sum(losses[1:], losses[0]).tolist()
        hypotheses = [text for _, text in sorted(pair for output in outputs for pair in output)]
        references = self.dev_references[: len(hypotheses)]  # Fewer only in Lightning's sanity check.
        # The same numbers on every rank, so nothing is left to reduce.
        self.log("dev/loss", nats / tokens, prog_bar=True)
        self.log("dev/bleu", bleu(hypotheses, references, self.target_language), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint complete in itself: settings, vocabularies, counters."""
        checkpoint["hourglass"] = {
            "config": dict(self.config),
            "vocabularies": self.vocabularies.state_dict(),
            "target_tokens_read": self.target_tokens_read,
            "training_seconds": self.training_seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters up again."""
        self.target_tokens_read = checkpoint["hourglass"]["target_tokens_read"]
        self.training_seconds = checkpoint["hourglass"]["training_seconds"]


class DivergedError(RuntimeError):
    """The loss is no number any more."""


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, which has the time left, with tokens per second and without the logger's version."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """See the base."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
