"""What tests share: the project's own configs, composed as the command line composes them, and shrunk."""

import atexit
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import torch
import yaml
from conftest import start_forks
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import train
from hourglass.bench.settings import BenchSettings
from hourglass.config.options import build
from hourglass.data.pieces import BOS, EOS
from hourglass.data.tokenizer import TokenizerSettings, Vocabularies, train_vocabularies
from hourglass.decoding.search import SearchSettings
from hourglass.models.build import build_model
from hourglass.models.checkpoint import load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder, create_run
from hourglass.system.files import read_json
from hourglass.tracking.client import LENGTH_TABLE, by_length_name, flatten
from hourglass.tracking.tracking import Curves
from hourglass.training import preparation
from hourglass.training.job import Job
from hourglass.training.preparation import PreparedData
from hourglass.training.resuming import load_progress
from hourglass.training.settings import check_settings

ROOT = Path(__file__).resolve().parent.parent


CONF = ROOT / "conf"


ATTENTION_NAMES = sorted(path.stem for path in (CONF / "attention").glob("*.yaml"))


# Of texts: tests/models/test_feature_inputs.py has all that read features.
ENCODER_NAMES = sorted(path.stem for path in (CONF / "encoder").glob("*.yaml") if path.stem != "features")


# Shrinks any config to a model of a few thousand weights.
TINY = (
    "decoder.embedding_size=12",
    "decoder.readout_size=12",
    "decoder.hidden_size=16",
    "encoder.embedding_size=12",
    "encoder.summary_size=8",
)


def compose_config(*overrides: str) -> dict[str, Any]:
    """Return the resolved config of a command line as plain values; the caller may change them."""
    return deepcopy(_composed(*overrides))


@cache
def _composed(*overrides: str) -> dict[str, Any]:
    """Compose once: it takes a quarter of a second, and many tests want the same config."""
    with initialize_config_dir(str(CONF)):
        composed = compose("config", overrides=list(overrides))
    resolved: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return resolved


# The keys of conf/bench.yaml that belong to the command alone.
BENCH_COMMAND = ("command", "arguments", "plugins")


def bench_settings() -> BenchSettings:
    """Return the settings of conf/bench.yaml."""
    content = yaml.safe_load((CONF / "bench.yaml").read_text())
    return build(BenchSettings, {key: content[key] for key in content if key not in BENCH_COMMAND}, "bench")


