"""Options: admitted values pass unchanged, and all others are refused with the name of the option."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.config.options import build, check, choose
from hourglass.errors import UserError


class Oven:
    """A constructor with one option of each kind."""

    def __init__(
        self,
        size: int,
        *,
        shelves: PositiveInt,
        fan: bool,
        heat: Literal["gas", "power"],
        loss: Annotated[float, Field(ge=0, lt=1)],
        spare: NonNegativeInt = 7,
    ):
        self.all = (size, shelves, fan, heat, loss, spare)


GOOD: dict[str, Any] = {"shelves": 2, "fan": True, "heat": "gas", "loss": 0.5}


def test_options_and_computed_arguments_are_passed() -> None:
    assert build(Oven, GOOD, "oven", size=3).all == (3, 2, True, "gas", 0.5, 7)
    assert build(Oven, GOOD | {"spare": 0}, "oven", size=3).all == (3, 2, True, "gas", 0.5, 0)


def test_functions_and_dataclasses_are_built_too() -> None:
    @dataclass(frozen=True)
    class Settings:
        beam: PositiveInt

    def double(times: PositiveInt) -> int:
        return 2 * times

    assert build(Settings, {"beam": 4}, "search") == Settings(4)
    assert build(double, {"times": 4}, "any") == 8
    with pytest.raises(UserError, match=r"search\.beam=0"):
        build(Settings, {"beam": 0}, "search")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, r"oven\.colour: no such option; oven takes fan, heat, loss, shelves, spare"),
        ({"size": 9}, r"oven\.size: no such option"),  # a computed argument is not an option
        ({"self": 9}, r"oven\.self: no such option"),
        ({"shelves": 0}, r"oven\.shelves=0: input should be greater than 0"),
        ({"shelves": 2.5}, r"oven\.shelves=2\.5: input should be a valid integer"),
        ({"shelves": "2"}, r"oven\.shelves=2: input should be a valid integer"),
        ({"shelves": True}, r"oven\.shelves=True: input should be a valid integer"),
        ({"shelves": None}, r"oven\.shelves=None: input should be a valid integer"),
        ({"shelves": [2]}, r"oven\.shelves=\[2\]: input should be a valid integer"),
        ({"fan": 1}, r"oven\.fan=1: input should be a valid boolean"),
        ({"fan": "yes"}, r"oven\.fan=yes: input should be a valid boolean"),
        ({"heat": "coal"}, r"oven\.heat=coal: input should be 'gas' or 'power'"),
        ({"heat": ["gas"]}, r"oven\.heat=\['gas'\]: input should be 'gas' or 'power'"),
        ({"loss": 1}, r"oven\.loss=1: input should be less than 1"),
        ({"loss": -0.1}, r"oven\.loss=-0\.1: input should be greater than or equal to 0"),
        ({"loss": "2e-3"}, r"oven\.loss=2e-3: input should be a valid number"),
        ({"loss": float("nan")}, r"oven\.loss=nan: input should be a finite number"),
        ({"loss": float("inf")}, r"oven\.loss=inf: input should be a finite number"),
    ],
)
def test_refusals_name_the_option_and_its_choices(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(Oven, GOOD | changes, "oven", size=3)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_option_is_named(missing: str) -> None:
    options = {name: value for name, value in GOOD.items() if name != missing}
    with pytest.raises(UserError, match=rf"oven\.{missing}: missing; set oven\.{missing}=\.\.\."):
        build(Oven, options, "oven", size=3)


def test_a_whole_number_is_accepted_for_a_float() -> None:
    # YAML reads "0" as an integer, and users write floats so.
    assert check(Annotated[float, Field(ge=0)], 0, "a.b") == 0.0


@pytest.mark.parametrize("name", ["red", "", None, 3, ["green"], {"green": 1}, "torch.nn.Linear"])
def test_only_choices_are_accepted(name: Any) -> None:
    choices = {"green": 1, "blue": 2}
    assert choose(choices, "blue", "paint.name") == 2
    with pytest.raises(UserError, match=r"^paint\.name=.*: no such choice; choose from blue, green$"):
        choose(choices, name, "paint.name")
