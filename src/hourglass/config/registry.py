"""Registries: the classes that a setting chooses from by name, those of plugins among them."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import pydantic

from hourglass.errors import UserError

T = TypeVar("T")
K = TypeVar("K", bound=type)

# A name as the command line can write it, without quotes.
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


class Registry(Mapping[str, type[T]], Generic[T]):
    """The classes that one setting chooses from, each by its attribute `name`.

    A class of one's own is registered by the decorator `register`, in a module that the setting `plugins` names.

    Args:
        option: the setting, for messages: attention.name, data.name, ...
        base: what all are derived from.
        classes: those of this package.
        arguments: what the constructor is given beside options.
        has_options: whether its other arguments are options.
        settings: the attribute of a class that holds the type of its options, where they are one of its arguments.
        reserved: names that mean something else already.
    """

    def __init__(
        self,
        option: str,
        base: type[T],
        classes: Iterable[type[T]] = (),
        *,
        arguments: Sequence[str] = (),
        has_options: bool = True,
        settings: str | None = None,
        reserved: Sequence[str] = (),
    ):
        self.option, self.base, self._reserved = option, base, reserved
        self._arguments, self._has_options, self._settings = arguments, has_options and settings is None, settings
        self._classes: dict[str, type[T]] = {kind.name: kind for kind in classes}  # type: ignore[attr-defined]
        REGISTRIES.append(self)

    def __getitem__(self, name: str) -> type[T]:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def register(self, kind: K) -> K:
        """Add a class, and return it: a decorator.

        Raises:
            UserError: it does not have the interface of `base`, or its name is taken.
        """
        self.check_interface(kind)
        other = self._classes.get(kind.name)  # type: ignore[attr-defined]
        if other is not None and other is not kind:
            raise UserError(
                f"{_full_name(kind)}: the name {kind.name} of {self.option} is taken by "  # type: ignore[attr-defined]
                f"{_full_name(other)}: give it another"
            )
        self._classes[kind.name] = kind  # type: ignore[attr-defined]
        return kind

    def remove(self, kinds: Iterable[type]) -> None:
        """Remove classes, those of a plugin that cannot be imported."""
        removed = list(kinds)
        self._classes = {name: kind for name, kind in self._classes.items() if kind not in removed}

    def check_interface(self, kind: Any) -> None:
        """Check that a class can stand where `base` is wanted, as far as can be told without an object of it.

        Raises:
            UserError: it cannot; the message names what is missing.
        """
        name = _full_name(kind)
        if not isinstance(kind, type) or not issubclass(kind, self.base):
            raise UserError(f"{name}: is no subclass of {_full_name(self.base)}")
        own = getattr(kind, "name", None)
        if not isinstance(own, str) or not NAME.fullmatch(own):
            raise UserError(f"{name}: has no attribute `name`: set it to the word that chooses it by {self.option}")
        if own in self._reserved:
            raise UserError(f"{name}: the name {own} of {self.option} has a meaning already: give it another")
        if missing := sorted(getattr(kind, "__abstractmethods__", ())):
            raise UserError(f"{name}: lacks {', '.join(missing)}: see {_full_name(self.base)}")
        parameters = _parameters(kind, name)
        given = " and ".join([", ".join(self._arguments), *(["options"] if self._has_options else [])])
        if lacking := [argument for argument in self._arguments if argument not in parameters]:
            raise UserError(f"{name}: its constructor does not take {lacking[0]}: it is given {given}")
        others = {key: value for key, value in parameters.items() if key not in self._arguments}
        needed = [key for key, value in others.items() if value.default is inspect.Parameter.empty]
        if needed and not self._has_options:
            raise UserError(f"{name}: its constructor wants {needed[0]}: it is given {given}")
        if self._has_options:
            _check_options(kind, others)
        if self._settings is not None:
            settings, wanted = getattr(kind, self._settings), getattr(self.base, self._settings)
            if not isinstance(settings, type) or not issubclass(settings, wanted):
                raise UserError(f"{name}: its {self._settings} is no subclass of {_full_name(wanted)}")
            _check_options(settings, _parameters(settings, _full_name(settings)))


# Every registry, in the order of their making; a process that does not import one of them does not build from it.
REGISTRIES: list[Registry[Any]] = []


def _parameters(make: Callable[..., Any], name: str) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(make).parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: its constructor has no signature ({error})") from None


def _check_options(make: Any, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Check that options can be checked against these parameters: each has a name and a type that pydantic knows.

    Raises:
        UserError: one has not, or the fields of the class are no parameters yet.
    """
    name = _full_name(make)
    fields = [key for key, kind in inspect.get_annotations(make).items() if "ClassVar" not in str(kind)]
    if fields and dataclasses.is_dataclass(make) and "__dataclass_fields__" not in vars(make):
        raise UserError(f"{name}: is no dataclass: write @dataclass(frozen=True) directly before it")
    try:
        annotations = typing.get_type_hints(make.__init__, include_extras=True)
    except (AttributeError, NameError, SyntaxError, TypeError) as error:
        raise UserError(f"{name}: an annotation of its constructor cannot be read ({error})") from None
    for key, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"{name}: its constructor takes {parameter}, and options are given by name: list them")
        if key not in annotations:
            raise UserError(f"{name}: its option {key} has no annotation: write its range, such as {key}: PositiveInt")
        try:
            pydantic.TypeAdapter(annotations[key])
        except pydantic.PydanticUserError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{name}: its option {key} cannot be checked ({reason})") from None


def _full_name(kind: Any) -> str:
    if not isinstance(kind, type):
        return repr(kind)
    return f"{kind.__module__}.{kind.__qualname__}"
