"""The settings of a sweep: the config group `sweep`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from optuna.study import StudyDirection
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.errors import UserError
from hourglass.metrics.metrics import METRICS
from hourglass.system.secrets import check_address

# A metric by its name, or one of OF_EVERY_RUN.
Objective = Annotated[str, Field(min_length=1)]
# Objectives whatever the metrics; the first alone is maximised.
OF_EVERY_RUN = ("sentences_per_second", "loss", "parameters")
Name = Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep, hydra.sweeper.

    Attributes:
        study_name: name of the study in its storage.
        storage: address of the study's database; None: the environment variable OPTUNA_STORAGE, the only place for a
            password.
        n_trials: number of trials of the whole study.
        n_jobs: trials to run at the same time.
        objective: the score to optimise, or several for a Pareto front.
        seeds: number of runs of each trial, with as many seeds.
        over_seeds: the value of a trial with several seeds: the mean, or the quartile on the side of the worse scores.
        sampler: draws the parameters.
        startup_trials: number of random trials before the sampler and the pruner use earlier results.
        seed: of the sampler.
        pruner: stops bad trials early.
        heartbeat: seconds between heartbeats, by which other workers know that a trial's worker is alive.
        params: the search space, in Hydra's grammar.

    Raises:
        UserError: options contradict each other, or `storage` has a password.
    """

    study_name: Name
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql|mysql)(\+\w+)?://.+")] | None
    n_trials: PositiveInt
    n_jobs: PositiveInt
    objective: Objective | Annotated[list[Objective], Field(min_length=1)]
    seeds: PositiveInt
    over_seeds: Literal["mean", "quartile"]
    sampler: Literal["tpe", "random"]
    startup_trials: NonNegativeInt
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    pruner: Literal["auto", "median", "hyperband", "none"]
    heartbeat: PositiveInt
    params: dict[str, bool | int | float | str]

    def __post_init__(self) -> None:
        option = "hydra.sweeper.storage"
        if self.storage is None and not os.environ.get("OPTUNA_STORAGE"):
            raise UserError(f"{option}: not set, and neither is OPTUNA_STORAGE: set one of them")
        if self.storage is not None:
            check_address(self.storage, option, environment="OPTUNA_STORAGE")
        else:
            check_address(self.uri, "OPTUNA_STORAGE", environment=None)
        for objective in self.objectives:
            if objective not in (*METRICS, *OF_EVERY_RUN):
                raise UserError(
                    f"hydra.sweeper.objective={objective}: no such objective: set the main metric of the runs, "
                    f"or one of {', '.join(OF_EVERY_RUN)}"
                )
            if self.objectives.count(objective) > 1:
                raise UserError(f"hydra.sweeper.objective: {objective} is given twice")
        if self.pruner not in ("auto", "none") and self.reported is None:
            raise UserError(
                f"hydra.sweeper.objective={self.objective}: a pruner needs the main metric or loss as the "
                "only objective: set "
                "hydra.sweeper.pruner=auto"
            )

    @property
    def uri(self) -> str:
        """The address of the storage, from the settings or from the environment."""
        return self.storage or os.environ["OPTUNA_STORAGE"]

    @property
    def objectives(self) -> list[Objective]:
        """The objectives as a list."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def reported(self) -> str | None:
        """The score that a trial reports at each validation, if it is the only objective."""
        only = self.objectives[0] if len(self.objectives) == 1 else None
        return only if only in METRICS or only == "loss" else None

    @property
    def chosen_pruner(self) -> str:
        """The pruner; for auto, median if trials report scores."""
        if self.pruner == "auto":
            return "median" if self.reported else "none"
        return self.pruner

    @property
    def directions(self) -> list[StudyDirection]:
        """Whether to maximise or to minimise each objective."""
        return [StudyDirection.MAXIMIZE if is_maximised(o) else StudyDirection.MINIMIZE for o in self.objectives]


def is_maximised(objective: str) -> bool:
    """Return whether more of an objective is better."""
    return METRICS[objective].higher_is_better if objective in METRICS else objective == OF_EVERY_RUN[0]


def over_seeds(values: Sequence[float], objective: str, how: str) -> float:
    """Return the value of an objective for a trial with several seeds.

    Args:
        values: of the objective, one for each seed.
        objective: its name, which decides which values are the worse ones.
        how: mean, or quartile: a quarter of the way from the worst value to the best, by linear interpolation.
    """
    if how == "mean":
        return float(np.mean(values))
    return float(np.quantile(values, 0.25 if is_maximised(objective) else 0.75))
