"""TensorBoard and W&B have the points of curves.csv and the scores of metrics.json, also when a run is resumed."""

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers import SMALL, run_script
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # Made at import.

from hourglass.errors import UserError
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder, clear
from hourglass.system.files import read_json
from hourglass.tracking import loggers
from hourglass.tracking.scores import logged_scores
from hourglass.tracking.settings import check_logger
from hourglass.tracking.tracking import Tracking

TENSORBOARD = {"name": "tensorboard", "system_metrics": 0}
WANDB = {"name": "wandb", "project": "p", "entity": None, "offline": True, "system_metrics": 0}
METRICS = {
    "train_target_tokens": 100,
    "train_seconds": 2.5,
    "dev": {"bleu": 20.0, "loss": 3.0},
    "parameters": 1000,
    "padding_share": 0.1,
    "corpus": {"dropped": {"empty": 2}},
    "test": {
        "bleu": 30.5,
        "chrf": 50.0,
        "copy_bleu": None,
        "brevity_penalty": 1.0,
        "length_ratio": 1.1,
        "signature": "s",
        "chrf_signature": "c",
        "buckets": [
            {"source_words": [1, 10], "sentences": 5, "bleu": 40.0},
            {"source_words": [11, None], "sentences": 4, "bleu": 21.0},
            {"source_words": [21, None], "sentences": 0, "bleu": None},
        ],
    },
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "one").mkdir()
    return RunFolder(tmp_path / "one")


def track(run: RunFolder, options: dict[str, Any], first_step: int, losses: list[float], *, kill: bool = False) -> str:
    """Log a loss at each step from `first_step`, and end as a complete run does; return the hint to view it."""
    tracking = Tracking(
        check_logger(options), run, tags={}, config={"seed": 1, "encoder": {"layers": 2}}, dataset=("copy", "0")
    )
    try:
        with tracking:
            opened = tracking.loggers(first_step)
            for step, loss in enumerate(losses, first_step):
                for logger in opened:
                    logger.log_metrics({"train/loss": loss}, step=step)
            if kill:
                raise KeyboardInterrupt
            run.metrics.write_text(json.dumps(METRICS))
    except KeyboardInterrupt:
        pass
    return tracking.hint() or ""


def read_tensorboard(run: RunFolder) -> EventAccumulator:
    return EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}).Reload()


def read_wandb(run: RunFolder) -> Iterator[Record]:
    """Yield the records of all parts of a run, in their order.

    The files are a log as LevelDB writes it: blocks of 32 KiB (the first with a header of seven bytes), in which each
    fragment has a checksum (4 bytes), its length (2) and its kind (1): whole, first, middle, last.
    """
    for file in sorted(run.wandb.glob("offline-run-*/*.wandb")):
        data, place, whole = file.read_bytes(), 7, b""
        while len(data) - place >= 7:
            if 2**15 - place % 2**15 < 7:  # The rest of a block is too short for a fragment.
                place += 2**15 - place % 2**15
            length, kind = struct.unpack_from("<HB", data, place + 4)
            whole += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):
                record = Record()
                record.ParseFromString(whole)
                yield record
                whole = b""


