"""Convergence of a training, judged from its curve of the dev loss, or from a training of half its budget.

A loss falls in the last fifth of a budget because the learning rate falls there, whatever more training would bring.
The doubling test says more: the same settings, seed and schedule within half the budget.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hourglass.errors import UserError
from hourglass.metrics.significance import Difference, converged
from hourglass.training.finished import FinishedRun

# A training with less is too short to tell: in its first steps a loss hardly falls either, and a share of 1 % of it
# says nothing about what more training would bring.
JUDGED_TOKENS, JUDGED_VALIDATIONS = 100_000, 4

# The last fifth of a budget begins at 80 % of it, and some validation has to lie within this share of the budget.
LAST_FIFTH, NEAR = 0.8, 0.06

# For captions of tables with a training whose convergence is unknown.
NOT_JUDGED = (
    f"Cannot be told: a training of fewer than {JUDGED_TOKENS:,} target tokens or {JUDGED_VALIDATIONS} validations, or "
    "with none near 80 % of its budget, does not show whether it converged. Nor does one whose dev loss has risen "
    "again: no better since the share of its budget at which the loss was lowest."
)


@dataclass(frozen=True)
class Convergence:
    """Whether a training had converged.

    Attributes:
        converged: whether the gain is smaller than a given share; None where that cannot be told.
        gain_of_last_fifth: share of the dev loss by which the last fifth of the budget lowered it.
        no_better_since: share of the budget at which the dev loss was lowest, where it has risen again since by more
            than the given share; None elsewhere, and in older results.
    """

    converged: bool | None
    gain_of_last_fifth: float
    no_better_since: float | None = None


@dataclass(frozen=True)
class Doubling:
    """A training, beside the same one with half the budget and a whole schedule of its own.

    Attributes:
        seed: of both.
        half_tokens: target tokens that the shorter one read.
        half_dev_loss: of the shorter one, nats per target token.
        gain: share by which the longer one's dev loss is lower.
        half_score: on test, of the shorter one.
        difference: the score on test, the longer one less the shorter one; intervals over sentences.
        converged: whether the gain is smaller than a given share; None: the shorter one is too short to tell.
    """

    seed: int
    half_tokens: int
    half_dev_loss: float
    gain: float
    half_score: float
    difference: Difference
    converged: bool | None


def judge_doubling(
    half: FinishedRun, whole: FinishedRun, gain: float, half_score: float, difference: Difference
) -> Doubling:
    """Judge a training by that of half its budget.

    Args:
        half: with half the budget of the other.
        whole: with the same settings and seed.
        gain: a smaller share of the dev loss counts as converged.
        half_score: see `Doubling`.
        difference: see `Doubling`.
    """
    loss, tokens = half.metrics.dev.criterion, half.metrics.train_target_tokens
    gained = (loss - whole.metrics.dev.criterion) / loss
    verdict = gained < gain if tokens >= JUDGED_TOKENS else None
    return Doubling(half.metrics.seed, tokens, loss, gained, half_score, difference, verdict)


def judge_convergence(run: FinishedRun, gain: float) -> Convergence:
    """Judge whether a run had converged, by the loss that selects its checkpoints.

    Args:
        run: with its curves.
        gain: a smaller share of the dev loss counts as converged.

    Raises:
        UserError: the curve has too few points; the message names the run.
    """
    total = run.metrics.train_target_tokens
    losses = {tokens / total: loss for tokens, loss in run.dev_curves.criterion}
    try:
        below, gained = converged(losses, gain)
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None
    best = min(losses, key=lambda share: losses[share])
    if losses[max(losses)] > (1 + gain) * losses[best]:
        return Convergence(None, gained, no_better_since=best)
    near = min(abs(share - LAST_FIFTH) for share in losses) <= NEAR
    return Convergence(below if near and is_judged(total, len(losses)) else None, gained)


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
    return "cannot be told" if verdict is None else "yes" if verdict else "no"


def show_convergence(verdict: bool | None, trainings: Sequence[Convergence]) -> str:
    """Return the cell of a table for the seeds of a variant, with the reason where convergence cannot be told."""
    since = [training.no_better_since for training in trainings if training.no_better_since is not None]
    return f"no better since {100 * min(since):.0f} %" if verdict is None and since else show_verdict(verdict)


def describe_verdict(verdict: bool | None) -> str:
    """Return what follows the name of a variant in a sentence: "had converged"."""
    if verdict is None:
        return "does not show whether it had converged"
    return "had converged" if verdict else "had not converged"
