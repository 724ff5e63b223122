"""Convergence of a training, judged from its curve of the dev loss."""

from collections.abc import Iterable
from dataclasses import dataclass

from hourglass.errors import UserError
from hourglass.metrics.significance import converged
from hourglass.training.finished import FinishedRun

# A training with less is not judged: in its first steps a loss hardly falls either, and a share of 1 % of it says
# nothing about what more training would bring.
JUDGED_TOKENS, JUDGED_VALIDATIONS = 100_000, 4

# For captions of tables with such a training.
NOT_JUDGED = (
    f"Not judged: a training of fewer than {JUDGED_TOKENS:,} target tokens or {JUDGED_VALIDATIONS} validations is too "
    "short to judge whether it converged."
)


@dataclass(frozen=True)
class Convergence:
    """Whether a training had converged.

    Attributes:
        converged: whether the gain is smaller than a given share; None for a training that is too short to be judged.
        gain_of_last_fifth: share of the dev loss by which the last fifth of the budget lowered it.
    """

    converged: bool | None
    gain_of_last_fifth: float


def judge_convergence(run: FinishedRun, gain: float) -> Convergence:
    """Judge whether a run had converged.

    Args:
        run: with its curves.
        gain: a smaller share of the dev loss counts as converged.

    Raises:
        UserError: the curve has too few points; the message names the run.
    """
    total, losses = run.metrics.train_target_tokens, run.dev_curves.loss
    try:
        below, gained = converged({tokens / total: loss for tokens, loss in losses}, gain)
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None
    return Convergence(below if is_judged(total, len(losses)) else None, gained)


def is_judged(target_tokens: int, validations: int) -> bool:
    """Whether a training is long enough to judge its convergence.

    Args:
        target_tokens: read in training.
        validations: points of its curve of the dev loss.
    """
    return target_tokens >= JUDGED_TOKENS and validations >= JUDGED_VALIDATIONS


def all_converged(verdicts: Iterable[bool | None]) -> bool | None:
    """Return the verdict on several trainings: False if one had not converged, None if one of the others is None."""
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts else True


def show_verdict(verdict: bool | None) -> str:
    """Return the cell of a table for `Convergence.converged`."""
    return "not judged" if verdict is None else "yes" if verdict else "no"


def describe_verdict(verdict: bool | None) -> str:
    """Return what follows the name of a variant in a sentence: "had converged"."""
    if verdict is None:
        return "had trained too little to judge whether it had converged"
    return "had converged" if verdict else "had not converged"
