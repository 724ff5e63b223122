"""Folders of the cache: each is written beside its place and moved there as a whole, so that a kill leaves none."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hourglass.errors import UserError

# Names the other files of a folder and their sizes; written last.
FILES = "files.json"


def fill_cache(cache: Path, kind: str, name: str, write: Callable[[Path], None]) -> Path:
    """Return the folder cache/kind/name, filled now unless it is there whole.

    Args:
        cache: the folder of everything cached.
        kind: what is cached: corpus, tokenizer, ...
        name: changes with whatever the content depends on.
        write: writes the files into an empty folder.

    Raises:
        UserError: the cache cannot be written; and what `write` raises. Neither leaves anything behind.
    """
    folder = cache / kind / name
    building = folder.with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        if _is_whole(folder):
            return folder
        building.mkdir(parents=True)
        write(building)
        files = (file for file in building.rglob("*") if file.is_file())
        sizes = {file.relative_to(building).as_posix(): file.stat().st_size for file in files}
        (building / FILES).write_text(json.dumps(sizes, indent=1), encoding="utf-8")
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)  # Half deleted, or none.
        try:
            building.rename(folder)
        except OSError:
            # Another process may have been first, with the same content.
            if not _is_whole(folder):
                raise
    except OSError as error:
        raise UserError(f"cache={cache}: cannot be written ({error}); set cache=FOLDER") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Name a folder of the cache that is not what was written there, though all its files are of their sizes.

    Raises:
        UserError: it is not.
    """
    try:
        yield
    except Exception as error:  # whatever the format says of it: JSON, Arrow, `datasets`, SentencePiece
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder}: damaged ({reason}); delete this folder, and it is made anew") from None


def _is_whole(folder: Path) -> bool:
    """Say whether a folder holds all the files that were written into it, at their sizes."""
    try:
        sizes = json.loads((folder / FILES).read_text(encoding="utf-8"))
        return all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return False
