"""Progress of a training: counters, training curves and the progress bar."""

import sys
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from hourglass.data.encoded import Batch
from hourglass.system.bars import Bar


def is_curve_point(trainer: pl.Trainer, step: int) -> bool:
    """Return whether the training curves have a point at a step, counted from 1."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined] # Set by Lightning's logger connector.
    return step % every == 0


class Meter(pl.Callback):
    """Count target tokens and seconds of a run, over all its starts, and write the training curves.

    Seconds include reading batches and writing checkpoints, but not validation. The curves go to the logger directly,
    as Lightning's `log` takes a millisecond per value.
    """

    def __init__(self) -> None:
        self.target_tokens = 0
        self.seconds = 0.0
        self._counted_until = 0.0  # time.perf_counter()
        self._recent: deque[tuple[int, float]] = deque(maxlen=50)  # Tokens and seconds of the latest batches.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._counted_until = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock, so that the validation does not count."""
        self._counted_until = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count seconds, and with the last batch of a step the step's tokens; write a point of the curves."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        now = time.perf_counter()
        tokens, seconds = batch.step_tokens * stepped, now - self._counted_until
        self._counted_until = now
        self.target_tokens += tokens
        self.seconds += seconds
        self._recent.append((tokens, seconds))
        if stepped and "point" in outputs and trainer.loggers:
            counts = {"train/tokens_per_second": self.rate, "train/target_tokens": float(self.target_tokens)}
            # Lightning counts the steps of its own curves from 0.
            for logger in trainer.loggers:
                logger.log_metrics(outputs["point"] | counts, step=trainer.global_step - 1)

    @property
    def rate(self) -> float:
        """Target tokens per second over the latest batches; 0 before the first."""
        tokens, seconds = (sum(column) for column in zip((0, 0.0), *self._recent, strict=True))
        return tokens / seconds if seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the counters."""
        return {"target_tokens": self.target_tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters."""
        self.target_tokens, self.seconds = state_dict["target_tokens"], state_dict["seconds"]


class ProgressBar(TQDMProgressBar):
    """Progress bar over the steps of the whole run, on standard error, with tokens per second and dev scores."""

    def __init__(self, steps: int, meter: Meter):
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else max(1, steps // 100))
        self._steps, self._meter = steps, meter

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Start the bar of the run; steps before a resume count as done, but not for the speed."""
        self.train_progress_bar = Bar(
            "training", self._steps, "steps", done=trainer.global_step, disable=self.is_disabled, smoothing=0
        )

    def on_train_epoch_start(self, *_: Any) -> None:
        """Keep the bar: for Lightning the whole run is one epoch."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step with the last of its batches."""
        step, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if not rest and self._should_update(step, self._steps):
            self.train_progress_bar.n = step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_validation_start(self, *_: Any) -> None:
        """Start the bar of a validation, which disappears at its end."""
        total = int(sum(self.trainer.num_val_batches))
        self.val_progress_bar = Bar("dev", total, "batches", leave=False, disable=self.is_disabled)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Keep the bar: there is one split."""

    def on_exception(self, *_: Any) -> None:
        """Close the bars, so that an error message starts on a line of its own."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the values to show; Lightning's `v_num` has no meaning here."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {"tok/s": f"{self._meter.rate:,.0f}", **{name: f"{value:.3f}" for name, value in metrics.items()}}
