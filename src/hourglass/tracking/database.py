"""Create MLflow's tables in a SQLite file in one transaction.

MLflow's own creation is a series of some fifty migrations, each of them several transactions. A process that is killed
in the middle leaves tables that no later process can complete. Here MLflow creates its tables in memory, and one
transaction copies them into the file: after a kill at any moment the file has all of them or none.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from hourglass.errors import UserError
from hourglass.tracking.artifacts import database_file

# Seconds to wait for another process that writes to the database.
_PATIENCE = 60
# Seconds without a change after which no other process is creating the tables; `mlflow ui` may be.
_STILL = 60
# Messages of SQLite about tables that are not those which the recorded revision of MLflow has.
_MIXED_TABLES = r"OperationalError.*(already exists|duplicate column name|no such (table|column|index))"


def create_tables(uri: str) -> None:
    """Create MLflow's tables in a SQLite file that has none; the first of several processes creates them.

    The experiment Default is left to MLflow, which adds it with the artifacts' folder of its own choice.

    Args:
        uri: address of MLflow; addresses other than those of SQLite files are left alone.

    Raises:
        sqlite3.Error: the file is not a database, or cannot be created or written.
    """
    file = database_file(uri)
    if file is None:
        return
    with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as database:
        if _has_tables(database):
            return
        statements = list(_statements())  # Before the transaction, as it takes seconds.
        database.execute("BEGIN IMMEDIATE")
        if not _has_tables(database):
            for statement in statements:
                database.execute(statement)
        database.execute("COMMIT")


def _has_tables(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)


def _statements() -> Iterator[str]:
    """Yield the statements that make MLflow's tables as its migrations leave them."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine("sqlite://")
    try:
        _initialize_tables(engine)
        with engine.connect() as connection:
            for statement in connection.connection.driver_connection.iterdump():
                if statement not in ("BEGIN TRANSACTION;", "COMMIT;"):
                    yield statement
    finally:
        engine.dispose()


def check_tables(uri: str, error: BaseException, since: float) -> None:
    """Explain an error of MLflow that comes from a creation or an upgrade of the tables that was broken off.

    Args:
        uri: address of MLflow.
        error: raised when MLflow opened the database.
        since: time (seconds since 1970) at which the database had last been changed.

    Raises:
        UserError: a process was killed while MLflow created or upgraded the tables.
    """
    file = database_file(uri)
    if file is None or not re.search(_MIXED_TABLES, repr(error)) or time.time() < since + _STILL:
        return
    if runs := _count_runs(file):
        raise UserError(
            f"{file}: an upgrade of its tables by MLflow was broken off, and it has {runs:,} runs: restore a copy from "
            "before"
        )
    raise UserError(f"{file}: half created, by a process that was killed, and without runs: delete it")


def _count_runs(file: Path) -> int:
    """Return the number of runs in a database, also while a migration has renamed their table."""
    with closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
        present = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = present & {"runs", "_alembic_tmp_runs"}
        return max((database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables), default=0)
