"""A real MLflow server that is down, slow, stopped or killed: training continues, and MLflow is complete in the end."""

import http.server
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import (
    ROOT,
    SMALL,
    assert_mirrored,
    compose_config,
    empty_store,
    inject_at_step,
    kill_at_step,
    make_job,
    quick_python,
    wait_for,
    wait_until,
)
from mlflow import MlflowClient

import sync
import train
from hourglass.errors import UserError
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.tracking import sender as sender_module
from hourglass.tracking import server as server_module
from hourglass.training import outcome
from hourglass.training.job import Job

pytestmark = pytest.mark.slow


class Server:
    """The documented command, with a port and a folder of its own."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        (command,) = re.findall(r"^mlflow server .*$", (ROOT / "docs" / "runs.md").read_text(), re.M)
        words = shlex.split(command.replace("--port 5000", f"--port {self.port}"))
        self.command = [sys.executable, "-m", *words, "--workers", "1"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            # A process group, so that the server's workers are killed with it.
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={
                    **os.environ,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },  # Seven fewer processes.
                stdout=log,
                stderr=log,
                process_group=0,
            )
        wait_for(self.answers, self.process, f"an answer of {shlex.join(self.command)}")

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=60).close()
        except OSError:
            return False
        return True

    def send(self, sent: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, sent)

    def kill(self) -> None:
        if self.process is not None:
            self.send(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def only_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    empty_store(server.folder)  # Which the documented command would make, in many migrations.
    yield server
    server.kill()


@pytest.fixture
def server(only_server: Server) -> Server:
    """Return a running server."""
    if only_server.process is None:
        only_server.start()
    return only_server


@pytest.fixture
def words(tmp_path: Path, only_server: Server) -> Callable[..., list[str]]:
    """Return a function that makes the command line of a small run with this server."""

    def give(name: str, *overrides: str) -> list[str]:
        logger = (
            "logger=mlflow",
            f"logger.tracking_uri={only_server.uri}",
            "logger.system_metrics=1",
            "logger.model=false",
        )
        own = (f"logger.experiment={tmp_path.name}", f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / name}")
        return [*(word for word in SMALL if word != "logger=csv"), *logger, *own, *overrides]

    return give


@pytest.fixture
def make(words: Callable[..., list[str]]) -> Callable[..., Job]:
    """Return a function that makes such a run in this process."""

    def job(name: str, *overrides: str) -> Job:
        return make_job(compose_config(*words(name, *overrides)))

    return job


def runs_of(server: Server, experiment: str) -> list[Any]:
    client = MlflowClient(server.uri)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    return list(client.search_runs([known.experiment_id]))


@pytest.mark.more
def test_the_documented_server_is_for_this_machine_only(server: Server) -> None:
    assert server.process is not None
    family = [psutil.Process(server.process.pid)]
    family += family[0].children(recursive=True)
    listening = {
        item.laddr.ip for process in family for item in process.net_connections() if item.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.more
def test_down_from_the_start_and_sent_later(
    server: Server,
    make: Callable[..., Job],
    words: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compare with a run whose server was up: histories, settings, tags, dataset, files; no secret is anywhere."""
    alive = make("alive")
    train.train(alive)
    server.kill()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:s3cret@127.0.0.1:{server.port}")
    late = RunFolder(tmp_path / "late")
    answers = []

    def command(script: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        call = [quick_python(), str(ROOT / "src" / script), *overrides]
        answers.append(subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path))
        return answers[-1]

    trained = command("train.py", *words("late", "logger.tracking_uri=null"))
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[-1] == f"run: {late.path}"
    first, last = (line for line in trained.stderr.splitlines() if line.startswith("MLflow"))
    assert f"MLflow at {server.uri} does not answer ([Errno 111] Connection refused): the run continues" in first
    assert "lacks the run ([Errno 111] Connection refused); to send it: python " in last
    assert last.endswith(f"src/sync.py {late.path}")
    # The command also ends in one line while the server is down.
    failed = command("sync.py", f"run={late.path}")
    assert failed.returncode == 1
    line = r".* lacks the run \(\[Errno 111\] Connection refused\): correct that, and run the command again\n"
    assert re.fullmatch(rf"error: run={late.path}{line}", failed.stderr)

    server.start()
    # All runs of a folder; the complete one is sent without changes.
    synced = command("sync.py", f"run={tmp_path}")
    assert synced.stdout.splitlines() == [f"{run.path}: all of it is at {server.uri}" for run in (alive.run, late)]
    for run in (alive.run, late):
        assert_mirrored(server.uri, run)
    client = MlflowClient(server.uri)
    left, other = (client.get_run(read_json(run.tracking)["run_id"]) for run in (alive.run, late))
    assert {run.info.run_id for run in runs_of(server, tmp_path.name)} == {left.info.run_id, other.info.run_id}
    # The same as if it had been sent at once.
    assert read_json(late.tracking)["started"] == other.info.start_time < other.info.end_time
    names = left.data.params.keys() - {"run_dir"}
    assert {name: left.data.params[name] for name in names} == {name: other.data.params[name] for name in names}
    # MLflow's source tags differ, and only one has a command, as pytest has started the other.
    assert other.data.tags["mlflow.note.content"].endswith("logger.tracking_uri=null")
    tags, late_tags = (
        {k: v for k, v in r.data.tags.items() if not k.startswith("mlflow.source.")} for r in (left, other)
    )
    assert tags.keys() == late_tags.keys() - {"mlflow.note.content"}
    for name in tags.keys() - {"hourglass.key", "mlflow.runName"}:
        assert tags[name] == late_tags[name]
    # (The machine's load is read once per second: a run may be shorter.)
    metrics, late_metrics = ({name for name in r.data.metrics if not name.startswith("system/")} for r in (left, other))
    assert metrics == late_metrics
    for name in ("train/loss", "dev/bleu", "dev/loss", "test/bleu", "test/bleu_by_source_words", "train/target_tokens"):
        histories = [client.get_metric_history(run.info.run_id, name) for run in (left, other)]
        points, late_points = ([(point.step, point.value) for point in history] for history in histories)
        assert points == late_points != []
    assert left.inputs is not None
    assert other.inputs is not None
    assert left.inputs.to_dictionary() == other.inputs.to_dictionary()

    files = [file for folder in (tmp_path, server.folder) for file in folder.rglob("*") if file.is_file()]
    assert {"tracking.json", "config.yaml", "mlflow.db", "curves.csv"} <= {file.name for file in files}
    shown = [text.encode() for done in answers for text in (done.stdout, done.stderr)]
    for text in [*shown, *(file.read_bytes() for file in files)]:
        assert b"s3cret" not in text
        assert b"somebody" not in text


