"""What a training has read so far: counters, curves and the progress bar."""

import sys
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from hourglass.data.encoded import Batch


def is_curve_point(trainer: pl.Trainer, step: int) -> bool:
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
