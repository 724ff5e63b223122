"""Convergence is judged from trainings that are long enough, and the recorded ones are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hourglass.analysis.convergence import (
    JUDGED_TOKENS,
    Convergence,
    all_converged,
    is_judged,
    judge_convergence,
    show_convergence,
    show_verdict,
)
from hourglass.errors import UserError
from hourglass.experiments.ablation import load_ablation


def finished_run(losses: list[float], tokens: int) -> Any:
    """A stand-in with validations at equal distances."""
    curve = [(tokens * (number + 1) / len(losses), loss) for number, loss in enumerate(losses)]
    metrics, curves = SimpleNamespace(train_target_tokens=tokens), SimpleNamespace(criterion=curve)
    return SimpleNamespace(metrics=metrics, dev_curves=curves, path=Path("runs/a"))


def test_a_smoke_run_is_not_called_converged() -> None:
    """Its loss hardly falls, as it has hardly begun; a longer one that does the same has converged."""
    flat = [6.90, 6.89, 6.88, 6.87]
    assert judge_convergence(finished_run(flat, 5000), 0.01).converged is None
    assert judge_convergence(finished_run(flat, JUDGED_TOKENS), 0.01).converged is True
    assert judge_convergence(finished_run([6.0, 5.0, 4.0, 3.0], JUDGED_TOKENS), 0.01).converged is False


def test_the_rule_has_two_bounds() -> None:
    assert is_judged(100_000, 4)
    assert not is_judged(99_999, 4)
    assert not is_judged(100_000, 3)
    # A budget that is long enough, with too few validations: the gain is known, and no verdict is.
    outcome = judge_convergence(finished_run([6.0, 5.0], 200_000), 0.01)
    assert outcome.converged is None
    # At 80 % the line between the two validations is at 5.4.
    assert outcome.gain_of_last_fifth == pytest.approx((5.4 - 5.0) / 5.4)


def test_a_loss_that_has_risen_again_is_no_better_since() -> None:
    """Noise about the lowest loss is none, nor is a loss that comes back to it."""
    risen = judge_convergence(finished_run([6.0, 3.0, 3.2, 3.4, 3.5], 200_000), 0.01)
    assert (risen.converged, risen.no_better_since) == (None, 0.4)
    assert judge_convergence(finished_run([6.0, 3.0, 3.2, 3.01, 3.02], 200_000), 0.01) == Convergence(True, 0.0)
    still = judge_convergence(finished_run([6.0, 3.0, 2.9, 2.8, 2.7], 200_000), 0.01)
    assert still.no_better_since is None
    assert show_convergence(False, [still, risen]) == "no"
    assert show_convergence(None, [Convergence(True, 0.0), risen]) == "no better since 40 %"
    assert show_convergence(None, [Convergence(True, 0.0), Convergence(None, 0.0)]) == "cannot be told"


def test_some_validation_has_to_lie_where_the_last_fifth_begins() -> None:
    """At even distances four are enough. Where none is near, the loss there is a guess between two validations."""
    for count in range(4, 12):
        assert judge_convergence(finished_run([3.0] * count, 200_000), 0.01).converged is True
    run = finished_run([3.0] * 5, 200_000)
    run.dev_curves.criterion = [(share * 200_000, 3.0) for share in (0.2, 0.4, 0.6, 0.7, 0.9, 1.0)]
    assert judge_convergence(run, 0.01).converged is None


def test_a_run_of_one_validation_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^runs/a: .* set trainer\.validations=5$"):
        judge_convergence(finished_run([6.0], 200_000), 0.01)


@pytest.mark.parametrize(
    ("verdicts", "together", "shown"),
    [
        ([True, True], True, "yes"),
        ([True, False, None], False, "no"),
        ([True, None], None, "cannot be told"),
    ],
)
def test_the_verdict_on_several_seeds(verdicts: list[bool | None], together: bool | None, shown: str) -> None:
    assert all_converged(iter(verdicts)) is together
    assert show_verdict(together) == shown


@pytest.mark.parametrize("corpus", load_ablation().corpora)
def test_the_recorded_runs_are_judged(corpus: str) -> None:
    evaluation = load_ablation().evaluation(corpus)
    for result in evaluation.variants.values():
        for training in result.seeds:
            # A rung of a ladder may branch off just after a validation, and so have one fewer than it needs.
            judged = is_judged(training.target_tokens, len(training.curves.loss))
            assert judged or is_judged(training.target_tokens, len(training.curves.loss) + 1)
            gained = training.convergence.gain_of_last_fifth
            assert training.convergence.converged == (gained < evaluation.converged if judged else None)
        # Where no rung has validations enough, a doubling of the budget tells.
        assert result.converged is not None
