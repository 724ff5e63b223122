"""What tests share: the project's own configs, composed as the command line composes them, and shrunk."""

import atexit
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import train
from hourglass.bench.settings import BenchSettings
from hourglass.config.options import build
from hourglass.decoding.search import SearchSettings
from hourglass.models.build import build_model
from hourglass.models.checkpoint import load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder, create_run
from hourglass.system.files import read_json
from hourglass.tracking.client import BY_LENGTH, LENGTH_TABLE, flatten
from hourglass.training import preparation
from hourglass.training.job import Job
from hourglass.training.preparation import PreparedData
from hourglass.training.resuming import load_progress
from hourglass.training.settings import check_settings

ROOT = Path(__file__).resolve().parent.parent


CONF = ROOT / "conf"


ATTENTION_NAMES = sorted(path.stem for path in (CONF / "attention").glob("*.yaml"))


# Shrinks any config to a model of a few thousand weights.
TINY = (
    "decoder.embedding_size=12",
    "decoder.readout_size=12",
    "decoder.hidden_size=16",
    "encoder.embedding_size=12",
    "encoder.summary_size=8",
)


def compose_config(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF)):
        composed = compose("config", overrides=list(overrides))
    resolved: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return resolved


def bench_settings() -> BenchSettings:
    """Return the settings of conf/bench.yaml."""
    content = yaml.safe_load((CONF / "bench.yaml").read_text())
    return build(BenchSettings, {key: content[key] for key in content if key not in ("command", "arguments")}, "bench")


@cache
def _composed_once(*overrides: str) -> dict[str, Any]:
    return compose_config(*overrides)


def tiny_config(
    attention: str = "luong_general", changes: Mapping[str, Any] | None = None, encoder: str = "rnn"
) -> dict[str, Any]:
    """Return a config shrunk by TINY and further, after `changes` such as {"decoder.layers": 2}; fast to call."""
    config = deepcopy(_composed_once(f"attention={attention}", f"encoder={encoder}", *TINY))
    small = {"encoder.hidden_size": 16, "attention.size": 6, "attention.window": 2}
    kept = {option: value for option, value in small.items() if option.split(".")[1] in config[option.split(".")[0]]}
    for option, value in (kept | dict(changes or {})).items():
        group, key = option.split(".")
        config[group][key] = value
    return config


def tiny_model(
    attention: str = "luong_general",
    changes: Mapping[str, Any] | None = None,
    encoder: str = "rnn",
    vocabulary: int = 20,
    spread: float = 0.4,
) -> Seq2Seq:
    """Build the model of `tiny_config` in float64, for evaluation, no weight at a special value such as 0 or 1."""
    model = build_model(tiny_config(attention, changes, encoder), vocabulary, vocabulary, joint=True).double().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=spread)
    return model


def write_multi30k(folder: Path) -> None:
    """Write made sentences as Multi30k's raw files: 60 pairs of train, 10 of dev, 12 and 8 of two test sets."""
    folder.mkdir()
    for name, count, start in (
        ("train", 60, 0),
        ("val", 10, 7),
        ("test_2016_flickr", 12, 3),
        ("test_2017_flickr", 8, 5),
    ):
        for language, mark in (("de", "d"), ("en", "e")):
            lines = [
                " ".join(f"{mark}{name[-1]}w{(start + row * step) % 30}" for step in range(1, 7))
                for row in range(count)
            ]
            (folder / f"{name}.{language}").write_text("".join(f"{line} {row}\n" for row, line in enumerate(lines)))


def plain_search(beam: int, **changes: Any) -> SearchSettings:
    """Return settings of a plain search by length penalty 1, after `changes`."""
    given: dict[str, Any] = {
        "temperature": 0.0,
        "length_penalty": 1.0,
        "coverage_penalty": 0.0,
        "replace_unknown": False,
    }
    given |= {"output_ratio": 1.0, "output_extra": 3, "output_most": 100, "batch_tokens": 100}
    return SearchSettings(beam=beam, **(given | changes))


