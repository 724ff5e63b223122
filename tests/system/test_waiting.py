"""How OpenMP's threads wait, which has to be set before torch is loaded."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from hourglass.system.waiting import WAITING, limit_spinning

SCRIPTS = sorted(file for name in ("src", "pipelines", "pipelines/ablation") for file in (ROOT / name).glob("*.py"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "passive"}),
    ],
)
def test_what_the_user_has_set_stays(
    before: dict[str, str], after: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert {name: os.environ[name] for name in WAITING if name in os.environ} == after


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_loads_torch_before_the_package(script: Path) -> None:
    """Imports of other libraries stand before those of the package, and must not load torch's OpenMP."""
    statements = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in statements}
    packages = {name.partition(".")[0] for name in names if name} - sys.stdlib_module_names
    assert "hourglass" in packages
    assert packages <= {"hourglass", "hydra", "mlflow", "numpy", "omegaconf", "pydantic"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs GNU's OpenMP")
@pytest.mark.parametrize(
    "module", [*(pytest.param(name, marks=pytest.mark.more) for name in ("train", "translate")), "sync"]
)
def test_openmp_reads_it(module: str) -> None:
    """Read what OpenMP says of itself when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= {"OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": f"{ROOT / 'src'}"}
    words = [sys.executable, "-c", f"import {module}, torch"]
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stderr
    assert "GOMP_SPINCOUNT = '1000'" in shown
