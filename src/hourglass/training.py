"""Training: the batches that a Trainer is handed, the LightningModule with its validation, and the Trainer itself."""

import logging
import math
import multiprocessing
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from hourglass.data import Batch, EncodedSplit, Part, StreamSampler, TrainingStream, in_order
from hourglass.devices import die_with_parent, end_without_python, under_torchrun
from hourglass.errors import BrokenOffError, DivergedError, UserError
from hourglass.graphs import GraphedLoss
from hourglass.heap import keep_heap
from hourglass.model import Seq2Seq
from hourglass.optimizer import OptimizerSettings
from hourglass.saving import Checkpoints, WholeFiles
from hourglass.scoring import bleu
from hourglass.search import SearchSettings, search
from hourglass.stopping import SIGTERM_STATUS, check_memory
from hourglass.tokenizer import PAD, Vocabularies
from hourglass.trainer import TrainerSettings


class TranslationData(pl.LightningDataModule):
    """Hands the Trainer its batches: the training stream, and the dev split dealt out over the ranks.

    Args:
        splits: of `encode_corpus`.
        stream: of the training split.
        batch_tokens: padded tokens of a dev batch.
        dev_sentences: how many dev sentences are read at a validation, from the first; 0: all.
    """

    def __init__(
        self, splits: dict[str, EncodedSplit], stream: TrainingStream, *, batch_tokens: int, dev_sentences: int
    ):
        super().__init__()
        self.splits, self.stream, self.batch_tokens = splits, stream, batch_tokens
        self.dev_sentences = dev_sentences or len(splits["dev"])
        self.first_step = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the rest of the stream: a resumed run goes on with the batch after the checkpoint's last."""
        assert self.trainer is not None
        sampler = StreamSampler(
            self.stream,
            first_step=self.first_step,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            accumulate=self.trainer.accumulate_grad_batches,
        )
        return DataLoader(self.splits["train"], batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's dev batches: every sentence on one rank, once.

        Raises:
            UserError: there are fewer sentences than ranks.
        """
        assert self.trainer is not None
        dev, ranks = self.splits["dev"], self.trainer.world_size
        lengths = dev.source_lengths[: self.dev_sentences], dev.target_lengths[: self.dev_sentences]
        if (sentences := len(lengths[0])) < ranks:
            raise UserError(f"trainer.dev_sentences: {sentences} for {ranks} processes; read at least {ranks}")
        batches = in_order(*lengths, self.batch_tokens)
        if len(batches) < ranks:
            # Lightning skips validation on a rank without a batch, and the others would wait for it for ever.
            batches = np.array_split(np.concatenate(batches), ranks)
        share = batches[self.trainer.global_rank :: ranks]
        parts = [Part(batch, int(lengths[1][batch].sum())) for batch in share]
        return DataLoader(dev, batch_size=None, sampler=parts)

    def state_dict(self) -> dict[str, int]:
        """Return how far the stream was read, for the checkpoint."""
        assert self.trainer is not None
        return {"first_step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where the checkpoint stopped."""
        self.first_step = state_dict["first_step"]


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
        if not _is_point(self.trainer, self.trainer.global_step + 1):
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


def _is_point(trainer: pl.Trainer, step: int) -> bool:
    """Whether a step, counted from 1, is one of the curves'."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined] # Its logger connector sets it.
    return step % every == 0


class Meter(pl.Callback):
    """Counts what a run has read, and in how long, and writes the training curves; a resumed run counts on.

    Reading batches and writing checkpoints is counted in, validation is not. The curves go to the logger itself:
    Lightning's `log` takes a millisecond a number.
    """

    def __init__(self) -> None:
        self.target_tokens = 0
        self.seconds = 0.0
        self._counted = 0.0  # The moment up to which seconds are counted.
        self._recent: deque[tuple[int, float]] = deque(maxlen=50)  # Tokens and seconds of the last parts.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._counted = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out what has just passed."""
        self._counted = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count; the tokens of a step when its last part is done."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        now = time.perf_counter()
        tokens, seconds = batch.step_tokens * stepped, now - self._counted
        self._counted = now
        self.target_tokens += tokens
        self.seconds += seconds
        self._recent.append((tokens, seconds))
        if stepped and "point" in outputs and trainer.logger is not None:
            counts = {"train/tokens_per_second": self.rate, "train/target_tokens": float(self.target_tokens)}
            trainer.logger.log_metrics(outputs["point"] | counts, step=trainer.global_step - 1)  # From 0, as Lightning.

    @property
    def rate(self) -> float:
        """Target tokens a second, lately; 0 before the first step."""
        tokens, seconds = (sum(column) for column in zip((0, 0.0), *self._recent, strict=True))
        return tokens / seconds if seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"target_tokens": self.target_tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.target_tokens, self.seconds = state_dict["target_tokens"], state_dict["seconds"]


class ProgressBar(TQDMProgressBar):
    """Lightning's bar over the whole run, with tokens per second and the time left, on standard error."""

    def __init__(self, steps: int, meter: Meter):
        # A file is spared the thousands of lines that a terminal overwrites.
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else max(1, steps // 20))
        self._meter = meter

    def init_train_tqdm(self) -> Tqdm:
        """See the base."""
        return self._bar("training", leave=True)

    def init_validation_tqdm(self) -> Tqdm:
        """See the base."""
        return self._bar("dev", leave=False)

    def _bar(self, name: str, leave: bool) -> Tqdm:
        return Tqdm(
            desc=name,
            disable=self.is_disabled or (not leave and not sys.stderr.isatty()),
            leave=leave,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Set the bar to the whole run; what an earlier process did counts as done, but not for the speed."""
        super().on_train_start()
        bar = self.train_progress_bar
        bar.total = int(self.total_train_batches)
        bar.initial = bar.n = trainer.global_step * trainer.accumulate_grad_batches

    def on_train_epoch_start(self, *_: Any) -> None:
        """Keep the bar as it is: the run is one epoch of Lightning's."""

    def on_exception(self, *_: Any) -> None:
        """End the bars' line, so that what went wrong stands on one of its own."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """See the base; the logger's version is no news."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {"tok/s": f"{self._meter.rate:,.0f}", **metrics}


def fit(
    module: TranslationModule,
    data: TranslationData,
    settings: TrainerSettings,
    *,
    checkpoints: Checkpoints,
    others: Sequence[pl.Callback],
    logger: Logger | None,
    resume: Path | None,
) -> None:
    """Train to the end of the stream, or until dev gets no better.

    Several processes, where they are wanted, are spawned for the training alone and end with it, so that a sweep,
    the tracking and the scoring know of one process only (Lightning's own way, to run the script again for each
    device, would run a whole sweep again). Under torchrun the processes are there already.

    Args:
        module: what is trained.
        data: hands out the batches.
        settings: the trainer's.
        checkpoints: where and when.
        others: what else follows the training: what prunes it in a sweep, what notes alignments.
        logger: gets the curves; null: nobody does.
        resume: a checkpoint to go on from.

    Raises:
        UserError: the loss is no number any more, a file cannot be written, or a process was killed.
        SystemExit: SIGTERM asked for it; last.ckpt has all that was done.
    """
    meter = Meter()
    callbacks: list[pl.Callback] = [meter, ProgressBar(data.stream.steps, meter), checkpoints]
    if settings.patience:
        mode = "max" if settings.select == "bleu" else "min"
        callbacks.append(EarlyStopping(f"dev/{settings.select}", mode=mode, patience=settings.patience))
    callbacks += others  # Lightning calls the checkpoints last, so that they know what was decided.
    strategy: Any = settings.strategy
    if settings.strategy == "ddp":
        strategy = DDPStrategy(start_method="popen" if under_torchrun() else "spawn")
    with warnings.catch_warnings():
        for message in _NOT_FOR_US:
            warnings.filterwarnings("ignore", message)
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=strategy,
            precision=settings.precision,
            max_epochs=1,  # The stream is the whole run.
            max_steps=data.stream.steps,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=module.optimizer.clip_norm or None,
            val_check_interval=data.stream.validate_every * settings.accumulate,
            num_sanity_val_steps=0,
            log_every_n_steps=min(settings.log_every, data.stream.steps),
            use_distributed_sampler=False,  # The stream is dealt out by itself.
            callbacks=callbacks,
            # Named, as Lightning would take SLURM's processes for its own wherever it finds itself in a job there.
            plugins=[WholeFiles(), TorchElasticEnvironment() if under_torchrun() else LightningEnvironment()],
            logger=logger or False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        except (torch.multiprocessing.ProcessRaisedException, torch.multiprocessing.ProcessExitedException) as error:
            _check_spawned(error, trainer.strategy.launcher.procs)  # type: ignore[union-attr]
            raise
        finally:
            for child in multiprocessing.active_children():  # After Ctrl-C; they would train on.
                child.kill()
                child.join()


def _check_spawned(error: Exception, processes: Sequence[Any]) -> None:
    """Say what a spawned process ended by, where the user can mend it or asked for it.

    Raises:
        UserError: it was killed, or said so itself.
        SystemExit: it was stopped.
    """
    # When one is killed, the others fail for want of it, and the first to be noticed may be one of them.
    stopped = (SIGTERM_STATUS, -signal.SIGTERM)
    for rank, process in enumerate(processes):
        if process.exitcode is not None and process.exitcode < 0 and process.exitcode not in stopped:
            raise BrokenOffError(
                f"process {rank} of {len(processes)} was killed by {signal.Signals(-process.exitcode).name} (the "
                "system does that when memory runs out)"
            ) from None
    if isinstance(error, torch.multiprocessing.ProcessExitedException):
        if error.exit_code in stopped:
            raise SystemExit(SIGTERM_STATUS)
        return
    # It hands over its traceback as text: the last paragraph has the error.
    for line in reversed(str(error).strip().splitlines()):
        kind, _, message = line.partition(": ")
        name = kind.rpartition(".")[2]
        for known in (DivergedError, BrokenOffError, UserError):
            if name == known.__name__:
                raise known(message) from None
        if name.endswith("Error"):
            check_memory(name, message)
            return


# What Lightning warns of that is so by design here.
_NOT_FOR_US = (
    ".*does not have many workers.*",  # Batches are read from memory-mapped ids: a worker costs more than it saves.
    ".*dataloader is not resumable.*",  # It is, by its own count of steps.
    ".*GPU available but not used.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # Already the same on all ranks.
    ".*Trying to infer the `batch_size`.*",
    ".*LeafSpec.*",
)
