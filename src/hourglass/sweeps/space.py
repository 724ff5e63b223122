"""The search space of a sweep, from overrides in Hydra's grammar."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hourglass.errors import UserError


def search_space(
    params: Sequence[Override], arguments: Sequence[Override]
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return the distributions of the parameters, and the overrides that are the same for all trials.

    Args:
        params: overrides of hydra.sweeper.params.
        arguments: overrides of the command line, which take precedence.

    Raises:
        UserError: a parameter has no values to choose from.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    replaced = {override.get_key_element() for override in arguments}
    for override in [*(param for param in params if param.get_key_element() not in replaced), *arguments]:
        name = override.get_key_element()
        if override.is_sweep_override():
            space[name] = parse_distribution(override)
        else:
            fixed.append(f"{name}={override.get_value_element_as_str()}")
    return space, fixed


def parse_distribution(override: Override) -> BaseDistribution:
    """Return the distribution that an override describes by choice(...), range(...) or interval(...).

    Raises:
        UserError: the override has no values to choose from.
    """
    name, value = override.get_key_element(), override.value()
    try:
        if isinstance(value, RangeSweep):
            start, stop, step = value.start, value.stop, value.step
            assert start is not None
            assert stop is not None
            if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
                return IntDistribution(start, range(start, stop, step)[-1], step=step)
            return FloatDistribution(float(start), float(stop), step=float(step))
        if isinstance(value, IntervalSweep):
            low, high, log_scale = value.start, value.end, "log" in value.tags
            assert low is not None
            assert high is not None
            if "int" in value.tags or isinstance(low, int):
                return IntDistribution(int(low), int(high), log=log_scale)
            return FloatDistribution(low, high, log=log_scale)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise UserError(f"hydra.sweeper.params: {name}: {error}") from None


def each_choice(space: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Return a few trials' overrides that name every choice at least once, to check that they can be composed."""
    choices = {
        name: getattr(distribution, "choices", None) or [getattr(distribution, "low", None)]
        for name, distribution in space.items()
    }
    return [
        [f"{name}={text_of(values[min(number, len(values) - 1)])}" for name, values in choices.items()]
        for number in range(max(map(len, choices.values())))
    ]


def text_of(value: Any) -> str:
    """Return the text of a value on a command line."""
    return repr(value) if isinstance(value, float) else str(value)
