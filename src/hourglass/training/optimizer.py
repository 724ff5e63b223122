"""Optimizers and the schedule of their learning rate."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat

Share = Annotated[float, Field(ge=0, le=1)]


Decay = Literal["none", "linear", "sqrt", "inverse_sqrt", "luong5", "luong10", "luong234"]


# TensorFlow NMT's: the share of the run after which the rate is halved, and how many times, evenly spaced, it is.
HALVINGS = {"luong5": (1 / 2, 5), "luong10": (1 / 2, 10), "luong234": (2 / 3, 4)}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the learning rate moves, and what else all optimizers share.

    Attributes:
        learning_rate: the peak.
        warmup: share of the run in which the rate rises linearly from 0 to the peak.
        decay: after it: none; linear or sqrt, to zero at the end of the run, the second with the square root of the
            way left; inverse_sqrt, with one over the square root of the step (Vaswani et al. 2017, section 5.3);
            luong5 and luong10 halve it so many times over the second half of the run, luong234 4 times over its last
            third (TensorFlow NMT; Luong et al. 2015, section 4.1, halve it every epoch from the middle on).
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
