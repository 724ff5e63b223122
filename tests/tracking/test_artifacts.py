"""MLflow's artifacts are beside a SQLite database, also after the project's folder has been moved or copied."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from hourglass.errors import UserError
from hourglass.tracking.artifacts import check_location, follow_database, new_location
from hourglass.tracking.client import asking, connect, find_experiment

# Characters that addresses escape, and a blank.
ODD = "a%20b#c?d ü"


def write_project(folder: Path, runs: tuple[str, ...] = ("r1", "r2")) -> None:
    """Write a database with MLflow's columns for addresses, as MLflow fills them, and a file of each run and model."""
    (folder / "mlruns" / "1" / "models" / "m1").mkdir(parents=True)
    for run in runs:
        (folder / "mlruns" / "1" / run / "artifacts").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT);
            CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
            CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
            CREATE TABLE model_versions (name TEXT, source TEXT, storage_location TEXT);
            """
        )
        root = f"{folder}/mlruns/1"
        database.execute("INSERT INTO experiments VALUES (1, ?), (2, 's3://bucket/mlruns/1')", (root,))
        for run in runs:
            database.execute("INSERT INTO runs VALUES (?, ?)", (run, f"{root}/{run}/artifacts"))
        database.execute("INSERT INTO logged_models VALUES ('m1', ?)", (f"file://{root}/models/m1",))
        database.execute("INSERT INTO model_versions VALUES ('n', 'models:/m1', ?)", (f"{root}/models/m1",))


def addresses(folder: Path) -> dict[str, str]:
    """Return the path of each row's address; read by the standard library, not as MLflow reads it."""
    result = {}
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        for query in (
            "SELECT experiment_id, artifact_location FROM experiments WHERE experiment_id = 1",
            "SELECT run_uuid, artifact_uri FROM runs",
            "SELECT model_id, artifact_location FROM logged_models",
            "SELECT name, storage_location FROM model_versions",
        ):
            for name, address in database.execute(query):
                is_address = address.startswith("file://")
                result[str(name)] = unquote(urlsplit(address).path) if is_address else address
    return result


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def beside(folder: Path) -> dict[str, str]:
    root = f"{folder}/mlruns/1"
    runs = {run: f"{root}/{run}/artifacts" for run in ("r1", "r2")}
    return {"1": root, **runs, "m1": f"{root}/models/m1", "n": f"{root}/models/m1"}


@pytest.mark.parametrize("name", ["new", ODD])
def test_addresses_follow_a_moved_project(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_project(tmp_path / "old")
    follow_database(uri(tmp_path / "old"))
    assert addresses(tmp_path / "old") == beside(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)  # SQLAlchemy reads ? as the start of options.
    with caplog.at_level(logging.INFO, logger="hourglass"):
        for _ in range(2):
            follow_database(uri(tmp_path / "link"))
    assert addresses(tmp_path / name) == beside(tmp_path / name)
    (message,) = [record.getMessage() for record in caplog.records]  # Said once.
    assert message == (
        f"{tmp_path / name}/mlflow.db has been moved: its artifacts are now in {tmp_path / name}/mlruns, no longer in "
        f"{tmp_path}/old/mlruns"
    )
    with closing(sqlite3.connect(tmp_path / name / "mlflow.db")) as database:
        assert database.execute("SELECT source FROM model_versions").fetchall() == [("models:/m1",)]
        others = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 2").fetchall()
        assert others == [("s3://bucket/mlruns/1",)]


def test_addresses_in_a_copied_project_are_its_own(tmp_path: Path) -> None:
    """Except that of a run whose files only the original has."""
    write_project(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "mlruns" / "1" / "r2")
    follow_database(uri(tmp_path / "copy"))
    wanted = {**beside(tmp_path / "copy"), "r2": beside(tmp_path / "old")["r2"]}
    assert addresses(tmp_path / "copy") == wanted
    assert addresses(tmp_path / "old") == beside(tmp_path / "old")


def test_a_database_alone_that_is_moved_keeps_its_artifacts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The line says where they go and how to have them beside the database, which then works."""
    write_project(tmp_path / "old")
    new = tmp_path / "new"
    new.mkdir()
    (tmp_path / "old" / "mlflow.db").rename(new / "mlflow.db")
    follow_database(uri(new))
    assert addresses(new) == beside(tmp_path / "old")
    experiment = SimpleNamespace(name="e", artifact_location=addresses(new)["1"])
    with caplog.at_level(logging.INFO, logger="hourglass"):
        check_location(uri(new), experiment)
    assert caplog.messages == [
        f"MLflow's artifacts go to {tmp_path}/old/mlruns/1; to keep them beside {new}/mlflow.db, move that folder to "
        f"{new}/mlruns/1"
    ]
    (new / "mlruns").mkdir()
    (tmp_path / "old" / "mlruns" / "1").rename(new / "mlruns" / "1")
    follow_database(uri(new))
    assert addresses(new) == beside(new)


def test_a_folder_of_artifacts_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    experiment = SimpleNamespace(name="e", artifact_location=f"{tmp_path}/file/1")
    with pytest.raises(
        UserError, match=r"experiment e go to .*/file/1, which cannot be written \(.*logger\.experiment"
    ):
        check_location(uri(tmp_path), experiment)
    for elsewhere in ("s3://bucket/1", "mlflow-artifacts:/1"):
        check_location("http://127.0.0.1:1", SimpleNamespace(name="e", artifact_location=elsewhere))


def test_new_experiments_keep_their_artifacts_beside_the_database(tmp_path: Path) -> None:
    assert (
        new_location(f"sqlite:///{tmp_path}/x.db", "My: experiment/2") == f"file://{tmp_path}/mlruns/My--experiment-2"
    )
    for other in ("http://127.0.0.1:5000", "postgresql://host/db", "sqlite://"):
        assert new_location(other, "e") is None


@pytest.mark.slow
def test_mlflow_reads_artifacts_of_a_moved_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MLflow's own database, in folders whose names addresses escape."""
    folder, moved, store = tmp_path / ODD, tmp_path / "moved é", "sqlite:///mlflow.db"
    folder.mkdir()
    (tmp_path / "note.txt").write_text("text")
    monkeypatch.chdir(folder)
    client = connect(store)
    experiment = find_experiment(asking(client), "e", store)
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, "../note.txt")
    assert [file.parent.parent.parent for file in folder.rglob("note.txt")] == [folder / "mlruns" / "e"]
    folder.rename(moved)
    monkeypatch.chdir(moved)
    # MLflow keeps connections and artifacts by their addresses, in one process.
    store = uri(moved)
    client = connect(store)
    assert Path(client.download_artifacts(run, "note.txt")).read_text() == "text"
    assert find_experiment(asking(client), "e", store) == experiment
    client.log_artifact(client.create_run(experiment).info.run_id, "../note.txt")
    assert sorted(file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("note.txt")) == [
        "moved é", "moved é", "note.txt",
    ]  # fmt: skip
