"""Cached folders: each is written under another name and then renamed, so that a kill leaves no partial one."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hourglass.errors import UserError

# Lists the other files of a folder with their sizes; written last.
FILES = "files.json"


def fill_cache(cache: Path, kind: str, name: str, write: Callable[[Path], None]) -> Path:
    """Return the folder cache/kind/name, after writing it if it does not exist or is incomplete.

    Args:
        cache: the folder of everything cached.
        kind: what is cached: corpus, tokenizer, ...
        name: depends on everything that the content depends on.
        write: writes the files into an empty folder.

    Raises:
        UserError: the cache cannot be written. This and any error of `write` leave nothing behind.
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
            shutil.rmtree(folder, ignore_errors=True)  # A folder that was deleted in part.
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
    """Turn any error while a cached folder is read into one that names the folder: a file of it is damaged.

    Raises:
        UserError: the folder is damaged.
    """
    try:
        yield
    except Exception as error:  # JSON, Arrow, `datasets` and SentencePiece each have errors of their own.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder}: damaged ({reason}); delete this folder: it will be written again") from None


def _is_whole(folder: Path) -> bool:
    """Return whether a folder holds all the files that were written into it, with their sizes."""
    try:
        sizes = json.loads((folder / FILES).read_text(encoding="utf-8"))
        return all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return False
