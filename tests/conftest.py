"""What all tests share: the project's own configs, composed as the command line would compose them."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hourglass.assembly import build_model
from hourglass.corpus import Corpus, load_corpus
from hourglass.model import Seq2Seq
from hourglass.search import SearchSettings

# No test may reach the hub; said before `datasets` is imported, so that a try is refused at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny kernels gain nothing from a second thread, and lose ten times over where other work shares the cores.
torch.set_num_threads(1)

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


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    """Return a function from overrides, as on the command line, to the resolved config as plain values."""
    return compose_config


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder for what is dear to build and the same in all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def kjv_web(session_cache: Path) -> Corpus:
    """Return the default corpus, built once."""
    return load_corpus(compose_config()["data"], session_cache)


def compose_config(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF)):
        composed = compose("config", overrides=list(overrides))
    resolved: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return resolved


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


@pytest.fixture
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server on loopback, as user postgres where this process is root, and return its address."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install psycopg[binary]")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = tempfile.mkdtemp(prefix="hourglass-postgres-")
    password = Path(folder) / "password"
    password.write_text("top-secret\n")
    if as_user:
        shutil.chown(folder, "postgres")
        shutil.chown(password, "postgres")
    data, binaries = f"{folder}/data", found[-1].parent
    words = [*as_user, str(binaries / "initdb"), "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={password}"]
    subprocess.run(words, check=True, capture_output=True, cwd="/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*as_user, str(binaries / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    server = subprocess.Popen(words, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"postgresql://me:top-secret@127.0.0.1:{port}/postgres"
    try:
        for _ in range(600):
            ready = subprocess.run(
                [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)], capture_output=True, check=False
            )
            if ready.returncode == 0:
                break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