def hear_ctrl_c() -> None:
    """Undo that a shell's background job, as tests may be, has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# A run of a few seconds: short sequences of six symbols, to be repeated.
SMALL = (
    *TINY,
    "data=copy",
    "data.symbols=6",
    "data.vocabulary_size=10",
    "data.train_pairs=400",
    "data.dev_pairs=24",
    "data.test_pairs=30",
    "data.longest=6",
    "encoder.hidden_size=16",
    "trainer.target_tokens=4000",
    "trainer.batch_tokens=120",
    "trainer.validations=3",
    "trainer.checkpoint_every=4",
    "trainer.log_every=1",
    "trainer.threads=1",
    "trainer.pictures=0",
    "logger=csv",
    "search=greedy",
)


def make_run(folder: Path, *overrides: str) -> RunFolder:
    """Train SMALL with further overrides, in this process; the run lies in a folder named by its attention."""
    config = compose_config(*SMALL, *overrides, f"cache={folder / 'cache'}")
    return train_config({**config, "run_dir": str(folder / config["attention"]["name"])})


def job_of(config: dict[str, Any], *, continues: bool = False) -> Job:
    """Return the job of these settings, in their run_dir."""
    return Job(create_run(config["run_dir"], [], continues=continues), config, check_settings(config))


def make_job(folder: Path, *overrides: str) -> tuple[Job, PreparedData]:
    """Return a job of SMALL with further overrides, which is not trained, and its data."""
    words = (f"cache={folder / 'cache'}", f"run_dir={folder / 'run'}", *overrides)
    job = job_of(compose_config(*SMALL, *words), continues=True)
    return job, preparation.prepare(job.config, job.settings)


def train_config(config: dict[str, Any]) -> RunFolder:
    """Train with these settings, in this process, in their run_dir."""
    job = job_of(config)
    train.train(job)
    return job.run


def curves(run: RunFolder, name: str) -> dict[int, float]:
    with run.curves.open() as stream:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(stream) if row["name"] == name}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_trained(path).model.state_dict()


def trained_names(run: RunFolder) -> list[str]:
    """Return each weight once, also where one is shared."""
    state = load_trained(run.last).model.state_dict(keep_vars=True)
    return list({id(weight): name for name, weight in state.items()}.values())


def assert_same_training(one: RunFolder, other: RunFolder) -> None:
    """Bit for bit: every weight, every point of every curve but speed, every translation."""
    mine, theirs = weights(one.last), weights(other.last)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for name in ("train/loss", "dev/loss", "dev/bleu", "train/learning_rate", "train/target_tokens"):
        assert curves(one, name) == curves(other, name) != {}
    assert one.translations.read_text() == other.translations.read_text()
    for field in ("step", "target_tokens", "best", "finished"):
        assert getattr(load_progress(one.last), field) == getattr(load_progress(other.last), field)


@cache
def _forks() -> tuple[Path, subprocess.Popen[str]]:
    """Start the process whose forks run scripts. It ends with this process, which closes its standard input."""
    folder = Path(tempfile.mkdtemp(prefix="hourglass-forks-"))
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "forks.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return folder / "python", server


def quick_python() -> str:
    """Return the path of what stands for the interpreter, and runs scripts in forks (tests/forks.py)."""
    return str(_forks()[0])


def run_script_bytes(
    script: str, *words: str, cwd: Path | None = None, stdin: bytes = b"", **event: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a script of the project as a command, in a process of its own that is a fork (tests/forks.py).

    Args:
        script: path from the project's folder.
        words: of the command line.
        cwd: the working directory.
        stdin: the standard input.
        event: to inject: `at`, `count`, and `what` of `arrange` in tests/forks.py.
    """
    call = [quick_python(), str(ROOT / script), *words]
    environment = {**os.environ, **({"HOURGLASS_TEST_EVENT": json.dumps(event)} if event else {})}
    return subprocess.run(call, input=stdin, cwd=cwd, env=environment, capture_output=True, check=False)


