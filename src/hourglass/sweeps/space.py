"""The search space of a sweep, from the words of a command line."""

import logging
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

log = logging.getLogger(__name__)


def search_space(
    params: Sequence[Override], arguments: Sequence[Override]
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return what is searched, and the settings that are the same for all trials.

    Args:
        params: of hydra.sweeper.params.
        arguments: of the command line, which come first where both name a key.

    Raises:
        UserError: a key of the search space has no choices.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    given = {override.get_key_element() for override in arguments}
    for override in [*(one for one in params if one.get_key_element() not in given), *arguments]:
        name = override.get_key_element()
        if override.is_sweep_override():
            space[name] = distribution(override)
        else:
            fixed.append(f"{name}={override.get_value_element_as_str()}")
    return space, fixed


def distribution(override: Override) -> BaseDistribution:
    """Return the distribution that an override of Hydra's sweep grammar describes."""
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
            made: BaseDistribution
            if "int" in value.tags or isinstance(low, int):
                made = IntDistribution(int(low), int(high), log=log_scale)
            else:
                made = FloatDistribution(low, high, log=log_scale)
            return made
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise UserError(f"hydra.sweeper.params: {name}: {error}") from None


def each_choice(space: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Return a few draws that name every choice once, to see that they can be composed."""
    choices = {name: getattr(one, "choices", None) or [getattr(one, "low", None)] for name, one in space.items()}
    return [
        [f"{name}={text_of(some[min(number, len(some) - 1)])}" for name, some in choices.items()]
        for number in range(max(map(len, choices.values())))
    ]


def text_of(value: Any) -> str:
    """Return a drawn value as it stands on a command line."""
    return repr(value) if isinstance(value, float) else str(value)
