"""Phrases, intervals and columns that reports share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hourglass.reports.plots import Line

# The attention that hands the same vector to the decoder at every step (Cho et al. 2014).
REREAD = "fixed"


OF_ARCHITECTURE = {
    "architecture": "this architecture, seeds pooled",
    "own_spread": "this architecture, own spread of seeds",
}


# Contexts that are the same whatever is asked: no attention, though more than a first state.
NOT_CHOOSING = (REREAD, "mean")


def lead(difference: Mapping[str, Any] | None) -> list[str]:
    """Return the cells of a difference to the baseline: its value, three intervals and p; of the baseline dashes."""
    if difference is None:
        return ["-"] * 5
    intervals = [show_range(difference[name]) for name in ("trained", *OF_ARCHITECTURE)]
    return [f"{difference['value']:+.2f}", *intervals, show_p(difference["p"])]


def banded(
    x: Sequence[float], y: Sequence[float], intervals: Sequence[Mapping[str, float] | None], few: Sequence[bool]
) -> Line:
    """Return a line with a band where there are intervals."""
    low, high = ([one[side] if one else math.nan for one in intervals] for side in ("low", "high"))
    return Line(x, y, low, high, few)


def widest(difference: Mapping[str, Any]) -> tuple[Mapping[str, float] | None, str]:
    """Return the wider interval of the architecture where seeds allow one, else that of the trained models."""
    known = [(difference[name], said) for name, said in OF_ARCHITECTURE.items() if difference[name]]
    if known:
        return max(known, key=lambda one: float(one[0]["high"] - one[0]["low"]))
    return difference["trained"], "these trained models; one seed says nothing of others"


def show_range(interval: Mapping[str, float] | None) -> str:
    """Return an interval as text, to two decimals; '-': there is none."""
    return f"[{interval['low']:.2f}, {interval['high']:.2f}]" if interval else "-"


def show_p(value: float | None) -> str:
    """Return a p-value as text; '-': there is none."""
    return "-" if value is None else f"{value:.4f}"
