"""The config group `trainer`: devices, the budget, when dev is read and what is best on it.

Apart from training.py, so that settings are checked without Lightning, which takes seconds to import.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.errors import UserError
from hourglass.system.devices import Accelerator, find_device, under_torchrun


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
        test: whether the run ends by translating and scoring the test split.
        test_sentences: sentences translated at the end, the first so many; 0: all. Fewer are for trying out.
        select: what "best" is on dev: bleu (highest) or loss (lowest).
        patience: validations without a new best after which the run stops; 0: never.
        checkpoint_every: steps between last.ckpt and the next; what a kill can lose.
        keep: validations whose checkpoints stay, the last ones, for src/translate.py checkpoint=average.
        scheduled_sampling: probability, at the end of the run, that an input word is drawn from the model instead of
            being the reference's; it rises linearly from 0 (Bengio et al. 2015). Above 0 there is no one-pass training.
        step_loop: whether a known target is read step by step also where one pass would do (slower; to hold the two
            against each other).
        cuda_graphs: whether a training step's passes are recorded as CUDA graphs, one for each shape of a batch. One
            GPU.
        log_every: steps between points of the training curves.
        pictures: dev sentences whose alignment is drawn as it is learnt, beside the run's other pictures; 0: none.
    """

    accelerator: Accelerator
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
    test: bool
    test_sentences: NonNegativeInt
    select: Literal["bleu", "loss"]
    patience: NonNegativeInt
    checkpoint_every: PositiveInt
    keep: NonNegativeInt
    scheduled_sampling: Annotated[float, Field(ge=0, le=1)]
    log_every: PositiveInt
    pictures: Annotated[int, Field(ge=0, le=20)] = 0
    step_loop: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if self.strategy == "auto" and self.devices * self.nodes > 1:
            raise UserError(
                f"trainer.devices={self.devices} and trainer.nodes={self.nodes} need trainer.strategy=ddp: "
                "use trainer=ddp, or one device"
            )
        if self.nodes > 1 and not under_torchrun():
            raise UserError(
                f"trainer.nodes={self.nodes}: start it on every node by torchrun --nnodes={self.nodes} "
                f"--nproc-per-node={self.devices} ... src/train.py ..."
            )
        there_are = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        if self.accelerator == "gpu" and there_are < self.devices:
            raise UserError(
                f"trainer.accelerator=gpu, trainer.devices={self.devices}: this machine has {there_are} GPUs: "
                "use trainer=cpu, or fewer devices"
            )
        if self.precision == "bf16-mixed" and (self.accelerator == "cpu" or not there_are):
            raise UserError(
                f"trainer.precision={self.precision} is for GPUs: set trainer.precision=32-true, or use trainer=gpu"
            )

        if self.cuda_graphs and (self.accelerator == "cpu" or not torch.cuda.is_available()):
            raise UserError("trainer.cuda_graphs=true is for NVIDIA's GPUs: set trainer.cuda_graphs=false")
        for option, contradicts in (
            ("strategy=ddp", self.strategy == "ddp"),
            (f"scheduled_sampling={self.scheduled_sampling:g}", self.scheduled_sampling > 0),
        ):
            if self.cuda_graphs and contradicts:
                raise UserError(f"trainer.cuda_graphs=true contradicts trainer.{option}: set trainer.cuda_graphs=false")

    @property
    def device(self) -> torch.device:
        """The device of work that one process does alone."""
        return find_device(self.accelerator)
