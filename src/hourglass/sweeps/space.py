"""The search space of a sweep, from overrides in Hydra's grammar, with the values that Hydra gives them.

Hydra leaves the end out of range(START, END, STEP) and of interval(START, END). Optuna's distributions include it.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice, pairwise
from typing import Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hourglass.errors import UserError

# The tags that mean something to a search.
TAGS = {"log", "int"}
# The longest range that is listed.
MOST_NUMBERS = 100_000


def search_space(
    params: Sequence[Override], arguments: Sequence[Override]
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return the distributions of the parameters, and the overrides that are the same for all trials.

    Args:
        params: overrides of hydra.sweeper.params.
        arguments: overrides of the command line, which take precedence; of two for one key, the last.

    Raises:
        UserError: a parameter has no values to choose from.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    replaced = {override.key_or_group for override in arguments}
    for override in [*(param for param in params if param.key_or_group not in replaced), *arguments]:
        name = override.get_key_element()
        space.pop(name, None)
        fixed.pop(name, None)
        if override.is_sweep_override():
            space[name] = parse_distribution(override)
        elif override.is_delete() and override.value_type is None:  # ~KEY, which deletes it whatever its value is.
            fixed[name] = name
        else:
            fixed[name] = f"{name}={override.get_value_element_as_str()}"
    return space, list(fixed.values())


def parse_distribution(override: Override) -> BaseDistribution:
    """Return the distribution that an override describes by choice(...), range(...) or interval(...).

    Raises:
        UserError: the override has no values to choose from, or tags that do not fit.
    """
    name, value = override.get_key_element(), override.value()
    tags = set(getattr(value, "tags", ()))
    try:
        if unknown := tags - TAGS:
            raise ValueError(f"the tag {sorted(unknown)[0]} means nothing here: use log or int")
        if isinstance(value, RangeSweep):
            return _range_distribution(value, log_scale="log" in tags)
        if isinstance(value, IntervalSweep):
            return _interval_distribution(value, log_scale="log" in tags)
        if tags:
            raise ValueError("a choice has no scale: leave its tag out")
        return CategoricalDistribution(listed_values(override))
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"hydra.sweeper.params: {name}: {error}") from None


def listed_values(override: Override) -> list[str]:
    """Return the values of a choice(...), glob(...) or range(...), as Hydra lists them.

    Raises:
        ValueError: there are none, or too many, or it is an interval.
    """
    if isinstance(override.value(), IntervalSweep):
        raise ValueError("an interval has no list of values: use choice(...) or range(...), or search by sweep=optuna")
    values = [str(value) for value in islice(override.sweep_string_iterator(), MOST_NUMBERS + 1)]
    if not values and isinstance(override.value(), Glob):
        raise ValueError("glob(...) finds no choice: it lists those of a group, as in attention=glob(luong_*)")
    if not values:
        raise ValueError("the range is empty: its end is left out")
    if len(values) > MOST_NUMBERS:
        raise ValueError(f"has more than {MOST_NUMBERS:,} values")
    return values


def _range_distribution(sweep: RangeSweep, *, log_scale: bool) -> BaseDistribution:
    """Return the distribution of a range: the numbers that Hydra lists, in ascending order."""
    if not sweep.step:
        raise ValueError("the step of a range cannot be 0")
    step: float = abs(float(sweep.step))
    assert sweep.start is not None
    assert sweep.stop is not None
    if abs(float(sweep.stop) - float(sweep.start)) > MOST_NUMBERS * step:
        raise ValueError(f"the range has more than {MOST_NUMBERS:,} numbers: use interval(START, END)")
    plain = sweep.range()
    numbers: Any = plain if isinstance(plain, range) and not sweep.transformers else list(sweep)
    if not numbers:
        raise ValueError("the range is empty: its end is left out")
    low, high = sorted((numbers[0], numbers[-1]))
    if isinstance(low, int):
        # int(range(0.5, 2, 0.5)) has every number twice.
        spacing = int(step) if isinstance(numbers, range) else _spacing(sorted(set(numbers)))
        return IntDistribution(low, high, step=spacing, log=log_scale)
    if log_scale:
        raise ValueError("a range of fractions has no logarithmic scale: use tag(log, interval(START, END))")
    return FloatDistribution(low, high, step=step)


def _spacing(numbers: Sequence[int]) -> int:
    steps = {after - before for before, after in pairwise(numbers)}
    if len(steps) > 1:
        raise ValueError("the whole numbers of the range are not evenly spaced: use choice(...)")
    return steps.pop() if steps else 1


def _interval_distribution(sweep: IntervalSweep, *, log_scale: bool) -> BaseDistribution:
    """Return the distribution of the numbers from the interval's start up to, but without, its end."""
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not low < high < math.inf or low == -math.inf:
        raise ValueError(f"interval({low}, {high}) has no numbers to choose from, or has no end")
    if "int" in sweep.tags or isinstance(low, int):
        return IntDistribution(math.ceil(low), math.ceil(high) - 1, log=log_scale)
    return FloatDistribution(low, math.nextafter(high, low), log=log_scale)


def each_choice(space: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Return a few trials' overrides that name every choice at least once, to check that they can be composed."""
    choices = {
        name: getattr(distribution, "choices", None) or [getattr(distribution, "low", None)]
        for name, distribution in space.items()
    }
    return [
        drawn_overrides({name: values[min(number, len(values) - 1)] for name, values in choices.items()}, space)
        for number in range(max(map(len, choices.values())))
    ]


def drawn_overrides(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> list[str]:
    """Return the overrides that set parameters to the values that a trial has drawn.

    Args:
        params: values by parameter.
        space: their distributions.
    """
    return [f"{name}={_text_of(value, space[name])}" for name, value in params.items()]


def _text_of(value: Any, distribution: BaseDistribution) -> str:
    """Return the text of a value on a command line; of a range, the decimal number that Hydra lists."""
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        low, step = Decimal(str(distribution.low)), Decimal(str(distribution.step))
        return repr(float(low + round((Decimal(str(value)) - low) / step) * step))
    return repr(value) if isinstance(value, float) else str(value)
