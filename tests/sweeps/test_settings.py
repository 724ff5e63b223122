"""What a sweep optimises."""

from pathlib import Path
from typing import get_args

import optuna
import pytest
from optuna.study import StudyDirection

from hourglass.sweeps.settings import Objective, SweepSettings
from hourglass.sweeps.trials import Worker

# Whether more is better.
BETTER = {"bleu": True, "loss": False, "parameters": False, "sentences_per_second": True}


def test_each_objective_has_its_direction() -> None:
    assert set(get_args(Objective)) == BETTER.keys()


@pytest.mark.parametrize("objective", sorted(BETTER))
def test_the_best_trial_is_the_best_by_its_objective(objective: str, tmp_path: Path) -> None:
    settings = SweepSettings(
        study_name="test",
        storage=f"sqlite:///{tmp_path}/study.db",
        n_trials=3,
        n_jobs=1,
        objective=objective,  # type: ignore[arg-type]
        seeds=1,
        over_seeds="mean",
        sampler="random",
        startup_trials=1,
        seed=1,
        pruner="none",
        heartbeat=1,
        params={},
    )
    study = Worker(settings, tmp_path / "sweep", {}, ["data=copy"]).study
    assert study.direction == (StudyDirection.MAXIMIZE if BETTER[objective] else StudyDirection.MINIMIZE)
    for value in (2.0, 3.0, 1.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    assert study.best_value == (3.0 if BETTER[objective] else 1.0)
