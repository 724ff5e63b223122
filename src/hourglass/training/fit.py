"""Train a model by Lightning, in one process or in several."""

import logging
import multiprocessing
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy

from hourglass.errors import BrokenOffError, DivergedError, UserError
from hourglass.system.devices import under_torchrun
from hourglass.training.datamodule import TranslationData
from hourglass.training.module import TranslationModule
from hourglass.training.progress import Meter, ProgressBar
from hourglass.training.saving import Checkpoints, WholeFiles
from hourglass.training.stopping import SIGTERM_STATUS, check_memory
from hourglass.training.trainer import TrainerSettings


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
