"""Packed models give the translations of their runs: in another process, over HTTP, with only their requirements."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from helpers import ROOT, empty_store, make_run, run_script
from mlflow.exceptions import MlflowException

from hourglass.decoding.search import SearchSettings
from hourglass.decoding.translate import translate
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder
from hourglass.system.commands import path_override
from hourglass.tracking.client import digest_of
from hourglass.tracking.packing import REQUIREMENTS, pack

LINES = ["s1 s2 s3", "s0", "s5 s4 s3 s2", ""]
pytestmark = pytest.mark.slow  # MLflow, servers, other processes.


def make(folder: Path, attention: str) -> RunFolder:
    return make_run(folder, f"attention={attention}", "trainer.test=false", "trainer.target_tokens=500")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make(tmp_path_factory.mktemp("run"), "luong_general")


@pytest.fixture(scope="module")
def packed(run: RunFolder) -> Path:
    pack(run, run.path / "model")
    return run.path / "model"


def wanted(run: RunFolder, beam: int) -> list[str]:
    trained = load_trained(run.best)
    search = SearchSettings(**(trained.config["search"] | {"beam": beam}))
    return list(translate(trained.model, trained.vocabularies, LINES, search))


def test_a_packed_model_translates_as_its_run(run: RunFolder, packed: Path) -> None:
    model = mlflow.pyfunc.load_model(str(packed))
    lines = pd.DataFrame({"source": LINES})
    assert model.predict(lines)["translation"].tolist() == wanted(run, 1)
    assert model.predict(lines, params={"beam": 3})["translation"].tolist() == wanted(run, 3)
    result = model.predict(lines, params={"alignments": True})
    assert list(result.columns) == ["translation", "score", "alignment"]
    assert result["alignment"].iloc[3] == ""
    for row, line in zip(result.itertuples(), LINES, strict=True):
        for link in str(row.alignment).split():
            source, target = map(int, link.split("-"))
            assert source < len(line.split())
            assert target < len(str(row.translation).split())


def test_a_request_may_have_prefixes(run: RunFolder, packed: Path) -> None:
    """Those that src/translate.py takes: one of all rows, or a column; the translations are those of the search."""
    model = mlflow.pyfunc.load_model(str(packed))
    trained = load_trained(run.best)
    search = SearchSettings(**trained.config["search"])
    starts = ["s2 s2", "", "s1", "s0"]
    wanted = list(translate(trained.model, trained.vocabularies, LINES, search, prefixes=starts))
    assert [text.startswith(start) for text, start in zip(wanted, starts, strict=True)] == [True] * 4
    lines = pd.DataFrame({"source": LINES, "prefix": ["s2 s2", None, "s1", "s0"]})
    assert model.predict(lines)["translation"].tolist() == wanted
    answer = model.predict(pd.DataFrame({"source": LINES}), params={"prefix": "s2 s2"})
    assert answer["translation"].iloc[0] == wanted[0]
    assert all(text.startswith("s2 s2") for text in answer["translation"])
    aligned = model.predict(lines, params={"alignments": True})
    assert aligned["translation"].tolist() == wanted
    assert max(int(link.split("-")[1]) for link in aligned["alignment"].iloc[0].split()) < len(wanted[0].split())
    with pytest.raises(MlflowException, match=r"prefix=x and the column prefix: either all .*: leave one out"):
        model.predict(lines, params={"prefix": "x"})
    with pytest.raises(MlflowException, match="row 2: the prefix has 50 pieces and the translation may have"):
        model.predict(pd.DataFrame({"source": LINES[:2], "prefix": ["", "s1 " * 50]}))


@pytest.mark.more
def test_alignments_of_a_model_without_attention_are_refused(tmp_path: Path) -> None:
    run = make(tmp_path, "none")
    pack(run, tmp_path / "packed")
    model = mlflow.pyfunc.load_model(str(tmp_path / "packed"))
    with pytest.raises(MlflowException, match="alignments=true: attention=none has no weights to align by: leave it"):
        model.predict(pd.DataFrame({"source": ["s1"]}), params={"alignments": True})


@pytest.mark.more
def test_an_existing_folder_is_not_overwritten(run: RunFolder, packed: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in packed.rglob("*")}
    assert not pack(run, packed)
    assert {file: file.stat().st_mtime_ns for file in packed.rglob("*")} == before
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="exists already, with another model: remove it, or name another folder"):
        pack(run, tmp_path / "other")
    with pytest.raises(UserError, match="no such checkpoint"):
        pack(RunFolder(tmp_path), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_loading_needs_no_pickle_and_no_library_of_training(packed: Path, tmp_path: Path) -> None:
    """Load the model in a process without this repository and with no libraries but the model's requirements."""
    assert [file for file in packed.rglob("*") if file.suffix in (".pkl", ".pickle")] == []
    asked = {line.split("==")[0] for line in (packed / "requirements.txt").read_text().split()}
    assert asked == set(REQUIREMENTS)
    script = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        # Whatever the packed package imports must be a requirement.
        caller = sys._getframe(1)
        while "importlib" in caller.f_code.co_filename or caller.f_code.co_filename == "<string>":
            caller = caller.f_back
            if caller is None:
                return None
        top = name.split(".")[0]
        if "/hourglass/" in caller.f_code.co_filename and top not in asked and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(name)
