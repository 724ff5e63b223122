"""Where the project lies on the disk, and which commit its code is of."""

import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
CONF = ROOT / "conf"
TRAIN_SCRIPT = ROOT / "src" / "train.py"


def code_version() -> dict[str, Any]:
    """Return the git commit of this project's code and whether files differ from it; None outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            finished = subprocess.run(
                ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True, timeout=30
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return finished.stdout.strip()

    commit = git("rev-parse", "HEAD")
    # A site-packages folder inside somebody else's repository is none of ours.
    if commit is None or git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return {"commit": None, "dirty": None}
    # Results, and what a pipeline writes beside the code, do not make it different code.
    code = [str(PACKAGE.parent), str(CONF), str(ROOT / "pipelines"), ":(top,exclude,glob)**/dvc.lock"]
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", *code))}
