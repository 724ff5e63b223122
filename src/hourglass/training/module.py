"""Training: the batches that a Trainer is handed, the LightningModule with its validation, and the Trainer itself."""

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch.distributed
from torch import Tensor
from tqdm import tqdm

from hourglass.data.encoded import Batch
from hourglass.data.pieces import PAD
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.search import SearchSettings, search
from hourglass.errors import DivergedError
from hourglass.metrics.scoring import bleu
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.devices import die_with_parent, end_without_python
from hourglass.system.memory import keep_heap
from hourglass.training.graphs import GraphedLoss
from hourglass.training.optimizer import OptimizerSettings
from hourglass.training.progress import is_curve_point


class _Watched(NamedTuple):
    step: int
    loss: Tensor  # [], on the CPU once `done`
    done: torch.cuda.Event | None  # None: it is


class TranslationModule(pl.LightningModule):
    """A `Seq2Seq` with its training.

    Args:
        model: what is trained.
        vocabularies: kept in the checkpoint, so that a model never meets another vocabulary.
        config: the resolved settings, a plain mapping, kept in the checkpoint: model = build(config) + weights.
        corpus_digest: kept in the checkpoint, so that a training never goes on with other data.
        code: digest of the code, kept likewise.
        optimizer: settings of the optimizer.
        search_settings: how dev is decoded at a validation.
        steps: optimizer steps of the whole run.
        scheduled_sampling: see `TrainerSettings`.
        step_loop: likewise.
        cuda_graphs: likewise.
        seed: of dropout; step by step, so that a resumed run draws what an unbroken one draws.
        threads: CPU threads of this process; 0 leaves torch's choice.
        dev_references: the target text of the dev sentences that are read.
        target_language: picks BLEU's tokenizer.
    """

    def __init__(
        self,
        model: Seq2Seq,
        vocabularies: Vocabularies,
        config: Mapping[str, Any],
        *,
        corpus_digest: str,
        code: str,
        optimizer: OptimizerSettings,
        search_settings: SearchSettings,
        steps: int,
        scheduled_sampling: float,
        step_loop: bool,
        cuda_graphs: bool,
        seed: int,
        threads: int,
        dev_references: Sequence[str],
        target_language: str,
    ):
        super().__init__()
        self.model = model
        self.vocabularies = vocabularies
        self.config = config
        self.corpus_digest = corpus_digest
        self.code = code
        self.optimizer = optimizer
        self.search_settings = search_settings
        self.steps = steps
        self.scheduled_sampling = scheduled_sampling
        self.step_loop = step_loop
        self.cuda_graphs = cuda_graphs
        self.seed = seed
        self.threads = threads
        self.dev_references = dev_references
        self.target_language = target_language
        self._dev_loss = torch.zeros(2, dtype=torch.float64)  # nats, tokens
        self._dev_output: list[tuple[int, str]] = []
        self._watched: deque[_Watched] = deque()
        self.graphed: GraphedLoss | None = None

    def setup(self, stage: str) -> None:
        """Set what is this process's own; it may be one that Lightning has spawned."""
        keep_heap()
        if self.threads:
            torch.set_num_threads(self.threads)
        if self.trainer.strategy.launcher is not None:
            die_with_parent()
            end_without_python()
        # The bars' own lock is one between processes, of no use here, that a killed process leaves behind.
        tqdm.set_lock(threading.RLock())

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with the schedule advanced after each step."""
        optimizer = self.optimizer.make(self.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optimizer.rate(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Make ready what wants the model on its device."""
        if self.cuda_graphs:
            self.graphed = GraphedLoss(self.model, self.optimizer.label_smoothing, step_loop=self.step_loop)

    def on_train_end(self) -> None:
        """Give back the graphs' memory."""
        self.graphed = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout for this part of this step."""
        part = batch_idx % self.trainer.accumulate_grad_batches
        ticket = (self.global_step * self.trainer.accumulate_grad_batches + part) * self.trainer.world_size
        seed = self.seed * 1_000_000_007 + ticket + self.global_rank
        # torch.manual_seed takes a millisecond, as it sees to devices that are not there.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | dict[str, Any]:
        """Return this part's share of the loss, so that a step's gradient is that of the global batch's mean.

        Where a point of the curves is due, what the meter writes of it stands beside the loss.
        """
        read = batch.source, batch.source_lengths, batch.target
        if self.graphed is not None:
            loss = self.graphed(*read)
        else:
            sampling = self.scheduled_sampling * self.global_step / self.steps
            smoothing = self.optimizer.label_smoothing
            loss = self.model.loss(*read, smoothing, sampling=sampling, step_loop=self.step_loop)
        # DDP averages over ranks and Lightning over accumulated parts: both are undone.
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        share = loss.smoothed * parts / batch.step_tokens
        self._watch(share)
        if not is_curve_point(self.trainer, self.trainer.global_step + 1):
            return share
        tokens = (batch.target[:, 1:] != PAD).sum().clamp(min=1)
        mean = loss.smoothed.detach() / tokens  # Of this part and rank: a curve to look at.
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return {"loss": share, "point": {"train/loss": mean, "train/learning_rate": rate}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of all: Lightning would not clip for a fused optimizer in bf16-mixed, as it may unscale."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _watch(self, loss: Tensor) -> None:
        """See that losses are finite; on a GPU two steps late, as to wait for each would leave it without work."""
        copied, done = loss.detach().to("cpu", non_blocking=loss.is_cuda), None
        if loss.is_cuda:
            done = torch.cuda.Event()
            done.record()
        self._watched.append(_Watched(self.global_step, copied, done))
        self._see(2 if loss.is_cuda else 0)

    def _see(self, late: int) -> None:
        """Check the losses that are watched, but for the last `late` ones."""
        while len(self._watched) > late:
            watched = self._watched.popleft()
            if watched.done is not None:
                watched.done.synchronize()
            _check_finite(float(watched.loss), "training", watched.step)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._dev_loss = torch.zeros(2, dtype=torch.float64)
        self._dev_output = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the likelihood and translate greedily."""
        nll = self.model.loss(batch.source, batch.source_lengths, batch.target, step_loop=self.step_loop).nll
        _check_finite(float(nll), "dev", self.global_step)
        self._dev_loss += torch.tensor([float(nll), batch.step_tokens], dtype=torch.float64)
        found = search(self.model, batch.source, batch.source_lengths, self.search_settings)
        texts = self.vocabularies.target.decode([hypothesis.tokens for hypothesis in found])
        self._dev_output += zip(batch.rows.tolist(), texts, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Gather the ranks' parts, and log dev/loss (nats a token) and dev/bleu."""
        parts: list[Any] = [(self._dev_loss.tolist(), self._dev_output)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, (self._dev_loss.tolist(), self._dev_output))
        nats, tokens = (sum(column) for column in zip(*(loss for loss, _ in parts), strict=True))
        hypotheses = [text for _, text in sorted(pair for _, output in parts for pair in output)]
        _check_finite(nats / tokens, "dev", self.global_step)
        # The same numbers on every rank, so nothing is left to reduce.
        self.log("dev/loss", nats / tokens, prog_bar=True)
        self.log("dev/bleu", bleu(hypotheses, self.dev_references, self.target_language), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint complete in itself; one of a run that has diverged is not written."""
        self._see(0)
        checkpoint["hourglass"] = {
            "config": dict(self.config),
            "vocabularies": self.vocabularies.state_dict(),
            "corpus_digest": self.corpus_digest,
            "code": self.code,
        }


def _check_finite(loss: float, which: str, step: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the {which} loss is {loss} at step {step}: the run has diverged; set a lower "
            "optimizer.learning_rate, a longer optimizer.warmup or a lower optimizer.clip_norm"
        )
