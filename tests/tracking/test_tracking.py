"""MLflow has each run once and complete, also when the training was killed and resumed."""

import dataclasses
import json
import multiprocessing
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests
import yaml
from helpers import (
    SMALL,
    assert_mirrored,
    curves,
    empty_store,
    kill_at_step,
    logged_constants,
    make_job,
    only_run,
    run_script,
    train_config,
)

import sync
import train
from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.runs.curves import read_curves, read_points
from hourglass.runs.folder import RunFolder, clear
from hourglass.runs.translations import read_translations
from hourglass.system.commands import printed_command
from hourglass.system.files import read_json
from hourglass.system.secrets import without_secrets
from hourglass.tracking import sender as sender_module
from hourglass.tracking.client import LENGTH_TABLE, flatten, view_of_scores
from hourglass.tracking.mirror import Mirror, make_record
from hourglass.tracking.sender import Sender
from hourglass.tracking.server import mlflow_server
from hourglass.tracking.settings import check_logger
from hourglass.tracking.tracking import Curves, Tracking
from hourglass.training import outcome
from hourglass.training.job import Job
from hourglass.training.jobs import Ticket
from hourglass.training.resuming import load_progress


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a database, shared by all tests because MLflow takes seconds to create one."""
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def job(tmp_path: Path, store: str, config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    overrides = [word for word in SMALL if not word.startswith("logger=")]
    settings = config(
        *overrides,
        "logger=mlflow",
        f"logger.tracking_uri={store}",
        f"logger.experiment={tmp_path.name}",
        "logger.system_metrics=1",
        "logger.model=false",
        "trainer.pictures=1",
        f"run_dir={tmp_path / 'one'}",
    )
    return make_job(settings)


def with_logger(job: Job, **options: Any) -> Job:
    """Return the job with other options of its logger."""
    return make_job({**job.config, "logger": {**job.config["logger"], **options}}, job.run)


@pytest.mark.slow
def test_a_run_is_tracked_once(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kill and resume a training: one run, with each point of each curve once, and scores and files at the end."""
    kill_at_step(10, lambda: train.train(job))
    assert only_run(store, tmp_path.name).info.status == "KILLED"

    def slowly(*arguments: Any) -> Any:
        time.sleep(3)  # Time for readings of the machine's load while the run is open.
        return score_test(*arguments)

    score_test = outcome.score_test
    monkeypatch.setattr(outcome, "score_test", slowly)
    step = load_progress(job.run.last).step
    with caplog.at_level("INFO", logger="hourglass"):
        train.train(job)
    assert 0 < step < load_progress(job.run.last).step
    assert f"continuing at step {step} of {load_progress(job.run.last).step}" in caplog.text

    run = only_run(store, tmp_path.name)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "one"
    assert run.info.run_id == read_json(job.run.tracking)["run_id"]
    for tag, value in {
        "attention": "luong_general",
        "encoder": "rnn",
        "decoder": "lstm",
        "seed": "1",
        "corpus": "copy",
    }.items():
        assert run.data.tags[tag] == value
    assert {"commit", "dirty"} <= run.data.tags.keys()
    settings = dict(flatten(yaml.safe_load(job.run.config.read_text())))
    assert run.data.params["optimizer.learning_rate"] == str(settings["optimizer.learning_rate"])
    names = {name for name in settings if not name.startswith("logger.")}
    assert run.data.params.keys() == names | logged_constants(job.run).keys()
    (dataset,) = run.inputs.dataset_inputs
    metrics = read_json(job.run.metrics)
    assert dataset.dataset.name == "copy"
    assert metrics["corpus"]["digest"].startswith(dataset.dataset.digest)
    assert run.data.metrics["test/bleu"] == pytest.approx(metrics["test"]["bleu"])
    assert any(name.startswith("system/") for name in run.data.metrics)
    client = mlflow.MlflowClient(store)
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    files = {"config.yaml", "metrics.json", "translations.test.tsv", "curves.csv", "pictures"}
    assert artifacts == {*files, LENGTH_TABLE}

    for name in ("train/loss", "dev/bleu"):
        history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        assert len(history) == len(client.get_metric_history(run.info.run_id, name))
        assert history == pytest.approx(curves(job.run, name))
    # Scoring the run again logs nothing twice.
    train.train(job)
    assert len(client.get_metric_history(run.info.run_id, "test/bleu")) == 1
    by_length = client.get_metric_history(run.info.run_id, "test/bleu_by_source_words")
    assert {point.step: point.value for point in by_length} == pytest.approx(
        {b["source_words"][0]: b["bleu"] for b in metrics["test"]["buckets"] if b["sentences"]}
    )


