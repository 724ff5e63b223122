"""Check configured options against the constructor that takes them, and build the object.

A constructor's annotations are the one statement of what an option may be: `Literal[...]` for choices,
`PositiveInt`, `Annotated[float, Field(ge=0, lt=1)]` and so on for ranges. Nothing in a config can name a Python
object, so there is nothing for a config, or a checkpoint, to import.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from hourglass.errors import UserError

T = TypeVar("T")


FINITE = pydantic.ConfigDict(allow_inf_nan=False)


def build(make: Callable[..., T], options: Mapping[str, Any], group: str, **at_run_time: Any) -> T:
    """Call `make` with the checked `options` of one config group, plus what is known only at run time.

    Args:
        make: a class or function; every keyword that `at_run_time` does not give is an option.
        options: the config group as a plain mapping (values of plain YAML types).
        group: the group's name, for messages ("encoder").
        at_run_time: arguments that are no options: sizes, embeddings; not checked.

    Raises:
        UserError: an option is unknown, missing, of the wrong type or outside its choices.
    """
    parameters = {name: p for name, p in inspect.signature(make).parameters.items() if name not in at_run_time}
    annotations = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)
    unknown = [name for name in options if name not in parameters]
    if unknown:
        name = f"{group}.{unknown[0]}"
        takes = ", ".join(sorted(parameters)) or "no options"
        raise UserError(f"{name}: no such option; {group} takes {takes}: leave it out (of an experiment: ~{name})")
    checked: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name not in options:
            if parameter.default is inspect.Parameter.empty:
                raise UserError(f"{group}.{name}: missing; set {group}.{name}=...")
            continue
        checked[name] = check(annotations[name], options[name], f"{group}.{name}")
    return make(**checked, **at_run_time)


def read_settings(file: Path, make: Callable[[dict[str, Any]], T]) -> T:
    """Return what `make` makes of the mapping in a YAML file.

    Raises:
        UserError: the file cannot be read or holds no mapping, or `make` refuses it; the message names the file.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise UserError("holds no settings")
        return make(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def check(annotation: Any, value: Any, option: str) -> Any:
    """Return `value` if it is what `annotation` admits, and say which option is wrong otherwise.

    Raises:
        UserError: it is not; the message holds the option, the choices or range, and the value.
    """
    try:
        # Strict: "3" is no number and 2.5 no count; a whole number still stands for a float, and no option is infinite.
        return pydantic.TypeAdapter(annotation, config=FINITE).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"{option}={value}: {reason[0].lower()}{reason[1:]}") from None


def choose(choices: Mapping[str, T], name: Any, option: str) -> T:
    """Return the choice called `name`.

    Raises:
        UserError: there is none; the message lists the choices.
    """
    if not isinstance(name, str) or name not in choices:
        raise UserError(f"{option}={name}: no such choice; choose from {', '.join(sorted(choices))}")
    return choices[name]
