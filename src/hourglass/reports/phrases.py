"""Words, intervals and table cells that several reports share.

Each number of a report has the format option z (PEP 682): what rounds to zero has no minus, so -0.004 is 0.00.
"""

import math
from collections.abc import Iterable, Sequence

from hourglass.corpora.recipes import lengths_of
from hourglass.metrics.significance import AdjustedDifference, Difference, Estimate, Interval
from hourglass.reports.plots import Line

# The attention whose decoder receives one fixed vector, before its first step.
ONCE = "none"


# The attention whose decoder reads the same fixed vector at every step (Cho et al. 2014).
REREAD = "fixed"


# Attentions whose context is the same at every step, so that the decoder cannot choose what to read.
NOT_CHOOSING = (REREAD, "mean")


# What an interval covers, for the text beside it.
OVER_SENTENCES = "over test sentences; one seed per variant, so the spread between seeds is unknown"
OVER_SEEDS_POOLED = "over test sentences and seeds, seeds pooled over all variants"
OVER_OWN_SEEDS = "over test sentences and the two variants' own seeds"


# Headings of the cells of `difference_cells`, after that of the difference itself, and of `p_cells`.
DIFFERENCE_HEADINGS = ("these trained models", "this architecture, pooled", "this architecture, own spread")
P_HEADINGS = ("p", "p, Holm")


def length_label(recipe: str | None) -> str:
    """Return the label of an axis with the lengths of a recipe's sources, by buckets; None: it is not known."""
    return f"mean {lengths_of(recipe)} of a bucket"


def difference_cells(difference: Difference | None) -> list[str]:
    """Return four table cells: a difference and its three intervals; dashes for the baseline, which has none."""
    if difference is None:
        return ["-"] * 4
    intervals = (difference.trained, difference.architecture, difference.own_spread)
    return [f"{difference.value:+z.2f}", *map(show_range, intervals)]


def p_cells(difference: AdjustedDifference | None) -> list[str]:
    """Return two table cells: p and Holm's p; dashes for the baseline, which has none."""
    return ["-"] * 2 if difference is None else [show_p(difference.p), show_p(difference.p_holm)]


def banded(
    x: Sequence[float],
    y: Sequence[float],
    intervals: Sequence[Interval | None],
    few: Sequence[bool],
    each: Sequence[Sequence[float]] = (),
) -> Line:
    """Return a line with a band wherever there is an interval; `each` has the values of single seeds."""
    low = [interval.low if interval else math.nan for interval in intervals]
    high = [interval.high if interval else math.nan for interval in intervals]
    return Line(x, y, low, high, few, each=each)


def estimate_line(x: Sequence[float], estimates: Sequence[Estimate], few: Sequence[bool]) -> Line:
    """Return the line of estimates with their widest intervals, and the values of the seeds where there are several."""
    each = [item.by_seed if len(item.by_seed) > 1 else [] for item in estimates]
    return banded(x, [item.mean for item in estimates], [item.widest for item in estimates], few, each)


def difference_line(x: Sequence[float], differences: Sequence[Difference], few: Sequence[bool]) -> Line:
    """Return the line of differences with their widest intervals."""
    return banded(x, [item.value for item in differences], [widest(item)[0] for item in differences], few)


def cover_of_estimates(estimates: Iterable[Estimate]) -> str:
    """Return what the bands of `estimate_line` cover."""
    known = [item for item in estimates if item.interval]
    if any(item.own_spread is None and len(item.by_seed) > 1 for item in known):  # An older result.
        return "over test sentences, not over seeds (small dots)"
    return _cover([item.own_spread is not None for item in known])


def cover_of_differences(differences: Iterable[Difference]) -> str:
    """Return what the bands of `difference_line` cover."""
    return _cover([widest(item)[1] != OVER_SENTENCES for item in differences if item.trained])


def _cover(over_seeds: Sequence[bool]) -> str:
    if not over_seeds:
        return "but too few test sentences for any"
    if all(over_seeds):
        return "over test sentences and seeds"
    if any(over_seeds):
        return "over test sentences, and over seeds where there are several"
    return "over test sentences; one seed each, so not over seeds"


def widest(difference: Difference) -> tuple[Interval | None, str]:
    """Return the wider of the two intervals over sentences and seeds, and what it covers.

    Where one seed per variant leaves neither, return the interval over test sentences.
    """
    interval = difference.widest
    if interval is difference.trained:
        return interval, OVER_SENTENCES
    return interval, OVER_SEEDS_POOLED if interval is difference.architecture else OVER_OWN_SEEDS


def show_range(interval: Interval | None, decimals: int = 2) -> str:
    """Return an interval to so many decimals, or a dash where there is none."""
    return f"[{interval.low:z.{decimals}f}, {interval.high:z.{decimals}f}]" if interval else "-"


def in_brackets(interval: Interval | None, covers: str) -> str:
    """Return an interval as part of a sentence, with a space before it; an empty text where there is none."""
    return f" (95 % interval {interval.low:z.1f} to {interval.high:z.1f}, {covers})" if interval else ""


def show_p(value: float | None) -> str:
    """Return a p-value to four decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:z.4f}"


def show_tokens(tokens: float, digits: str = ".2f") -> str:
    """Return a number of tokens as text, in millions or billions where it is large, with `digits` as in a format."""
    if tokens >= 1e9:
        return f"{tokens / 1e9:z{digits}} billion"
    return f"{tokens / 1e6:z{digits}} million" if tokens >= 100_000 else f"{tokens:z,.0f}"


def listing(names: Sequence[str]) -> str:
    """Return names as part of a sentence: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
