"""Files that are written whole or not at all."""

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
    """Name the file when the system refuses to write it; a full disk does not say by itself which it was.

    Raises:
        BrokenOffError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BrokenOffError(f"{path}: cannot be written ({reason}): free the disk, or make it writable") from None


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read plain values.

    Raises:
        UserError: the file is missing or cut short.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a whole JSON file ({error})") from None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that it is there whole or not at all, whenever the process dies."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