def run_script(script: str, *words: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Do the same, with streams as text: every kind of line end is a newline."""
    done = run_script_bytes(script, *words, cwd=cwd, **options)
    stdout, stderr = ("\n".join(re.split("\r\n|\r|\n", stream.decode())) for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


def command(*overrides: str) -> list[str]:
    """Return the words that train, in a fork; for `subprocess`."""
    return [quick_python(), str(ROOT / "src" / "train.py"), *overrides]


def children_of_scripts() -> list[psutil.Process]:
    """Return the processes that the scripts in forks have started."""
    return [child for script in psutil.Process(_forks()[1].pid).children() for child in script.children()]


def wait_until(condition: Callable[[], bool], what: str, limit: float = 300) -> None:
    """Wait until a condition holds; fail after `limit` seconds, and say what was waited for."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s in vain: {what}"
        time.sleep(0.02)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any], what: str) -> None:
    """Wait likewise, for something that a process does; fail at once if it ends before."""

    def holds() -> bool:
        held = condition()
        assert held or process.poll() is None, f"the process ended (status {process.returncode}) before this: {what}"
        return held

    wait_until(holds, what)


@cache
def _empty_store() -> Path:
    """Make MLflow's tables, once: it takes seconds."""
    file = Path(tempfile.mkdtemp(prefix="hourglass-store-")) / "mlflow.db"
    atexit.register(shutil.rmtree, file.parent)
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def empty_store(folder: Path) -> str:
    """Write an empty database of MLflow, mlflow.db, into a folder, and return its address."""
    shutil.copy(_empty_store(), folder)
    return f"sqlite:///{folder}/mlflow.db"


def only_run(store: str, experiment: str) -> Any:
    client = mlflow.MlflowClient(store)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    (found,) = client.search_runs([known.experiment_id])
    return found


def logged_constants(run: RunFolder) -> dict[str, Any]:
    """Return what a run does not measure but knows from its model and data: parameters in MLflow, not metrics."""
    metrics = read_json(run.metrics)
    dropped = {f"corpus/dropped {reason}": count for reason, count in metrics["corpus"]["dropped"].items()}
    return {"parameters": metrics["parameters"], "padding_share": metrics["padding_share"], **dropped}


def assert_mirrored(store: str, run: RunFolder, status: str = "FINISHED") -> None:
    """Every point of the folder is in MLflow once, and nothing else is, beside the scores."""
    client = mlflow.MlflowClient(store)
    found = client.get_run(read_json(run.tracking)["run_id"])
    assert found.info.status == status
    assert found.info.end_time == read_json(run.tracking)["ended"]
    wanted: dict[str, list[tuple[int, float]]] = {}
    for point in read_points(run.curves) + read_points(run.system):
        wanted.setdefault(point.name, []).append((point.step, point.value))
    assert {"train/loss", "dev/bleu"} <= wanted.keys()
    for name, points in wanted.items():
        history = sorted((point.step, point.value) for point in client.get_metric_history(found.info.run_id, name))
        assert history == points
    for name in found.data.metrics.keys() - wanted.keys() - {BY_LENGTH}:
        assert len(client.get_metric_history(found.info.run_id, name)) == 1
    if status == "FINISHED":
        test = read_json(run.metrics)["test"]
        assert found.data.metrics["test/bleu"] == test["bleu"]
        by_length = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, BY_LENGTH)]
        assert by_length == [(b["source_words"][0], b["bleu"]) for b in test["buckets"] if b["sentences"]]
        table = json.loads(Path(client.download_artifacts(found.info.run_id, LENGTH_TABLE)).read_text())
        assert table["columns"][:3] == ["source_words", "sentences", "bleu"]
        told = [(row[1], row[2]) for row in table["data"]]
        assert told == [(b["sentences"], pytest.approx(b["bleu"], abs=1e-3)) for b in test["buckets"]]
    settings = dict(flatten(yaml.safe_load(run.config.read_text())))
    constants = logged_constants(run) if status == "FINISHED" else {}
    assert not constants.keys() & found.data.metrics.keys()
    wanted_params = {name: value for name, value in settings.items() if not name.startswith("logger.")} | constants
    assert found.data.params == {name: str(value) for name, value in wanted_params.items()}
    assert found.data.tags["attention"] == "luong_general"
    assert found.inputs is not None
    assert found.inputs.dataset_inputs[0].dataset.name == "copy"
    files = {item.path for item in client.list_artifacts(found.info.run_id)}
    left = (run.config, run.curves, run.metrics, run.translations, run.path / "pictures")
    leaves = {file.name for file in left if file.exists()}
    assert files == leaves | ({LENGTH_TABLE} if status == "FINISHED" else set())