asked = {"hourglass", "yaml", *sys.argv[2].split(",")}
sys.meta_path.insert(0, Missing())
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
import hourglass, pandas
assert sys.argv[1] in hourglass.__file__, hourglass.__file__
print(model.predict(pandas.DataFrame({"source": ["s1 s2"]}))["translation"][0])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # An editable install would make the repository importable.
    finder = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
    removal = f"sys.path = [p for p in sys.path if p != {str(ROOT / 'src')!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", finder + removal + script, str(packed), ",".join(asked)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def post(port: int, content: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_mlflow_serves_a_packed_model_over_http(run: RunFolder, packed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "mlflow",
        "models",
        "serve",
        "--env-manager",
        "local",
        "-m",
        str(packed),
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        rows = [{"source": line} for line in LINES]
        answer = post(port, {"dataframe_records": rows, "params": {"alignments": True}})["predictions"]
        assert [row["translation"] for row in answer] == wanted(run, 1)
        assert all("alignment" in row for row in answer)
        rows = [{"source": line, "prefix": "s3"} for line in LINES]
        answer = post(port, {"dataframe_records": rows})["predictions"]
        assert all(row["translation"].startswith("s3") for row in answer)
        for wrong, message in (
            ({"dataframe_records": [{"text": "s1"}]}, "source"),
            ({"dataframe_records": [{"source": "s1"}], "params": {"beam": 1000}}, "beam=1000: set 1 to 50"),
            ({"dataframe_records": [{"source": None}]}, "source"),
            (
                {"dataframe_records": [{"source": "s1"}], "params": {"beem": 3, "alignments": True}},
                "unknown parameter beem: a request may have alignments, beam, precision, prefix",
            ),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(port, wrong)
            assert refused.value.code == 400
            assert message in refused.value.read().decode()
    finally:
        os.killpg(server.pid, 15)
        server.wait()


@pytest.mark.more
def test_a_run_may_lie_under_any_path(
    run: RunFolder, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow reads paths as addresses, where these characters escape; the registered model is the same."""
    odd = tmp_path / "b%20c#d?e ü" / "run"
    shutil.copytree(run.path, odd, ignore=shutil.ignore_patterns("model"))
    store = empty_store(tmp_path)
    words = [path_override("run", odd), "register=odd", f"tracking_uri={store}"]
    done = run_script("src/pack.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    message, _, command = done.stdout.splitlines()[0].partition("; to pack it elsewhere: ")
    assert message == f"packed: {odd / 'model'}; MLflow cannot serve it from a path with %, # or ?"
    assert shlex.split(command)[2:] == [str(odd), "out=/tmp/model"]
    assert digest_of(odd / "model") == digest_of(packed)
    assert str(odd) not in (odd / "model" / "MLmodel").read_text()
    assert [file for file in odd.iterdir() if "model." in file.name] == []  # Nothing unfinished is left.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    logged = mlflow.pyfunc.load_model("models:/odd@best")
    assert logged.predict(pd.DataFrame({"source": LINES}))["translation"].tolist() == wanted(run, 1)


@pytest.mark.more
def test_the_command_packs_and_registers_the_best(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = empty_store(tmp_path)
    words = [f"run={run.path}", f"out={tmp_path}/packed", "register=small", f"tracking_uri={uri}"]

    def command(*changes: str) -> subprocess.CompletedProcess[str]:
        return run_script("src/pack.py", *words, *changes, cwd=tmp_path)

    done = command()
    assert done.returncode == 0, done.stderr[-2000:]
    message = "registered: models:/small/1; it is the best by dev loss: models:/small@best\n"
    assert done.stdout.endswith(message)
    assert command().stdout.endswith(message)  # A second registration adds no version.
    # A worse model does not become the best, and a model of another corpus is refused.
    worse = make(tmp_path, "mean")
    metrics = json.loads(worse.metrics.read_text())
    metrics["dev"]["loss"] = 99.0
    worse.metrics.write_text(json.dumps(metrics))
    done = command(f"run={worse.path}", f"out={tmp_path}/worse")
    assert "registered: models:/small/2; version 1 is the best by dev loss" in done.stdout
    other = make(tmp_path, "fixed")
    metrics = json.loads(other.metrics.read_text())
    metrics["corpus"]["digest"] = "another"
    other.metrics.write_text(json.dumps(metrics))
    done = command(f"run={other.path}", f"out={tmp_path}/other")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: register=small@best is a model of another corpus: give another name"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model("models:/small@best")
    assert model.predict(pd.DataFrame({"source": LINES}))["translation"].tolist() == wanted(run, 1)
