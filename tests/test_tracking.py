"""MLflow: one named run with all it needs to be found again, also when the training was killed and went on."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from test_train import SMALL, curves

import train
from hourglass.errors import UserError
from hourglass.runs import RunFolder, create_run, read_curves, read_json
from hourglass.settings import check_settings
from hourglass.tracking import Curves, Tracking, check_logger, flatten


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a database; to make one takes MLflow seconds, so all tests share it."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def job(
    tmp_path: Path, store: str, config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> train.Job:
    monkeypatch.chdir(tmp_path)
    overrides = [word for word in SMALL if not word.startswith("logger=")]
    composed = config(
        *overrides,
        "logger=mlflow",
        f"logger.tracking_uri={store}",
        f"logger.experiment={tmp_path.name}",
        "logger.system_metrics=1",
        f"run_dir={tmp_path / 'one'}",
    )
    return train.Job(create_run(composed["run_dir"], [], continues=False), composed, check_settings(composed))


def only_run(experiment: str) -> Any:
    found = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    assert len(found) == 1
    return found[0]


def test_a_run_is_tracked_once(job: train.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after some steps, gone on with: one run, each point of each curve once, scores and files at the end."""

    class Killed(BaseException):
        pass

    log_metrics = Curves.log_metrics

    def until_step_ten(self: Curves, metrics: Any, step: int | None = None) -> None:
        log_metrics(self, metrics, step)
        if step is not None and step >= 10:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Curves, "log_metrics", until_step_ten)
        with pytest.raises(Killed):
            train.train(job)
    assert only_run(tmp_path.name).info.status == "KILLED"

    def slowly(*arguments: Any) -> Any:
        time.sleep(3)  # So that the machine is looked at while the run is open.
        return score_test(*arguments)

    score_test = train.score_test
    monkeypatch.setattr(train, "score_test", slowly)
    train.train(job)

    run = only_run(tmp_path.name)
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
    assert run.data.params.keys() == {name for name in settings if not name.startswith("logger.")}
    (dataset,) = run.inputs.dataset_inputs
    metrics = read_json(job.run.metrics)
    assert dataset.dataset.name == "copy"
    assert metrics["corpus"]["digest"].startswith(dataset.dataset.digest)
    assert run.data.metrics["test/bleu"] == pytest.approx(metrics["test"]["bleu"])
    assert any(name.startswith("system/") for name in run.data.metrics)
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert artifacts == {"config.yaml", "metrics.json", "translations.test.tsv", "curves.csv"}

    client = mlflow.MlflowClient()
    for name in ("train/loss", "dev/bleu"):
        history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        assert len(history) == len(client.get_metric_history(run.info.run_id, name))
        assert history == pytest.approx(curves(job.run, name))
    # Scored again, it is told nothing twice.
    train.train(job)
    assert len(client.get_metric_history(run.info.run_id, "test/bleu")) == 1
    by_length = client.get_metric_history(run.info.run_id, "test/bleu_by_source_words")
    assert {point.step: point.value for point in by_length} == pytest.approx(
        {b["source_words"][0]: b["bleu"] for b in metrics["test"]["buckets"] if b["sentences"]}
    )


def test_hint_names_the_store_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hint(uri: str | None) -> str:
        settings = check_logger({"name": "mlflow", "tracking_uri": uri, "experiment": "e", "system_metrics": 0})
        run = RunFolder(tmp_path / "one")
        return str(Tracking(settings, run, tags={}, config={}, dataset=("", "")).hint())

    assert hint("sqlite:///a.db").endswith("mlflow ui --backend-store-uri sqlite:///a.db")
    for uri in ("postgresql://me:secret@host/db", "http://me:secret@host:5000"):
        # Settings are written to files: a password has its place in the environment.
        with pytest.raises(UserError, match=r"has a password.*MLFLOW_TRACKING_URI"):
            hint(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "secret" not in hint(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UserError, match="neither is MLFLOW_TRACKING_URI"):
        hint(None)


def test_a_store_that_cannot_be_opened_is_one_line(job: train.Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    config = {**job.config, "logger": {**job.config["logger"], "tracking_uri": uri}}
    with pytest.raises(UserError, match=r"logger\.tracking_uri: MLflow cannot open a run there .*use logger=csv"):
        train.train(train.Job(job.run, config, check_settings(config)))
    assert not job.run.config.exists()  # Mended, the same command can be given again.


def test_a_store_that_fails_later_costs_no_training(
    job: train.Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is down")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", lambda *_, **__: None)  # Not yet: settings are logged.
    log_metrics = Curves.log_metrics

    def then_down(self: Curves, metrics: Any, step: int | None = None) -> None:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", down)
        log_metrics(self, metrics, step)

    monkeypatch.setattr(Curves, "log_metrics", then_down)
    monkeypatch.setattr(mlflow, "log_metrics", down)
    with caplog.at_level("WARNING", logger="hourglass"):
        train.train(job)
    assert "MLflow did not take step 0 (the server is down)" in caplog.text
    assert "MLflow did not take the scores (the server is down)" in caplog.text
    assert len(curves(job.run, "train/loss")) == max(curves(job.run, "train/loss")) + 1
    assert job.run.metrics.exists()


def test_a_store_of_another_kind_of_file(job: train.Job, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table alembic_version (version_num text)")
        other.execute("insert into alembic_version values ('no such version')")
    config = {**job.config, "logger": {**job.config["logger"], "tracking_uri": f"sqlite:///{tmp_path}/other.db"}}
    with pytest.raises(UserError, match=r"logger\.tracking_uri: ") as refused:
        train.train(train.Job(job.run, config, check_settings(config)))
    assert "\n" not in str(refused.value)


def test_curves_forget_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    first = Curves(file, 0)
    for step in range(5):
        first.log_metrics({"train/loss": step / 2, "epoch": 0.0}, step)
    with file.open("a") as stream:
        stream.write("5,train/lo")  # A kill in the middle of a row.
    second = Curves(file, 3)
    second.log_metrics({"train/loss": 9.0}, 3)
    assert read_curves(file) == [
        (0, "train/loss", 0.0),
        (1, "train/loss", 0.5),
        (2, "train/loss", 1.0),
        (3, "train/loss", 9.0),
    ]


def test_no_logger_leaves_scores_but_no_curves(job: train.Job) -> None:
    config = {**job.config, "logger": {"name": "none"}}
    train.train(train.Job(job.run, config, check_settings(config)))
    assert not job.run.curves.exists()
    assert json.loads(job.run.metrics.read_text())["test"]["sentences"] == 30
