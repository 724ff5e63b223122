"""The config group `trainer`: devices, budget, validation and checkpoints.

This module does not import Lightning, which takes seconds, so that settings are checked at once.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.errors import UserError
from hourglass.system.devices import Accelerator, find_device, under_torchrun
from hourglass.system.machine import BFLOAT16_INSTRUCTIONS, bfloat16_instructions, describe_processor


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The config group `trainer`.

    Attributes:
        accelerator: cpu; gpu; auto, which takes a GPU if there is one.
        devices: processes per machine, one per device.
        nodes: number of machines.
        timeout: seconds after which a process of several machines takes another, for which it waits, for lost.
        strategy: auto for one device, ddp for several.
        precision: of a training step. "32-true": float32; "bf16-mixed": layers, products and attention in bfloat16;
            softmax, loss, weights and optimizer in float32. On a GPU by autocast, and the loss on dev is computed so,
            too; on a CPU by `models.precision`, and the loss on dev is that of the float32 weights, in float32.
        threads: CPU threads of each process; 0: torch's default.
        target_tokens: the budget: target tokens that the run reads.
        batch_tokens: padded tokens of a global batch, on its longer side: one optimizer step over all devices.
        accumulate: parts into which each device splits its share of a global batch, processed one after the other.
        validations: number of validations, evenly spaced.
        dev_sentences: number of dev sentences to read, evenly spaced over dev; 0: all.
        test: whether the run ends with scores on the test split.
        test_sentences: number of test sentences to translate, evenly spaced over test; 0: all.
        select: the score that decides which checkpoint is best on dev: the main metric of the config group `metrics`,
            by its name, or loss (lowest; with label smoothing the smoothed loss, which the training minimises).
        patience: validations without a new best score after which the run stops; 0: never.
        checkpoint_every: steps from one last.ckpt to the next: the most that a kill loses.
        keep: number of validations whose checkpoints are kept, for src/translate.py checkpoint=average.
        scheduled_sampling: probability, at the end of the run, that the decoder reads a word drawn from the model in
            place of the reference's; it rises linearly from 0 (Bengio et al. 2015). Above 0, the decoder runs step by
            step.
        null_source: share of the training items that are read with an empty source (end-of-sentence alone), each time
            another draw, so that the same weights are also a model of the target alone (metrics/nulled.py). Their
            target tokens count in the budget. Dev and test are read with their sources.
        step_loop: run the decoder step by step under teacher forcing even where one pass over the target gives the
            same; slower, to compare the two.
        cuda_graphs: record the forward and backward pass of each batch shape as a CUDA graph; for one GPU.
        log_every: steps from one point of the training curves to the next.
        pictures: number of dev sentences whose alignments are drawn at each validation, beside the run's other
            pictures; 0: no pictures.
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
    select: Annotated[str, Field(min_length=1)]
    patience: NonNegativeInt
    checkpoint_every: PositiveInt
    keep: NonNegativeInt
    scheduled_sampling: Annotated[float, Field(ge=0, le=1)]
    log_every: PositiveInt
    timeout: PositiveInt = 300
    pictures: Annotated[int, Field(ge=0, le=20)] = 0
    null_source: Annotated[float, Field(ge=0, lt=1)] = 0.0  # Runs of earlier versions lack it.
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
        started = int(os.environ["WORLD_SIZE"]) if under_torchrun() else 0
        if under_torchrun() and self.devices * self.nodes != started:
            raise UserError(
                f"trainer.devices={self.devices} and trainer.nodes={self.nodes}: torchrun has started {started} "
                f"processes: give it --nnodes={self.nodes} --nproc-per-node={self.devices}, or change the settings"
            )
        gpus = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        if self.accelerator == "gpu" and gpus < self.devices:
            raise UserError(
                f"trainer.accelerator=gpu, trainer.devices={self.devices}: this machine has {gpus} GPUs: "
                "use trainer=cpu, or fewer devices"
            )
        if self.casts_weights and not bfloat16_instructions():
            raise UserError(
                f"trainer.precision={self.precision}: this CPU, {describe_processor()}, has neither "
                f"{' nor '.join(BFLOAT16_INSTRUCTIONS)}, and would train more slowly than in float32: set "
                "trainer.precision=32-true, or use trainer=gpu"
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
    def casts_weights(self) -> bool:
        """Whether each training step casts the weights to bfloat16 (`models.precision.in_bfloat16`): on CPUs."""
        return self.precision == "bf16-mixed" and (self.accelerator == "cpu" or not torch.accelerator.is_available())

    @property
    def device(self) -> torch.device:
        """The device for work that only one process does, such as translating the test split."""
        return find_device(self.accelerator)
