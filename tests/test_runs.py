"""What a run is said to have been trained with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT


def test_the_version_is_the_commit_and_whether_code_differs_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *names, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def version() -> dict[str, Any]:
        code = "import json; from hourglass.runs import code_version; print(json.dumps(code_version()))"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    (tmp_path / "src" / "hourglass").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "runs.py"):
        shutil.copy(ROOT / "src" / "hourglass" / name, tmp_path / "src" / "hourglass")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "pipelines" / "sweep").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").write_text("a: 1\n")
    assert version() == {"commit": None, "dirty": None}
    git("init", "-q")
    git("add", ".gitignore", "src", "conf")
    git("commit", "-q", "-m", "first")
    clean = {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert version() == clean
    # What a pipeline writes beside the code.
    (tmp_path / "pipelines" / "sweep" / "dvc.lock").write_text("schema: '2.0'\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.md").write_text("# A report\n")
    assert version() == clean
    (tmp_path / "conf" / "a.yaml").write_text("a: 2\n")
    assert version() == {**clean, "dirty": True}
    git("checkout", "-q", "conf")
    (tmp_path / "pipelines" / "new.py").write_text("")
    assert version() == {**clean, "dirty": True}
