"""The folders of the project, and the commit of its code."""

import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
CONF = ROOT / "conf"
TRAIN_SCRIPT = ROOT / "src" / "train.py"


def code_version() -> dict[str, Any]:
    """Return `commit`, the git commit of the code, and `dirty`, whether files differ; None outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            finished = subprocess.run(
                ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True, timeout=30
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return finished.stdout.strip()

    commit = git("rev-parse", "HEAD")
    # Installed in site-packages inside another repository, the code does not belong to that repository.
    if commit is None or git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return {"commit": None, "dirty": None}
    # Only code counts, not results, nor the files that a pipeline writes next to the code.
    code = [str(PACKAGE.parent), str(CONF), str(ROOT / "pipelines"), ":(top,exclude,glob)**/dvc.lock"]
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", *code))}
