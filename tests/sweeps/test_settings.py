"""What a sweep optimises, how it draws, and how it prunes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection

import train
from hourglass.errors import UserError
from hourglass.metrics.metrics import METRICS
from hourglass.sweeps.pruning import Pruning
from hourglass.sweeps.settings import OF_EVERY_RUN, SweepSettings
from hourglass.sweeps.trials import Worker
from hourglass.training.jobs import TrialTicket

# Whether more is better.
BETTER = {
    **{"bleu": True, "chrf": True, "rouge1": True, "rouge2": True, "rouge_l": True, "exact": True},
    **{"ter": False, "word_error_rate": False, "character_error_rate": False, "phoneme_error_rate": False},
    **{"sequence_error_rate": False, "loss": False, "parameters": False, "sentences_per_second": True},
}


def test_each_objective_has_its_direction() -> None:
    assert {*METRICS, *OF_EVERY_RUN} == BETTER.keys()


def test_an_objective_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^hydra.sweeper.objective=wer: no such objective: set the main metric of the "
    ):
        worker(tmp_path, objective="wer")


def worker(folder: Path, space: dict[str, Any] | None = None, **changes: Any) -> Worker:
    """Return a worker of a new study in a folder."""
    given: dict[str, Any] = {"study_name": "test", "storage": f"sqlite:///{folder}/study.db", "n_trials": 3}
    given |= {"n_jobs": 1, "objective": "bleu", "seeds": 1, "over_seeds": "mean", "sampler": "random"}
    given |= {"startup_trials": 1, "seed": 1, "pruner": "none", "heartbeat": 1, "params": {}}
    folder.mkdir(exist_ok=True)
    return Worker(SweepSettings(**(given | changes)), folder / "sweep", space or {}, ["data=copy"])


@pytest.mark.parametrize("objective", sorted(BETTER))
def test_the_best_trial_is_the_best_by_its_objective(objective: str, tmp_path: Path) -> None:
    study = worker(tmp_path, objective=objective).study
    assert study.direction == (StudyDirection.MAXIMIZE if BETTER[objective] else StudyDirection.MINIMIZE)
    for value in (2.0, 3.0, 1.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    assert study.best_value == (3.0 if BETTER[objective] else 1.0)


def test_trials_are_drawn_by_the_sampler_and_the_seed_of_the_settings(tmp_path: Path) -> None:
    space = {"x": FloatDistribution(0, 1)}
    drawn = []
    for number, seed in enumerate((1, 2, 1)):
        asked = worker(tmp_path / str(number), space, seed=seed).claim(wait=False)
        assert asked is not None
        drawn.append(asked.params["x"])
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(
    ("sampler", "kind"), [("tpe", optuna.samplers.TPESampler), ("random", optuna.samplers.RandomSampler)]
)
def test_the_sampler_is_that_of_the_settings(sampler: str, kind: type[Any], tmp_path: Path) -> None:
    asking = worker(tmp_path, {"x": FloatDistribution(0, 1)}, sampler=sampler, startup_trials=7)
    assert asking.claim(wait=False) is not None
    assert type(asking.study.sampler) is kind
    assert getattr(asking.study.sampler, "_n_startup_trials", 7) == 7


def ticket(objective: str) -> TrialTicket:
    return TrialTicket("sqlite://", "test", 1, objective, {})


@pytest.mark.parametrize("objective", ["bleu", "loss"])
def test_a_validation_reports_the_objective_and_a_pruned_trial_stops(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"bleu": 11.0, "loss": 2.0}
    reported: list[tuple[int, float]] = []
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        global_step=10,
        should_stop=False,
        callback_metrics={f"dev/{name}": value for name, value in scores.items()},
        strategy=SimpleNamespace(broadcast=lambda value, src: value),
    )

    def report(self: Pruning, validation: int, score: float) -> bool:
        reported.append((validation, score))
        return len(reported) == 2

    monkeypatch.setattr(Pruning, "_report", report)
    pruning = Pruning(ticket(objective), 5)
    for stops in (False, True):
        pruning.on_validation_end(trainer, None)  # type: ignore[arg-type]
        assert trainer.should_stop is pruning.pruned is stops
    assert reported == [(2, scores[objective])] * 2


@pytest.mark.parametrize(("trial", "prunes"), [(None, False), (ticket(""), False), (ticket("loss"), True)])
def test_a_trial_of_one_objective_may_be_pruned(trial: TrialTicket | None, prunes: bool) -> None:
    job: Any = SimpleNamespace(trial=trial)
    prepared: Any = SimpleNamespace(stream=SimpleNamespace(validate_every=5))
    callbacks = train.make_callbacks(job, prepared)
    assert [type(callback) for callback in callbacks] == [Pruning] * prunes
    assert all(callback.validate_every == 5 for callback in callbacks)
