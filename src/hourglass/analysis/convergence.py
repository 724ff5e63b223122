"""Whether a training has converged, from its curve of the dev loss."""

from collections.abc import Mapping

from hourglass.metrics.significance import converged
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json


def dev_curves(run: RunFolder, total: int) -> dict[str, dict[float, float]]:
    """Return a run's loss and BLEU on dev by the target tokens read, of `total` in all."""
    points = read_curves(run.curves)
    tokens = {step: value for step, name, value in points if name == "train/target_tokens"}
    return {
        name: {_tokens_at(tokens, step, total): value for step, curve, value in points if curve == f"dev/{name}"}
        for name in ("loss", "bleu")
    }


def judge_convergence(run: RunFolder, gain: float) -> tuple[bool, float]:
    """Say of a run whether it had converged, and by what share the last fifth of its budget lowered the dev loss.

    Args:
        run: its folder.
        gain: a smaller share counts as converged.
    """
    total = read_json(run.metrics)["train_target_tokens"]
    return has_converged(dev_curves(run, total)["loss"], total, gain)


def has_converged(dev_loss: Mapping[float, float], total: int, gain: float) -> tuple[bool, float]:
    """Return whether a training has converged, and by what share its last fifth lowered the dev loss.

    Args:
        dev_loss: by the target tokens read.
        total: target tokens of the whole budget.
        gain: a smaller share counts as converged.
    """
    return converged({at / total: value for at, value in dev_loss.items()}, gain)


def _tokens_at(tokens: Mapping[int, float], step: int, total: int) -> float:
    """Return how many target tokens were read at a step; between points of the curve the nearest one before."""
    before = [value for at, value in tokens.items() if at <= step]
    # The last validation falls on the last step, whether or not the curve has a point there.
    last = max(tokens, default=0)
    return float(total) if step >= last else max(before, default=0.0)