@pytest.mark.more
def test_killed_in_the_middle_and_back_later(
    server: Server,
    make: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kill the server, then the run; resume the run while the server is down; start the server again."""
    job = make("one")

    def kill_the_server() -> None:
        wait_until(lambda: points_at(server, job.run) > 0, "points at the server")
        server.kill()

    inject_at_step(monkeypatch, 6, kill_the_server)
    kill_at_step(18, lambda: train.train(job))
    assert max(point.step for point in read_points(job.run.curves)) == 18

    score_test = outcome.score_test

    def with_the_server_back(*arguments: Any) -> Any:
        server.start()
        return score_test(*arguments)

    monkeypatch.setattr(outcome, "score_test", with_the_server_back)
    train.train(job)
    (run,) = runs_of(server, tmp_path.name)
    assert run.info.run_id == read_json(job.run.tracking)["run_id"]
    client = MlflowClient(server.uri)
    last = max(point.step for point in read_points(job.run.curves))
    for name in ("train/loss", "train/target_tokens"):
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == list(range(last + 1))
        assert [point.value for point in history] == [p.value for p in read_points(job.run.curves) if p.name == name]
    assert run.info.status == "FINISHED"


def points_at(server: Server, run: RunFolder) -> int:
    run_id = read_json(run.tracking)["run_id"] if run.tracking.exists() else None
    return len(MlflowClient(server.uri).get_metric_history(run_id, "train/loss")) if run_id else 0


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TIMEOUT", 2)
    monkeypatch.setattr(sender_module, "RETRY", 1.0)
    monkeypatch.setattr(sender_module, "PATIENCE", 3.0)
    monkeypatch.setattr("hourglass.tracking.tracking.PATIENCE", 3.0)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.more), 12])
def test_stopped(
    step: int,
    server: Server,
    make: Callable[..., Job],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes requests and never answers: the run ends anyway, and nothing is logged twice."""
    job = make("one")

    def stop() -> None:
        server.send(signal.SIGSTOP)

    def stop_later() -> None:
        wait_until(lambda: points_at(server, job.run) > 0, "points at the server")
        stop()

    try:
        if step:
            inject_at_step(monkeypatch, step, stop_later)
        else:
            stop()
        with caplog.at_level("INFO", logger="hourglass"):
            train.train(job)
    finally:
        server.send(signal.SIGCONT)
    messages = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert "to send it: python " in messages[-1]
    if not step:  # At a later step, the run may end before it notices.
        assert messages[0].endswith("is sent when it answers")
    sync.send(job.run, None)
    assert len(runs_of(server, job.config["logger"]["experiment"])) == 1
    assert_mirrored(server.uri, job.run)


class Proxy(http.server.BaseHTTPRequestHandler):
    """A slow proxy that answers every fifth request with 503 and records the users."""

    server: Any

    def _hand_on(self) -> None:
        self.server.seen.append(self.headers["Authorization"])
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        time.sleep(0.3)
        if len(self.server.seen) % 5 == 0:
            self.send_error(503)
            return
        asked = urllib.request.Request(self.server.to + self.path, body or None, method=self.command)
        for name in ("Content-Type", "Content-Length"):
            if name in self.headers:
                asked.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(asked) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = _hand_on

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listen() -> Iterator[Callable[[type[http.server.BaseHTTPRequestHandler]], Any]]:
    """Return a function that starts an HTTP server for a handler on a free port."""
    started = []

    def serve(handler: type[http.server.BaseHTTPRequestHandler]) -> Any:
        item = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=item.serve_forever, daemon=True).start()
        started.append(item)
        return item

    yield serve
    for item in started:
        item.shutdown()
        item.server_close()


