"""The folders of MLflow's artifacts: beside a SQLite database, also after both have been moved.

A database that is addressed by a relative path moves with its project, but MLflow writes absolute paths of artifacts
into it: for each experiment, run and model. Without correction, a moved or copied project sends its artifacts to the
old folder.
"""

import logging
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from hourglass.errors import UserError

log = logging.getLogger(__name__)

# The folder of artifacts beside the database; MLflow's own name for it.
FOLDER = "mlruns"
# Where MLflow keeps addresses of artifacts: table, key, column.
_ADDRESSES = (
    ("experiments", "experiment_id", "artifact_location"),
    ("runs", "run_uuid", "artifact_uri"),
    ("logged_models", "model_id", "artifact_location"),
    ("model_versions", "rowid", "source"),
    ("model_versions", "rowid", "storage_location"),
)
# Seconds to wait for another process that writes to the database.
_PATIENCE = 60


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite database, None for any other address."""
    if not uri.startswith("sqlite"):
        return None
    import sqlalchemy

    name = sqlalchemy.make_url(uri).database
    return None if not name or name.startswith((":memory:", "file:")) else Path(name).resolve()


def local_folder(address: str | None) -> Path | None:
    """Return the folder of an address of artifacts, None if it is not of this machine's files."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    return Path(local_file_uri_to_path(address)) if address and is_local_uri(address) else None


def new_location(uri: str, experiment: str) -> str | None:
    """Return the address for the artifacts of a new experiment: beside a SQLite database; None: MLflow's own choice.

    It is an address (file://), because MLflow decodes paths: artifacts of a project in `a%20b` would go to `a b`.

    Args:
        uri: address of MLflow.
        experiment: name of the experiment.
    """
    file = database_file(uri)
    return None if file is None else (file.parent / FOLDER / re.sub(r"[^\w-]", "-", experiment)).as_uri()


def follow_database(uri: str) -> None:
    """Correct the addresses of artifacts in a SQLite database that has been moved or copied with its artifacts.

    An experiment has been moved if its folder `mlruns/NAME` is beside the database, or if there is none at the old
    place. Addresses of runs and models stay if only the old folder has their files.

    Args:
        uri: address of MLflow; addresses other than SQLite's are left alone.

    Raises:
        sqlite3.Error: the database is damaged or cannot be written.
    """
    file = database_file(uri)
    if file is None or not file.is_file():
        return
    with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as database:
        if not any(_changes(database, file.parent)):
            return
        database.execute("BEGIN IMMEDIATE")  # Read again: another process may have been first.
        changes = list(_changes(database, file.parent))
        for table, key, column, row, _, new in changes:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new.as_uri(), row))
        database.execute("COMMIT")
    if any(table != "experiments" for table, *_ in changes):
        old = next(old for table, _, _, _, old, _ in changes if table == "experiments")
        log.info(
            "%s has been moved: its artifacts are now in %s, no longer in %s", file, file.parent / FOLDER, old.parent
        )


def _changes(database: sqlite3.Connection, folder: Path) -> Iterator[tuple[str, str, str, Any, Path, Path]]:
    """Yield table, key, column, row, old and new folder of each address to correct."""
    moved: dict[Path, Path] = {}
    for table, key, column in _ADDRESSES:
        if column not in [row[1] for row in database.execute(f"PRAGMA table_info({table})")]:
            continue  # Of another version of MLflow, which says so itself.
        for row, address in database.execute(f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL"):
            old = local_folder(address)
            if old is None:
                continue
            if table == "experiments" and _has_moved(old, folder):
                moved[old] = folder / FOLDER / old.name
                yield table, key, column, row, old, moved[old]
            elif table != "experiments":
                for before, after in moved.items():
                    if old.is_relative_to(before):
                        new = after / old.relative_to(before)
                        if new.exists() or not old.exists():
                            yield table, key, column, row, old, new


def _has_moved(old: Path, folder: Path) -> bool:
    if old.parent.name != FOLDER or old.parent.parent.resolve() == folder:
        return False
    return (folder / FOLDER / old.name).is_dir() or not old.is_dir()


def check_location(uri: str, experiment: Any) -> None:
    """Check, before a training, that the artifacts of an experiment can be written, if MLflow's client writes them.

    Args:
        uri: address of MLflow.
        experiment: in MLflow's form.

    Raises:
        UserError: the folder cannot be made or written.
    """
    folder = local_folder(experiment.artifact_location)
    if folder is None:
        return
    file = database_file(uri)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"the artifacts of the experiment {experiment.name} go to {folder}, which cannot be written "
            f"({os.strerror(error.errno) if error.errno else error}): make it writable, or name another experiment by "
            "logger.experiment"
        ) from None
    if file is not None and folder.parent.name == FOLDER and folder.parent.parent.resolve() != file.parent:
        beside = file.parent / FOLDER / folder.name
        log.info("MLflow's artifacts go to %s; to keep them beside %s, move that folder to %s", folder, file, beside)
