"""MLflow's tables in a SQLite file: all or none, whenever the process that creates them is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from helpers import empty_store, run_script

from hourglass.errors import UserError
from hourglass.tracking import database
from hourglass.tracking.client import connect
from hourglass.tracking.server import created_by_another

# Kills the process before the statement of this number of all those that SQLAlchemy executes.
KILLED_IN_A_MIGRATION = """
    import os, signal, sqlalchemy
    statements = iter(range(200))
    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def count(*_):
        if next(statements, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
"""
# Kills the process before half of the tables are in the file.
KILLED_IN_THE_COPY = """
    import os, signal
    from hourglass.tracking import database
    complete = database._statements
    class Halved(list):
        def __iter__(self):
            yield from self[:len(self) // 2]
            os.kill(os.getpid(), signal.SIGKILL)
    database.list = Halved
"""


def python(folder: Path, *parts: str) -> "subprocess.Popen[str]":
    program = "".join(map(textwrap.dedent, parts))
    return subprocess.Popen([sys.executable, "-c", program], cwd=folder, stderr=subprocess.PIPE, text=True)


def tables(file: Path) -> set[tuple[str, str, str]]:
    """Return type, name and columns of what a database has; the order of constraints differs from time to time."""
    with closing(sqlite3.connect(file)) as opened:
        rows = opened.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {(kind, name, "\n".join(sorted((sql or "").replace(", ", "").splitlines()))) for kind, name, sql in rows}


def leave_half_created(file: Path, *, runs: int, age: float) -> None:
    """Leave a database in which MLflow's migrations start again, over tables that exist."""
    empty_store(file.parent)
    client = mlflow.MlflowClient(f"sqlite:///{file.parent}/./mlflow.db")  # MLflow keeps a store by its address.
    for _ in range(runs):
        client.create_run("0")
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("DELETE FROM alembic_version")
        opened.execute("DROP TABLE workspaces")
    changed = time.time() - age
    os.utime(file, (changed, changed))


@pytest.mark.slow
def test_the_tables_are_those_of_mlflow(tmp_path: Path) -> None:
    store = tmp_path / "a b ü" / "mlflow.db"
    store.parent.mkdir()
    client = connect(f"sqlite:///{store}")
    assert tables(store) == tables(Path(empty_store(tmp_path).removeprefix("sqlite:///")))
    # The experiment that MLflow makes keeps the place that MLflow gives it, and the folder has the database alone.
    assert client.get_experiment("0").artifact_location == f"{Path.cwd()}/mlruns/0"
    assert [path.name for path in store.parent.iterdir()] == ["mlflow.db"]


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("killed", [KILLED_IN_A_MIGRATION, KILLED_IN_THE_COPY])
def test_a_killed_creation_leaves_a_store_that_opens(tmp_path: Path, killed: str) -> None:
    opening = """
        from hourglass.tracking.client import connect
        connect("sqlite:///mlflow.db")
    """
    process = python(tmp_path, killed, opening)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_run("0")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.more
@pytest.mark.slow
def test_two_processes_create_a_store_at_once(tmp_path: Path) -> None:
    program = """
        import os, pathlib, time
        from hourglass.tracking import database
        from hourglass.tracking.client import connect
        complete = database._statements
        def together():
            statements = list(complete())
            pathlib.Path(f"ready-{os.getpid()}").touch()
            while len(list(pathlib.Path().glob("ready-*"))) < 2:
                time.sleep(0.01)
            return statements
        database._statements = together
        connect("sqlite:///mlflow.db").create_run("0")
    """
    processes = [python(tmp_path, program) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len(mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])) == 2


@pytest.mark.more
@pytest.mark.slow
def test_a_store_that_was_left_half_created_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    leave_half_created(file, runs=0, age=1000)
    with pytest.raises(UserError, match=r"mlflow.db: half created.*without runs: delete it$") as refused:
        connect(f"sqlite:///{file}")
    assert not created_by_another(refused.value)  # The line comes at once.
    leave_half_created(file, runs=3, age=1000)
    with pytest.raises(UserError, match=r"mlflow.db: an upgrade.*broken off, and it has 3 runs: restore a copy"):
        connect(f"sqlite:///{file}")


@pytest.mark.slow
def test_a_store_that_is_being_created_is_waited_for(tmp_path: Path) -> None:
    """`mlflow ui` creates its tables in the file itself, one after the other."""
    leave_half_created(tmp_path / "mlflow.db", runs=0, age=1)
    with pytest.raises(Exception, match="duplicate column name") as refused:
        connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert not isinstance(refused.value, UserError)
    assert created_by_another(refused.value)


def test_what_is_no_sqlite_file_is_left_alone() -> None:
    for address in ("sqlite://", "sqlite:///:memory:", "http://127.0.0.1:1", "postgresql://host/db"):
        database.create_tables(address)


@pytest.mark.slow
def test_faults_of_a_new_store_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    for name, reason in (("text.db", "file is not a database"), ("text.db/mlflow.db", "unable to open database file")):
        done = run_script("pipelines/track.py", f"tracking_uri=sqlite:///{tmp_path}/{name}")
        assert done.returncode == 1
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = run_script("pipelines/track.py", "nonsense")
    assert done.stderr.startswith("error: tracking_uri: not an address of MLflow: set sqlite:///FILE")
