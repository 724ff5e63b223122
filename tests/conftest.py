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
    folder = tempfile.mkdtemp(prefix="hourglass-forks-")
    words = [sys.executable, str(Path(__file__).with_name("forks.py")), folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE  # Also for the output: forks inherit an object that must not take it for a file.
    server = subprocess.Popen(words, stdin=pipe, stdout=pipe, env=environment)
    os.environ["HOURGLASS_TEST_FORKS"] = folder

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(end)


def _distributes(config: pytest.Config) -> bool:
    """Return whether this process has others run the tests."""
    options = config.option
    return not hasattr(config, "workerinput") and getattr(options, "dist", "no") != "no" and not options.collectonly