@pytest.mark.more
def test_a_slow_and_unreliable_server_with_a_password(
    server: Server,
    make: Callable[..., Job],
    listen: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    proxy = listen(Proxy)
    proxy.seen, proxy.to = [], server.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s%40cret@127.0.0.1:{proxy.server_port}")
    job = make("one", "logger.tracking_uri=null")
    train.train(job)
    assert set(proxy.seen) == {"Basic " + b64encode(b"me:s@cret").decode()}
    assert len(runs_of(server, tmp_path.name)) == 1
    assert_mirrored(server.uri, job.run)


class NoMlflow(http.server.BaseHTTPRequestHandler):
    status = 404

    def _refuse(self) -> None:
        self.send_error(self.status)

    do_GET = do_POST = _refuse

    def log_message(self, *_: Any) -> None:
        pass


class Locked(NoMlflow):
    status = 401


@pytest.mark.parametrize("handler", [NoMlflow, pytest.param(Locked, marks=pytest.mark.more)])
def test_a_mistake_is_refused_at_the_start(
    make: Callable[..., Job], listen: Callable[..., Any], handler: type[NoMlflow]
) -> None:
    """Another server on the port, or a missing password, is a mistake to correct; waiting would not help."""
    job = make("one", f"logger.tracking_uri=http://127.0.0.1:{listen(handler).server_port}")
    with pytest.raises(UserError, match=rf"MLflow cannot open a run there .*{handler.status}.*use logger=csv"):
        train.train(job)
    assert not job.run.config.exists()
    assert not job.run.tracking.exists()