def test_tensorboard_has_the_curves_and_scores(run: RunFolder) -> None:
    """A killed run is resumed from an earlier step: its later points are replaced."""
    track(run, TENSORBOARD, 0, [5.0, 4.0, 9.0], kill=True)
    hint = track(run, TENSORBOARD, 2, [3.0, 2.0])
    assert hint == f"TensorBoard: run one; to view it: tensorboard --logdir {run.path.parent}"
    events = read_tensorboard(run)
    points = [(point.step, point.value) for point in events.Scalars("train/loss")]
    assert points == [(0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0)]
    assert points == [(point.step, point.value) for point in read_points(run.curves)]
    for name, value in logged_scores(METRICS).values.items():
        assert [point.value for point in events.Scalars(name)] == [pytest.approx(value)], name
    lengths = [(point.step, point.value) for point in events.Scalars("test/bleu_by_source_words")]
    assert lengths == [(1, 40.0), (11, 21.0)]
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.slow
def test_wandb_has_the_curves_and_scores(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run continues the same run of W&B."""
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")
    track(run, WANDB, 0, [5.0, 4.0], kill=True)
    wandb.teardown()  # As a process's end does: until then W&B's service may still be writing.
    hint = track(run, WANDB, 2, [3.0])
    wandb.teardown()
    assert hint.startswith(f"W&B: run one; to send it: wandb sync {run.path}/wandb/offline-run-")
    records = list(read_wandb(run))
    key = (run.wandb / "id").read_text()
    started = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {(entry.run_id, entry.project, entry.display_name) for entry in started} == {(key, "p", "one")}
    config = {item.key: json.loads(item.value_json) for entry in started for item in entry.config.update}
    assert config["encoder"] == {"layers": 2}
    history = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    points = [(row["trainer/global_step"], row["train/loss"]) for row in history if "train/loss" in row]
    assert points == [(point.step, point.value) for point in read_points(run.curves)] == [(0, 5), (1, 4), (2, 3)]
    summary = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records
        for item in record.summary.update
    }
    for name, value in logged_scores(METRICS).values.items():
        assert summary[name] == value, name
    ends = [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]
    assert ends == [1, 0]


def test_a_cleared_run_starts_anew(run: RunFolder) -> None:
    """A run folder that is used again keeps nothing of the earlier run."""
    track(run, TENSORBOARD, 0, [5.0])
    run.wandb.mkdir()
    clear(run)
    assert not run.tensorboard.exists()
    assert not run.wandb.exists()


def test_no_failure_of_a_logger_ends_a_trained_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loggers.TensorBoardLogger, "log_hyperparams", refuse)
    with caplog.at_level(logging.WARNING, logger="hourglass"):
        assert track(run, TENSORBOARD, 0, [5.0]).startswith("TensorBoard: run one")
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard lacks the end of the run ([Errno 28] No space left on device)"
    ]


def test_a_logger_that_cannot_say_how_to_view_the_run_does_not_end_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("the service is gone")

    monkeypatch.setattr(loggers.TensorBoard, "hint", refuse)
    with caplog.at_level(logging.WARNING, logger="hourglass"):
        assert track(run, TENSORBOARD, 0, [5.0]) == ""
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard lacks the end of the run (the service is gone)"
    ]


def test_a_logger_that_cannot_write_does_not_end_the_training(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once; the curves have every point."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", refuse)
    with caplog.at_level(logging.WARNING, logger="hourglass"):
        track(run, TENSORBOARD, 0, [5.0, 4.0, 3.0], kill=True)
    assert [record.getMessage() for record in caplog.records] == [
        "SteadyTensorBoard lacks the points from step 0 on ([Errno 28] No space left on device); curves.csv has them"
    ]
    assert [point.value for point in read_points(run.curves)] == [5.0, 4.0, 3.0]


def test_a_wandb_without_an_account_is_one_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"logger=wandb: W&B opens no run \(.*No API key.*\): run `wandb login`"):
        track(run, {**WANDB, "offline": False}, 0, [])


def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for options in (TENSORBOARD, WANDB):
        name = options["name"]
        message = rf'logger={name}: {name} is not installed: pip install -e "\.\[{name}\]", or use logger=csv'
        with pytest.raises(UserError, match=message):
            check_logger(options)


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_training_of_two_processes_logs_each_point_once(tmp_path: Path, name: str) -> None:
    """The points are made in a process of its own, the scores in the one that started it."""
    words = [word for word in SMALL if not word.startswith(("logger=", "trainer="))]
    words += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"logger={name}", "run_dir=one"]
    words += ["trainer.target_tokens=300", "trainer.log_every=2", "trainer.validations=1"]
    words += ["logger.offline=true"] if name == "wandb" else []
    done = run_script("src/train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / "one")
    expected = {(point.step, point.name): point.value for point in read_points(run.curves)}
    scores = logged_scores(read_json(run.metrics)).values
    assert len(expected) > 5
    if name == "tensorboard":
        events = read_tensorboard(run)
        names = {curve for _, curve in expected}
        logged = [(point.step, curve, point.value) for curve in names for point in events.Scalars(curve)]
        assert len(logged) == len(expected)
        assert {(step, curve): value for step, curve, value in logged} == pytest.approx(expected)
        assert [point.value for point in events.Scalars("test/bleu")] == [pytest.approx(scores["test/bleu"])]
        return
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in read_wandb(run)
        if record.WhichOneof("record_type") == "history"
    ]
    logged = [
        (row["trainer/global_step"], curve, row[curve])
        for row in rows
        for curve in row
        if curve.startswith(("train/", "dev/"))
    ]
    assert {(step, curve): value for step, curve, value in logged} == pytest.approx(expected)
