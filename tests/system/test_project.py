"""The version of the code that a run records."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

from helpers import ROOT


def test_the_version_is_the_commit_and_whether_code_differs_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    # A separate project, whose own code reports the version.
    own = tmp_path / "src" / "hourglass" / "system" / "project.py"
    own.parent.mkdir(parents=True)
    shutil.copy(ROOT / "src" / "hourglass" / "system" / "project.py", own)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    spec = importlib.util.spec_from_file_location("runs_of_another_project", own)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    (tmp_path / "pipelines" / "sweep").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").write_text("a: 1\n")
    assert module.code_version() == {"commit": None, "dirty": None}
    git("init", "-q")
    git("add", ".gitignore", "src", "conf")
    git("commit", "-q", "-m", "first")
    clean = {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert module.code_version() == clean
    # A file that a pipeline writes next to the code.
    (tmp_path / "pipelines" / "sweep" / "dvc.lock").write_text("schema: '2.0'\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.md").write_text("# A report\n")
    assert module.code_version() == clean
    (tmp_path / "conf" / "a.yaml").write_text("a: 2\n")
    assert module.code_version() == {**clean, "dirty": True}
    git("checkout", "-q", "conf")
    (tmp_path / "pipelines" / "new.py").write_text("")
    assert module.code_version() == {**clean, "dirty": True}
