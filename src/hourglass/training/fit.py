"""Run Lightning's Trainer, in one process or in several."""

import logging
import multiprocessing
import signal
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.constants import default_pg_timeout

from hourglass.errors import BrokenOffError, DivergedError, UserError
from hourglass.system.devices import under_torchrun
from hourglass.system.interrupts import SIGTERM_STATUS
from hourglass.training.datamodule import TranslationData
from hourglass.training.module import TranslationModule
from hourglass.training.progress import Meter, ProgressBar
from hourglass.training.saving import Checkpoints, WholeFiles
from hourglass.training.stopping import check_memory


def fit(
    module: TranslationModule,
    data: TranslationData,
    *,
    checkpoints: Checkpoints,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
    resume: Path | None,
) -> None:
    """Train to the end of the stream, or until dev scores stop improving.

    With trainer.strategy=ddp, processes are spawned for the training alone and end with it, so that a sweep, the
    tracking and the scoring run in one process only. (Lightning's own way, which runs the script again for each device,
    would run a whole sweep again.) Under torchrun the processes exist already.

    Args:
        module: the model with its training and settings.
        data: the batches.
        checkpoints: the callback that writes them.
        callbacks: others, such as the pruning of a sweep.
        loggers: receive the curves.
        resume: the checkpoint to resume from; None: start a new training.

    Raises:
        UserError: the loss is not finite, a file cannot be written, or a process was killed.
        SystemExit: after SIGTERM; last.ckpt holds the last complete step.
    """
    settings = module.settings.trainer
    meter = Meter()
    all_callbacks: list[pl.Callback] = [meter, ProgressBar(data.stream.steps, meter), checkpoints]
    if settings.patience:
        smoothed = "smoothed_" if module.settings.optimizer.label_smoothing else ""
        monitor, mode = f"dev/{smoothed}loss", "min"
        if settings.select != "loss":
            main = module.settings.metrics.main
            monitor, mode = f"dev/{main.name}", "max" if main.higher_is_better else "min"
        all_callbacks.append(EarlyStopping(monitor, mode=mode, patience=settings.patience))
    all_callbacks += callbacks  # Lightning moves `checkpoints` to the end, where it sees whether the others stop.
    strategy: Any = settings.strategy
    if settings.strategy == "ddp":
        # On one machine, the end of a process is seen at once.
        silence = timedelta(seconds=settings.timeout) if settings.nodes > 1 else default_pg_timeout
        strategy = DDPStrategy(start_method="popen" if under_torchrun() else "spawn", timeout=silence)
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=strategy,
            # Without autocast where the module casts the weights.
            precision="32-true" if settings.casts_weights else settings.precision,
            max_epochs=1,  # The stream is the whole run.
            max_steps=data.stream.steps,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=module.settings.optimizer.clip_norm or None,
            val_check_interval=data.stream.validate_every * settings.accumulate,
            num_sanity_val_steps=0,
            log_every_n_steps=min(settings.log_every, data.stream.steps),
            use_distributed_sampler=False,  # `StreamSampler` gives each rank its share.
            callbacks=all_callbacks,
            # Set explicitly: inside a SLURM job, Lightning would take SLURM's tasks for its processes.
            plugins=[WholeFiles(), TorchElasticEnvironment() if under_torchrun() else LightningEnvironment()],
            logger=list(loggers),
            enable_model_summary=False,
        )
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        except (torch.multiprocessing.ProcessRaisedException, torch.multiprocessing.ProcessExitedException) as error:
            _raise_cause(error, trainer.strategy.launcher.procs)  # type: ignore[union-attr]
            raise
        finally:
            for child in multiprocessing.active_children():  # Those still training after Ctrl-C.
                child.kill()
                child.join()


def _raise_cause(error: Exception, processes: Sequence[Any]) -> None:
    """Raise the error that ended a spawned process, where it is one of ours.

    Raises:
        UserError: the process was killed, or raised this error itself.
        SystemExit: the process was stopped by SIGTERM.
    """
    # When one process is killed, the others fail in their next collective call, and torch may report one of those.
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
    # torch passes the child's traceback on as text, with the error in its last paragraph.
    for line in reversed(str(error).strip().splitlines()):
        kind, _, message = line.partition(": ")
        name = kind.rpartition(".")[2]
        for known in (DivergedError, BrokenOffError, UserError):
            if name == known.__name__:
                raise known(message) from None
        if name.endswith("Error"):
            check_memory(name, message)
            return


# Lightning's warnings about what is intended here.
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # Batches are read from memory-mapped ids: a worker costs more than it saves.
    ".*dataloader is not resumable.*",  # It is: `TranslationData` counts its own steps.
    ".*GPU available but not used.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # The value is the same on all ranks.
    ".*Trying to infer the `batch_size`.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",  # Of a frozen encoder (`freezing`).
)
