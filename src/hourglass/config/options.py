"""Check options against the annotations of a constructor, and build the object.

The annotations alone define what an option may be: `Literal[...]` for choices, `PositiveInt`,
`Annotated[float, Field(ge=0, lt=1)]` and so on for ranges. A config cannot name a Python object, so neither a config
nor a checkpoint can import anything.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

from hourglass.config.registry import Registry
from hourglass.errors import UserError
from hourglass.system.yaml_files import read_yaml

# Resolved settings: nested mappings, lists, and scalars.
Config = Mapping[str, Any]

# Words; one may be given without a list.
Words = Annotated[list[str], pydantic.BeforeValidator(lambda words: [words] if isinstance(words, str) else words)]

T = TypeVar("T")

# Of a choice to which people add classes of their own.
OWN = "; one of your own needs plugins=[MODULE]"

FINITE = pydantic.ConfigDict(allow_inf_nan=False)


def build(make: Callable[..., T], options: Mapping[str, Any], group: str, **computed: Any) -> T:
    """Call `make` with the checked options of a config group and with computed arguments.

    Args:
        make: a class or function; every parameter that is not in `computed` is an option.
        options: the config group, as plain values.
        group: the group's name, for messages ("encoder"); empty for keys without a group.
        computed: arguments that are not options, such as sizes and embeddings; not checked.

    Raises:
        UserError: an option is unknown, missing, of the wrong type or outside its choices.
    """
    parameters = {name: p for name, p in inspect.signature(make).parameters.items() if name not in computed}
    annotations = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)
    unknown = [name for name in options if name not in parameters]
    if unknown:
        name = f"{group}.{unknown[0]}".removeprefix(".")
        known = ", ".join(sorted(parameters)) or "no options"
        known = f"{group or 'the command'} takes {known}"
        raise UserError(f"{name}: no such option; {known}: leave it out (of an experiment: ~{name})")
    checked: dict[str, Any] = {}
    for name, parameter in parameters.items():
        option = f"{group}.{name}".removeprefix(".")
        if name not in options:
            if parameter.default is inspect.Parameter.empty:
                raise UserError(f"{option}: missing; set {option}=...")
            continue
        checked[name] = check(annotations[name], options[name], option)
    return make(**checked, **computed)


def read_settings(file: Path, make: Callable[[dict[str, Any]], T]) -> T:
    """Build settings from the mapping in a YAML file.

    Args:
        file: the YAML file.
        make: builds the settings from the mapping.

    Raises:
        UserError: the file cannot be read or holds no mapping, or `make` refuses it; the message names the file.
    """
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise UserError("holds no settings")
        return make(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def check(annotation: Any, value: Any, option: str) -> Any:
    """Return `value`, converted to the type of `annotation`.

    Raises:
        UserError: the annotation does not admit the value; the message has the option, the value, and its choices or
            range.
    """
    try:
        # Strict: "3" is not a number, nor 2.5 a count; but an int is accepted for a float. Infinity is refused.
        return pydantic.TypeAdapter(annotation, config=FINITE).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason, own = first["msg"], OWN if first["type"] == "cell" else ""
        raise UserError(f"{option}={value}: {reason[0].lower()}{reason[1:]}{own}") from None


def choose(choices: Mapping[str, T], name: Any, option: str) -> T:
    """Return the choice of this name.

    Raises:
        UserError: there is none; the message lists the choices.
    """
    if not isinstance(name, str) or name not in choices:
        own = OWN if isinstance(choices, Registry) else ""
        raise UserError(f"{option}={name}: no such choice; choose from {', '.join(sorted(choices))}{own}")
    return choices[name]