def tiny_config(
    attention: str = "luong_general", changes: Mapping[str, Any] | None = None, encoder: str = "rnn"
) -> dict[str, Any]:
    """Return a config shrunk by TINY and further, after `changes` such as {"decoder.layers": 2}; fast to call."""
    config = compose_config(f"attention={attention}", *TINY)
    if encoder != "rnn":  # Composed apart: fewer compositions where many are combined.
        config["encoder"] = compose_config(f"encoder={encoder}", *TINY)["encoder"]
    small = {"encoder.hidden_size": 16, "encoder.feedforward_size": 20, "attention.size": 6, "attention.window": 2}
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
    """Write made sentences as Multi30k's raw files: 60 pairs of train, 10 of dev, 12, 8 and 9 of the test sets."""
    folder.mkdir()
    for name, count, start in (
        ("train", 60, 0),
        ("val", 10, 7),
        ("test_2016_flickr", 12, 3),
        ("test_2017_flickr", 8, 5),
        ("test_2017_mscoco", 9, 11),
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


def make_job(config: dict[str, Any], run: RunFolder | None = None) -> Job:
    """Return the job of these settings in a run folder, by default a new one at their run_dir."""
    run = run or create_run(config["run_dir"], [], continues=config["if_exists"] != "refuse")
    return Job(run, config, check_settings(config))


def prepare_job(folder: Path, *overrides: str) -> tuple[Job, PreparedData]:
    """Return a job of SMALL with further overrides, which is not trained, and its data."""
    words = (f"cache={folder / 'cache'}", f"run_dir={folder / 'run'}", "if_exists=continue", *overrides)
    job = make_job(compose_config(*SMALL, *words))
    return job, preparation.prepare(job.config, job.settings)


def train_config(config: dict[str, Any], run: RunFolder | None = None) -> RunFolder:
    """Train with these settings, in this process, in a run folder, by default a new one at their run_dir."""
    job = make_job(config, run)
    train.train(job)
    return job.run


class Killed(BaseException):
    """Stands for kill -9: nothing in this process handles it."""


def inject_at_step(patch: pytest.MonkeyPatch, at: int, event: Callable[[], object]) -> None:
    """Have an event happen in this process once a training has logged a step; not again if the step is repeated."""
    log_metrics = Curves.log_metrics
    happened: list[int] = []

    def log_and_more(self: Curves, metrics: Any, step: int | None = None) -> None:
        log_metrics(self, metrics, step)
        if step == at and not happened:
            happened.append(step)
            event()

    patch.setattr(Curves, "log_metrics", log_and_more)


def kill_at_step(at: int, start: Callable[[], object]) -> None:
    """Start a training in this process and kill it once it has logged a step."""

    def kill() -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        inject_at_step(patch, at, kill)
        with pytest.raises(Killed):
            start()


def character_vocabularies(
    lines: list[str], cache: Path, *, size: int = 40, byte_fallback: bool = False
) -> Vocabularies:
    """Return joint vocabularies of the characters of some lines."""
    import datasets

    rows = datasets.Dataset.from_dict({"source": lines, "target": lines})
    settings = TokenizerSettings("char", size, True, 1.0, byte_fallback, "identity", 10)
    return train_vocabularies(settings, rows, str(lines), cache)


def checkpoint_content(vocabularies: Vocabularies) -> dict[str, Any]:
    """Return what a checkpoint of a tiny model with random weights holds, after seven steps."""
    config = tiny_config()
    model = build_model(config, vocabularies.source.size, vocabularies.target.size, joint=True)
    return {
        "state_dict": {f"model.{name}": weight for name, weight in model.state_dict().items()},
        "global_step": 7,
        "callbacks": {
            "Meter": {"target_tokens": 70, "seconds": 2.0},
            "Checkpoints": {"best": {"bleu": 1.0, "loss": 2.0, "step": 5}, "finished": False},
        },
        "hourglass": {"config": config, "vocabularies": vocabularies.state_dict(), "corpus_digest": "d"},
    }


def in_a_sentence(text: str, *facts: str) -> bool:
    """Return whether one sentence of a text has these numbers, names and terms, in this order."""
    pattern = ".*".join(map(re.escape, facts))
    return any(re.search(pattern, sentence, re.S) for sentence in re.split(r"(?<=\.) |\n\n", text))


def finished_metrics(**changes: Any) -> dict[str, Any]:
    """Return what metrics.json of a finished run holds, without scores of test, after `changes`."""
    return {
        "seed": 1,
        "parameters": 1000,
        "dev": {"loss": 1.0, "bleu": 5.0, "step": 9},
        "train_target_tokens": 200_000,
        "train_target_tokens_per_second": 1.0,
        "train_seconds": 1.0,
        "corpus": {"digest": "d" * 64, "pairs": {"train": 300}},
        "tokenizer_digest": "t" * 64,
        "machine": {},
        "commit": "c" * 40,
        "dirty": False,
        **changes,
    }


def teacher_forced_logits(
    model: Seq2Seq, source: Sequence[int], target: Sequence[int], *, step_loop: bool = False
) -> torch.Tensor:
    """Return the logits [len(target) + 1, vocabulary] of a target's pieces and its end, for this pair alone."""
    ids = torch.tensor([[*source, EOS]])
    with torch.no_grad():
        logits = model(ids, torch.tensor([ids.shape[1]]), torch.tensor([[BOS, *target]]), step_loop=step_loop)
    return logits[0]


def teacher_forced_nats(model: Seq2Seq, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """Return the negative log-likelihood [len(target) + 1] of a target's pieces and its end, for this pair alone."""
    wanted = torch.tensor([*target, EOS])
    return torch.nn.functional.cross_entropy(teacher_forced_logits(model, source, target), wanted, reduction="none")


def curves(run: RunFolder, name: str) -> dict[int, float]:
    with run.curves.open() as stream:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(stream) if row["name"] == name}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_trained(path).model.state_dict()


def trained_names(run: RunFolder) -> list[str]:
    """Return each weight once, also where one is shared."""
    state = load_trained(run.last).model.state_dict(keep_vars=True)
    return list({id(weight): name for name, weight in state.items()}.values())


def assert_same_training(first: RunFolder, second: RunFolder) -> None:
    """Bit for bit: every weight, every point of every curve but speed, every translation."""
    weights_of_first, weights_of_second = weights(first.last), weights(second.last)
    assert weights_of_first.keys() == weights_of_second.keys()
    assert all(torch.equal(weight, weights_of_second[name]) for name, weight in weights_of_first.items())
    for name in ("train/loss", "dev/loss", "dev/bleu", "train/learning_rate", "train/target_tokens"):
        assert curves(first, name) == curves(second, name) != {}
    assert first.translations.read_text() == second.translations.read_text()
    for field in ("step", "target_tokens", "best", "finished"):
        assert getattr(load_progress(first.last), field) == getattr(load_progress(second.last), field)


@cache
def _forks() -> Path:
    """Return the folder of the process whose forks run scripts, once it is ready; see conftest.py.

    Where this process runs all tests, start it. It then ends with this process, which closes its standard input.
    """
    shared = os.environ.get("HOURGLASS_TEST_FORKS")
    folder = Path(shared) if shared else _own_forks()[0]
    wait_until((folder / "ready").exists, "the process whose forks run scripts")
    return folder


_own_forks = cache(start_forks)  # What is kept keeps the process's standard input open.


def quick_python() -> str:
    """Return the path of what stands for the interpreter, and runs scripts in forks (tests/forks.py)."""
    return str(_forks() / "python")


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


def children_of(script: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Return the processes that a script in a fork has started."""
    return psutil.Process(int((_forks() / f"fork-of-{script.pid}").read_text())).children()


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
    """Have MLflow make its tables, which takes seconds: once for all processes that run tests."""
    shared = os.environ.get("HOURGLASS_TEST_FORKS")
    if shared is None:
        shared = tempfile.mkdtemp(prefix="hourglass-store-")
        atexit.register(shutil.rmtree, shared)
    file = Path(shared) / "mlflow.db"
    if not file.exists():
        with tempfile.TemporaryDirectory(dir=shared) as own:
            made = Path(own) / "mlflow.db"
            mlflow.MlflowClient(f"sqlite:///{made}").search_experiments()
            made.rename(file)  # Whole, also where another process makes it at the same time.
    return file


def empty_store(folder: Path) -> str:
    """Write an empty database of MLflow, mlflow.db, into a folder, and return its address."""
    shutil.copy(_empty_store(), folder)
    return f"sqlite:///{folder}/mlflow.db"


def only_run(store: str, experiment: str) -> Any:
    client = mlflow.MlflowClient(store)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    (run,) = client.search_runs([known.experiment_id])
    return run


def logged_constants(run: RunFolder) -> dict[str, Any]:
    """Return what a run does not measure but knows from its model and data: parameters in MLflow, not metrics."""
    metrics = read_json(run.metrics)
    dropped = {f"corpus/dropped {reason}": count for reason, count in metrics["corpus"]["dropped"].items()}
    return {"parameters": metrics["parameters"], "padding_share": metrics["padding_share"], **dropped}


def assert_mirrored(store: str, run: RunFolder, status: str = "FINISHED") -> None:
    """Every point of the folder is in MLflow once, and nothing else is, beside the scores."""
    client = mlflow.MlflowClient(store)
    tracked = client.get_run(read_json(run.tracking)["run_id"])
    assert tracked.info.status == status
    assert tracked.info.end_time == read_json(run.tracking)["ended"]
    wanted: dict[str, list[tuple[int, float]]] = {}
    for point in read_points(run.curves) + read_points(run.system):
        wanted.setdefault(point.name, []).append((point.step, point.value))
    assert {"train/loss", "dev/bleu"} <= wanted.keys()
    for name, points in wanted.items():
        history = sorted((point.step, point.value) for point in client.get_metric_history(tracked.info.run_id, name))
        assert history == points
    for name in tracked.data.metrics.keys() - wanted.keys() - {by_length_name("bleu")}:
        assert len(client.get_metric_history(tracked.info.run_id, name)) == 1
    if status == "FINISHED":
        test = read_json(run.metrics)["test"]
        assert tracked.data.metrics["test/bleu"] == test["bleu"]
        by_length = [
            (point.step, point.value)
            for point in client.get_metric_history(tracked.info.run_id, by_length_name("bleu"))
        ]
        assert by_length == [(b["source_words"][0], b["bleu"]) for b in test["buckets"] if b["sentences"]]
        table = json.loads(Path(client.download_artifacts(tracked.info.run_id, LENGTH_TABLE)).read_text())
        assert table["columns"][:3] == ["source_words", "sentences", "bleu"]
        rows = [(row[1], row[2]) for row in table["data"]]
        assert rows == [(b["sentences"], pytest.approx(b["bleu"], abs=1e-3)) for b in test["buckets"]]
    settings = dict(flatten(yaml.safe_load(run.config.read_text())))
    constants = logged_constants(run) if status == "FINISHED" else {}
    assert not constants.keys() & tracked.data.metrics.keys()
    wanted_params = {name: value for name, value in settings.items() if not name.startswith("logger.")} | constants
    assert tracked.data.params == {name: str(value) for name, value in wanted_params.items()}
    assert tracked.data.tags["attention"] == "luong_general"
    assert tracked.inputs is not None
    assert tracked.inputs.dataset_inputs[0].dataset.name == "copy"
    files = {item.path for item in client.list_artifacts(tracked.info.run_id)}
    left = (run.config, run.curves, run.metrics, run.translations, run.path / "pictures")
    leaves = {file.name for file in left if file.exists()}
    assert files == leaves | ({LENGTH_TABLE} if status == "FINISHED" else set())
