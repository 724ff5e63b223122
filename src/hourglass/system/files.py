"""Write files whole or not at all; JSON."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hourglass.errors import BrokenOffError, UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system while a file is written into one that names the file; "disk full" does not.

    Raises:
        BrokenOffError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BrokenOffError(f"{path}: cannot be written ({reason}): free disk space, or make it writable") from None


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read plain values from JSON.

    Raises:
        UserError: the file is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not a whole JSON file ({error})") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8. If the process dies, the file has either its old or its new content."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
