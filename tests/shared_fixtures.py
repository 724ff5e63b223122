"""Fixtures of all tests."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hourglass.system.memory import importing_libraries

with importing_libraries():
    import torch
    from helpers import compose_config, make_run, quick_python, wait_for

    from hourglass.corpora.corpus import Corpus, load_corpus
    from hourglass.runs.folder import RunFolder

# No test may reach the hub; said before `datasets` is imported, so that a try is refused at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny kernels gain nothing from a second thread, and lose ten times over where other work shares the cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    """Return a function from overrides, as on the command line, to the resolved config as plain values."""
    return compose_config


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder for what is dear to build and the same in all tests, of all processes that run them."""
    shared = os.environ.get("HOURGLASS_TEST_FORKS")
    return Path(shared) / "cache" if shared else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def kjv_web(session_cache: Path) -> Corpus:
    """Return the default corpus, built once."""
    return load_corpus(compose_config()["data"], session_cache)


@pytest.fixture(scope="session")
def kjv_verses(session_cache: Path) -> Corpus:
    """Return the default corpus with a whole verse in each sentence, built once."""
    return load_corpus(compose_config("data.clauses=0")["data"], session_cache)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a finished run of SMALL (tests/helpers.py), trained once, which no test may change."""
    return make_run(tmp_path_factory.mktemp("small-run"))


@pytest.fixture
def _jobs_in_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the jobs that this process starts run in forks (tests/forks.py)."""
    monkeypatch.setattr(sys, "executable", quick_python())


@pytest.fixture
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server on loopback, as user postgres where this process is root, and return its address."""
    result = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not result:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install psycopg[binary]")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = tempfile.mkdtemp(prefix="hourglass-postgres-")
    password = Path(folder) / "password"
    password.write_text("top-secret\n")
    if as_user:
        shutil.chown(folder, "postgres")
        shutil.chown(password, "postgres")
    data, binaries = f"{folder}/data", result[-1].parent
    words = [*as_user, str(binaries / "initdb"), "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={password}"]
    subprocess.run(words, check=True, capture_output=True, cwd="/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*as_user, str(binaries / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    server = subprocess.Popen(words, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"postgresql://me:top-secret@127.0.0.1:{port}/postgres"
    try:
        ask = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ask, check=False).returncode == 0, server, "an answer of PostgreSQL")
        yield address
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
