"""Convergence of a training, judged from its curve of the dev loss."""

from dataclasses import dataclass

from hourglass.errors import UserError
from hourglass.metrics.significance import converged
from hourglass.training.finished import FinishedRun


@dataclass(frozen=True)
class Convergence:
    """Whether a training had converged.

    Attributes:
        converged: whether the gain is smaller than a given share.
        gain_of_last_fifth: share of the dev loss by which the last fifth of the budget lowered it.
    """

    converged: bool
    gain_of_last_fifth: float


def judge_convergence(run: FinishedRun, gain: float) -> Convergence:
    """Judge whether a run had converged.

    Args:
        run: with its curves.
        gain: a smaller share of the dev loss counts as converged.

    Raises:
        UserError: the curve has too few points; the message names the run.
    """
    total = run.metrics.train_target_tokens
    try:
        return Convergence(*converged({tokens / total: loss for tokens, loss in run.dev_curves.loss}, gain))
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None
