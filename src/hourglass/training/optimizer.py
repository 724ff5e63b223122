"""Optimizers and their learning-rate schedules: the config group `optimizer`."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat

from hourglass.errors import UserError

Decay = Literal["none", "linear", "sqrt", "inverse_sqrt", "luong5", "luong10", "luong234", "wsd"]

# Of TensorFlow NMT: the share of the run after which the rate is first halved, and the number of halvings.
HALVINGS = {"luong5": (1 / 2, 5), "luong10": (1 / 2, 10), "luong234": (2 / 3, 4)}
# Of decay=wsd: the share of the run, at its end, over which the rate falls to zero.
COOLDOWN = 1 / 5


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning-rate schedule, and the other settings that all optimizers share.

    Attributes:
        learning_rate: the peak rate.
        warmup: the steps in which the rate rises linearly from 0 to the peak: below 1, their share of the run; from 1
            on, their number.
        decay: after warm-up: none; linear or sqrt, both to zero at the end of the run, sqrt with the square root of the
            remaining share; inverse_sqrt, proportional to 1 / sqrt(step) (Vaswani et al. 2017, section 5.3); luong5 and
            luong10, which halve the rate 5 or 10 times over the second half of the run, and luong234, 4 times over its
            last third (TensorFlow NMT; Luong et al. 2015, section 4.1, halve it every epoch from the middle on); wsd
            (warm-up, stable, decay: Hu et al. 2024, section 4), constant and then over the last fifth of the run to
            zero, by 1 - sqrt(share of that fifth) (Haegele et al. 2024, section 3).
        clip_norm: maximum norm of a step's gradient (Pascanu et al. 2013); 0: no clipping.
        label_smoothing: probability mass of the training target that is spread over the vocabulary.
    """

    learning_rate: PositiveFloat
    warmup: NonNegativeFloat
    decay: Decay
    clip_norm: NonNegativeFloat
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]

    def __post_init__(self) -> None:
        if self.warmup > 1 and self.warmup != int(self.warmup):
            raise UserError(
                f"optimizer.warmup={self.warmup:g}: set it to a share below 1, or to a whole number of steps"
            )

    def stable_steps(self, steps: int) -> int | None:
        """Return the step of `steps` after which the rate falls, with decay=wsd; None: the decay has no such step.

        Up to it, runs of any length that share the other settings are the same run.
        """
        return steps - round(COOLDOWN * steps) if self.decay == "wsd" else None

    def rate(self, step: int, steps: int) -> float:
        """Return the rate at `step` (from 0) of `steps`, as a factor of the peak."""
        rise = max(1, round(self.warmup if self.warmup >= 1 else self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        if (stable := self.stable_steps(steps)) is not None:
            return 1 - math.sqrt(max(0, step - stable) / max(1, steps - stable))
        if self.decay in HALVINGS:
            start, times = HALVINGS[self.decay]
            first = int(start * steps)
            return 0.5 ** min(times, max(0, (step - first) // max(1, (steps - first) // times)))
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


@dataclass(frozen=True, kw_only=True)
class AdadeltaSettings(Schedule):
    """Adadelta (Zeiler 2012), whose learning rate of 1 is the published form.

    Attributes:
        rho: decay of the mean squared gradient and of the mean squared step.
        epsilon: added to both.
    """

    rho: Annotated[float, Field(ge=0, lt=1)]
    epsilon: PositiveFloat

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adadelta(parameters, lr=self.learning_rate, rho=self.rho, eps=self.epsilon)


OptimizerSettings = AdamSettings | SGDSettings | AdadeltaSettings

OPTIMIZERS: dict[str, type[OptimizerSettings]] = {
    "adam": AdamSettings,
    "sgd": SGDSettings,
    "adadelta": AdadeltaSettings,
}
