"""The values that a word of a sweep stands for, in Hydra's own grammar and with its own loader."""

import re

import pytest
from helpers import CONF
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution

from hourglass.errors import UserError
from hourglass.sweeps.combinations import check_values
from hourglass.sweeps.space import parse_distribution


@pytest.fixture(scope="module")
def parser() -> OverridesParser:
    return OverridesParser.create(config_loader=ConfigLoaderImpl(create_config_search_path(str(CONF))))


def test_a_glob_lists_the_choices_of_a_group(parser: OverridesParser) -> None:
    override = parser.parse_overrides(["attention=glob(luong_*)"])[0]
    files = sorted(file.stem for file in (CONF / "attention").glob("luong_*.yaml"))
    distribution = parse_distribution(override)
    assert isinstance(distribution, CategoricalDistribution)
    assert sorted(map(str, distribution.choices)) == files
    check_values(override)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (
            "seed=glob(*)",
            r"glob\(\.\.\.\) finds no choice: it lists those of a group, as in attention=glob\(luong_\*\)",
        ),
        ("attention=glob(x*)", r"glob\(\.\.\.\) finds no choice"),
        ("seed=range(1,1)", "the range is empty"),
        ("seed=range(1,1e9)", "has more than 100,000 values"),
        ("seed=interval(1,2)", "an interval has no list of values"),
    ],
)
def test_a_word_of_a_plain_multirun_needs_values(word: str, reason: str, parser: OverridesParser) -> None:
    """Hydra itself would run no job, and say nothing."""
    with pytest.raises(UserError, match=f"^{re.escape(word)}: {reason}"):
        check_values(parser.parse_overrides([word])[0])


def test_a_glob_that_finds_nothing_is_refused_by_a_search(parser: OverridesParser) -> None:
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params: encoder\.cell: glob\(\.\.\.\) finds no choice"):
        parse_distribution(parser.parse_overrides(["encoder.cell=glob(*)"])[0])