def test_a_trial_is_named_after_its_study(tmp_path: Path) -> None:
    def name(**tags: str) -> str:
        return Mirror(RunFolder(tmp_path / "trial-3"), "", "e", {}, {"tags": tags}).name

    assert name(seed="1") == "trial-3"
    assert name(sweep="cells", trial="3") == "cells-trial-3"


def test_hint_names_the_store_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hint(uri: str | None) -> str:
        settings = check_logger(
            {"name": "mlflow", "tracking_uri": uri, "experiment": "e", "system_metrics": 0, "model": False}
        )
        run = RunFolder(tmp_path / "one")
        return str(Tracking(settings, run, tags={}, config={}, dataset=("", "")).hint())

    assert hint("sqlite:///a.db").endswith("mlflow ui --backend-store-uri sqlite:///a.db")
    for uri in ("postgresql://me:secret@host/db", "http://me:secret@host:5000"):
        # Settings are written to files, so the password comes from the environment.
        with pytest.raises(UserError, match=r"has a password.*MLFLOW_TRACKING_URI"):
            hint(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "secret" not in hint(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UserError, match="neither is MLFLOW_TRACKING_URI"):
        hint(None)


def test_a_store_that_cannot_be_opened_is_one_line(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(UserError, match=r"logger\.tracking_uri: MLflow cannot open a run there .*use logger=csv"):
        train.train(with_logger(job, tracking_uri=uri))
    assert not job.run.config.exists()  # The same command can be run again.


def test_a_store_that_fails_later_costs_no_training(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The training is complete, one warning names the command that sends the rest, and the command works."""

    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is down")

    log_metrics = Curves.log_metrics
    with monkeypatch.context() as patch, caplog.at_level("INFO", logger="hourglass"):

        def then_down(self: Curves, metrics: Any, step: int | None = None) -> None:
            patch.setattr(mlflow.MlflowClient, "log_batch", down)
            log_metrics(self, metrics, step)

        patch.setattr(Curves, "log_metrics", then_down)
        train.train(job)
    points = len(read_points(job.run.curves) + read_points(job.run.system))
    warnings = [record.getMessage() for record in caplog.records if record.name == "hourglass.tracking.sender"]
    assert len(warnings) <= 1  # None if the run ends before the next attempt.
    for warning in warnings:
        assert (
            f"does not answer (the server is down): the run continues; {job.run.path} is sent when it answers again"
            in warning
        )
    assert (
        f"lacks {points:,} points of the curves and the end of the run (the server is down); to send it: "
        f"{printed_command('src/sync.py', job.run.path)}" in caplog.text
    )
    assert only_run(store, tmp_path.name).info.status == "RUNNING"
    sync.send(job.run, None)
    assert_mirrored(store, job.run)


def test_a_run_whose_artifacts_fail_does_not_stay_running(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is finished in MLflow; the warning has the reason and the command, and the command works."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_artifact", full)
        train.train(job)
    assert only_run(store, tmp_path.name).info.status == "FINISHED"
    assert "lacks its files ([Errno 28] No space left on device); to send it: " in caplog.text
    sync.send(job.run, None)
    assert_mirrored(store, job.run)


def test_artifacts_that_cannot_be_written_are_refused_before_the_training(job: Job, store: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mlflow.MlflowClient(store).create_experiment("elsewhere", f"{tmp_path}/file/artifacts")
    with pytest.raises(UserError, match=r"elsewhere go to .*/file/artifacts, which cannot be written"):
        train.train(with_logger(job, experiment="elsewhere"))
    assert not job.run.config.exists()
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("elsewhere")
    assert experiment is not None
    assert not client.search_runs([experiment.experiment_id])


@pytest.mark.more
@pytest.mark.slow
def test_a_run_is_described_by_its_command_and_says_where_it_continues(tmp_path: Path) -> None:
    """The description in MLflow starts with what the command changes; a trial of a sweep is named after its study."""
    words = [*(word for word in SMALL if not word.startswith("logger=")), "logger.model=false", "run_dir='b%20c#d ü'"]
    done = run_script("src/train.py", *words, "attention=mean", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = f"sqlite:///{tmp_path}/mlflow.db"
    run = only_run(store, "hourglass")
    assert run.info.run_name == "b%20c#d ü"
    changed, command = run.data.tags["mlflow.note.content"].split("\n\n")
    assert changed == "    " + ", ".join([*SMALL[:-2], SMALL[-1], "attention=mean"])
    assert shlex.split(command)[2:] == [*words, "attention=mean"]
    again = run_script("src/train.py", "resume='b%20c#d ü'", cwd=tmp_path)
    # The view that docs/mlflow.md names has columns that the run has values for.
    experiment = mlflow.MlflowClient(store).get_experiment_by_name("hourglass")
    assert experiment is not None
    shown = json.loads(experiment.tags["mlflow.sharedViewState.scores"])["selectedColumns"]
    known = {f"metrics.`{name}`" for name in run.data.metrics} | {f"tags.`{name}`" for name in run.data.tags}
    assert "metrics.`test/bleu`" in shown
    assert set(shown) <= known
    assert re.search(r"trained already, to step (\d+) of \1\n", again.stderr + again.stdout)


@pytest.mark.more
@pytest.mark.slow
def test_a_run_that_the_store_created_twice_is_kept_once(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs creates the run after the client has stopped waiting: after the second request or before."""
    create_run = mlflow.MlflowClient.create_run
    late: list[tuple[Any, Any]] = []

    def hangs(client: Any, *arguments: Any, **options: Any) -> Any:
        if not late:
            late.append((arguments, options))
            raise requests.exceptions.ReadTimeout("no answer")
        made = create_run(client, *arguments, **options)
        create_run(client, *late[0][0], **late[0][1])
        return made

    def makes_it_without_an_answer(client: Any, *arguments: Any, **options: Any) -> Any:
        create_run(client, *arguments, **options)
        raise requests.exceptions.ReadTimeout("no answer")

    monkeypatch.setattr(sender_module, "unreachable", lambda *_: True)
    for name, trouble in (("hangs", hangs), ("answers late", makes_it_without_an_answer)):
        experiment = f"{tmp_path.name} {name}"
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "create_run", trouble)
            train.train(with_logger(job, experiment=experiment))
        run = only_run(store, experiment)
        assert run.info.run_id == read_json(job.run.tracking)["run_id"]
        assert_mirrored(store, job.run)
        clear(job.run)


def test_a_lost_answer_logs_nothing_twice(job: Job, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second request is executed but not answered, and therefore repeated."""
    log_batch = mlflow.MlflowClient.log_batch
    heard: list[None] = []

    def lossy(*arguments: Any, **options: Any) -> None:
        log_batch(*arguments, **options)
        heard.append(None)
        if len(heard) % 2:
            raise requests.exceptions.ReadTimeout("no answer")

    monkeypatch.setattr(sender_module, "unreachable", lambda *_: True)
    monkeypatch.setattr(sender_module, "EVERY", 0.1)
    monkeypatch.setattr(sender_module, "RETRY", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_batch", lossy)
        train.train(job)
    sync.send(job.run, None)  # The answer to the last request may be lost too.
    assert len(heard) > 4
    assert_mirrored(store, job.run)


@pytest.mark.slow
def test_the_best_model_is_logged_once_and_translates(job: Job, store: str, tmp_path: Path) -> None:
    alone = with_logger(job, model="auto")
    train.train(alone)
    sync.send(job.run, None)
    run = only_run(store, tmp_path.name)
    (output,) = run.outputs.model_outputs
    model = mlflow.MlflowClient(store).get_logged_model(output.model_id)
    assert model.status == "READY"
    assert model.source_run_id == run.info.run_id
    assert float(model.tags["dev_loss"]) == read_json(job.run.metrics)["dev"]["loss"]
    loaded = mlflow.pyfunc.load_model(model.artifact_location)
    rows = read_translations(job.run.translations)
    predicted = loaded.predict(pd.DataFrame({"source": [row.source for row in rows]}))
    assert predicted["translation"].tolist() == [row.hypothesis for row in rows]
    # A new start removes the model.
    clear(job.run)
    assert not job.run.model.exists()
    # A job of a sweep does not log its model by default.
    of_sweep = dataclasses.replace(alone, ticket=Ticket(answer="", lifeline=0))
    assert alone.keeps_model
    assert not of_sweep.keeps_model
    assert dataclasses.replace(of_sweep, settings=with_logger(job, model=True).settings).keeps_model


@pytest.mark.more
@pytest.mark.slow
def test_of_runs_that_start_together_one_creates_the_dataset(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow checks for the dataset, then creates it: the slower of two runs fails and repeats its request."""
    log_inputs = mlflow.MlflowClient.log_inputs
    left = [3]

    def taken(*arguments: Any, **options: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise mlflow.MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
        log_inputs(*arguments, **options)

    monkeypatch.setattr(sender_module, "EVERY", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_inputs", taken)
        train.train(job)
        assert left == [0]
        assert only_run(store, tmp_path.name).info.run_id == read_json(job.run.tracking)["run_id"]
        assert_mirrored(store, job.run)
        left[0] = -1  # Forever: a mistake of the user.
        patch.setattr(sender_module, "CREATION", 0.5)
        clear(job.run)
        with pytest.raises(UserError, match=r"MLflow cannot open a run there .*UNIQUE constraint failed"):
            train.train(job)


def test_the_view_has_the_scores_of_all_metric_groups_of_an_experiment() -> None:
    first = view_of_scores(["exact"])["selectedColumns"]
    rest = ["metrics.`best/loss`", "tags.`attention`", "tags.`seed`", "tags.`corpus`"]
    assert first == ["metrics.`test/exact`", *rest]
    both = view_of_scores(["bleu", "chrf"], first)["selectedColumns"]
    assert both == ["metrics.`test/exact`", "metrics.`test/bleu`", "metrics.`test/chrf`", *rest]
    assert view_of_scores(["exact"], both)["selectedColumns"] == both


def open_together(uri: str, folder: Path, together: Any) -> None:
    sender_module.CREATION = 240.0  # A slow machine takes long to create the tables.
    folder.mkdir()
    sender = Sender(Mirror(RunFolder(folder), uri, "together", {}, make_record({}, ("copy", "digest"), {})), "there")
    together.wait()
    sender.wait_for_first_try(None)
    sender.mirror.close()


@pytest.mark.more
@pytest.mark.slow
def test_two_runs_that_start_together_on_an_empty_database(postgres: str, tmp_path: Path) -> None:
    """Both create the tables, the experiment and the dataset at the same time."""
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(2)
    processes = [spawn.Process(target=open_together, args=(postgres, tmp_path / name, together)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    client = mlflow.MlflowClient(postgres)
    experiment = client.get_experiment_by_name("together")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["a", "b"]
    assert [used.dataset.digest for run in runs if run.inputs for used in run.inputs.dataset_inputs] == ["digest"] * 2


@pytest.mark.slow
def test_a_model_whose_sending_is_cut_anywhere_is_logged_once(
    job: Job, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is executed but not answered the first time; its repetition creates no second model."""
    client, unanswered = mlflow.MlflowClient, []

    def lossy(name: str) -> Callable[..., Any]:
        real = getattr(client, name)

        def request(*arguments: Any, **options: Any) -> Any:
            answer = real(*arguments, **options)
            if name not in unanswered:
                unanswered.append(name)
                raise requests.exceptions.ReadTimeout("no answer")
            return answer

        return request

    job = with_logger(job, model=True)
    requested = ("set_terminated", "create_logged_model", "log_model_artifact", "finalize_logged_model", "log_outputs")
    monkeypatch.setattr(sender_module, "unreachable", lambda *_: True)
    monkeypatch.setattr(sender_module, "RETRY", 0.01)
    with monkeypatch.context() as patch:
        for name in requested:
            patch.setattr(client, name, lossy(name))
        train.train(job)
        for _ in requested:
            with suppress(UserError):
                sync.send(job.run, None)
    assert unanswered == list(requested)
    sync.send(job.run, None)
    run = only_run(store, tmp_path.name)
    (model,) = client(store).search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert run.info.status == "FINISHED"
    mlflow.pyfunc.load_model(model.artifact_location)


def test_a_malformed_address_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def check(uri: str | None) -> None:
        check_logger({"name": "mlflow", "tracking_uri": uri, "experiment": "e", "system_metrics": 0, "model": False})

    for uri in (
        *("http://token@host", "postgresql://host/db?password=secret", "https://:secret@host"),
        "http://host/?apikey=secret",
    ):
        with pytest.raises(UserError, match=r"logger\.tracking_uri: the address has a password.*MLFLOW_TRACKING_URI"):
            check(uri)
    check("postgresql://me@host/db")
    for uri in (
        *("./mlruns", "htp://me:secret@host", "http://me:secret@host:port"),
        *("http://me:secretpa/ss@host", "http://me:12/secret@h:5000", "postgresql://me:top@secret@host/db"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: ") as refused:
            check(None)
        assert "secret" not in str(refused.value)
    with pytest.raises(SystemExit), one_line_errors():
        check("htp://me:secret@host")
    assert capsys.readouterr().err.startswith(
        "error: logger.tracking_uri: not an address of MLflow: set sqlite:///FILE"
    )


def test_a_password_is_not_in_the_address_that_mlflow_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    with mlflow_server("http://me:p%40ss@host:5000/path") as uri:
        assert uri == "http://host:5000/path"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"  # Set by the user.
    assert dict(os.environ) == before
    for text in (
        "http://me:1/p@ss@host/db",
        "at http://me:p@ss@host/x?a=1",
        "postgresql://me:p@ss@host/db",
        "http://h/db?user=me&password=p@ss",
    ):
        assert "p@ss" not in without_secrets(text)
        assert text[:6] == without_secrets(text)[:6]


def test_a_file_that_is_no_database_is_refused(job: Job, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table alembic_version (version_num text)")
        other.execute("insert into alembic_version values ('no such version')")
    with pytest.raises(UserError, match=r"logger\.tracking_uri: ") as refused:
        train.train(with_logger(job, tracking_uri=f"sqlite:///{tmp_path}/other.db"))
    assert "\n" not in str(refused.value)


def test_curves_drop_points_after_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    first = Curves(file, 0)
    for step in range(5):
        first.log_metrics({"train/loss": step / 2, "epoch": 0.0}, step)
    with file.open("a") as stream:
        stream.write("5,train/lo")  # A row cut short by a kill.
    second = Curves(file, 3)
    second.log_metrics({"train/loss": 9.0}, 3)
    assert read_curves(file) == [
        (0, "train/loss", 0.0),
        (1, "train/loss", 0.5),
        (2, "train/loss", 1.0),
        (3, "train/loss", 9.0),
    ]


def test_no_logger_leaves_scores_but_no_curves(job: Job) -> None:
    train_config({**job.config, "logger": {"name": "none"}}, job.run)
    assert not job.run.curves.exists()
    assert json.loads(job.run.metrics.read_text())["test"]["sentences"] == 30
