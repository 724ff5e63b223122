"""Results as JSON files: dataclasses that pydantic writes and reads, with the version of their layout in the file."""

import json
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from hourglass.errors import UserError
from hourglass.system.files import write_json

T = TypeVar("T")


def write_record(file: Path, record: Any, version: int) -> None:
    """Write a result.

    Args:
        file: where to.
        record: an instance of a dataclass whose fields have plain values, or are such dataclasses themselves.
        version: of the dataclass: 1 more whenever a field is added, removed, renamed, or changes its meaning.
    """
    values = pydantic.TypeAdapter(type(record)).dump_python(record, mode="json")
    write_json(file, {"schema_version": version, **values})


def read_record(file: Path, kind: type[T], version: int, command: str) -> T:
    """Read a result that `write_record` has written.

    Args:
        file: where it is.
        kind: the dataclass.
        version: the only one that is read.
        command: makes the file again; part of the error message.

    Raises:
        UserError: the file is missing, damaged, or has another version or layout; the message names `command`.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}): run {command}") from None
    except ValueError as error:
        raise UserError(f"{file}: not a whole JSON file ({error}): run {command}") from None
    stored = content.get("schema_version") if isinstance(content, dict) else None
    if stored != version:
        raise UserError(
            f"{file}: schema_version is {stored}, and this version of Hourglass reads {version}: run {command}"
        )
    try:
        return pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise UserError(f"{file}: {place}: {reason}: run {command}") from None
