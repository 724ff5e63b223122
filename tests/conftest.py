"""What pytest loads first: the fixtures, and the process whose forks run scripts.

Of several processes (pytest-xdist), the first runs no test. It does not import the fixtures, which takes ten seconds,
but starts the process whose forks run scripts, once for all others.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not _distributes(config):
        config.pluginmanager.import_plugin("shared_fixtures")
        return
    folder, server = start_forks()
    os.environ["HOURGLASS_TEST_FORKS"] = str(folder)

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(end)


def start_forks() -> tuple[Path, subprocess.Popen[bytes]]:
    """Start the process whose forks run scripts (forks.py), which ends with its standard input; return its folder."""
    folder = Path(tempfile.mkdtemp(prefix="hourglass-forks-"))
    words = [sys.executable, str(Path(__file__).with_name("forks.py")), str(folder)]
    pipe = subprocess.PIPE  # Also for the output: forks inherit an object that must not take it for a file.
    return folder, subprocess.Popen(words, stdin=pipe, stdout=pipe, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _distributes(config: pytest.Config) -> bool:
    """Return whether this process has others run the tests."""
    options = config.option
    return not hasattr(config, "workerinput") and getattr(options, "dist", "no") != "no" and not options.collectonly
