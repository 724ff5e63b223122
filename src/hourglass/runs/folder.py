"""The run folder: what a run leaves behind, and by what names other tools find it.

PATH/config.yaml                the settings, resolved
PATH/checkpoints/best.ckpt      best on dev
PATH/checkpoints/last.ckpt      where to go on
PATH/checkpoints/previous.ckpt  the last.ckpt before: where to go on if that is damaged
PATH/checkpoints/next.ckpt      becomes last.ckpt once the curves have its step; nobody reads it
PATH/curves.csv                 step, name, value, time (not with logger=none)
PATH/system.csv                 the same of the machine: CPU, memory, GPU (logger.system_metrics)
PATH/metrics.json               scores, counts, seed, commit, machine
PATH/translations.test.tsv      id, source, reference, hypothesis
PATH/alignments/STEP.json       weights over some dev references, as they were at a validation
PATH/pictures/NAME.svg          what of the above can be drawn
PATH/model/                     the best model, packed for MLflow (logger.model, or src/pack.py)
PATH/tracking.json              what MLflow is to know of the run beside the above (logger=mlflow)
PATH/.lock                      held by the process that is at work on the run, with its pid

Files are written whole or not at all.
"""

import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hourglass.errors import UserError
from hourglass.system.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The names of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """The checkpoint that did best on dev."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The one to go on from if that is damaged."""
        return self.path / "checkpoints" / "previous.ckpt"

    def validated(self, step: int) -> Path:
        """A checkpoint of a validation, kept to be averaged with others."""
        return self.path / "checkpoints" / f"validated-{step:09}.ckpt"

    @property
    def all_validated(self) -> list[Path]:
        """Those that were kept, in the order of their steps."""
        return sorted((self.path / "checkpoints").glob("validated-*.ckpt"))

    @property
    def next(self) -> Path:
        """What is about to become the last."""
        return self.path / "checkpoints" / "next.ckpt"

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.path / "curves.csv"

    @property
    def system(self) -> Path:
        """How busy the machine was."""
        return self.path / "system.csv"

    @property
    def metrics(self) -> Path:
        """Scores and counts; the last file of a complete run."""
        return self.path / "metrics.json"

    @property
    def translations(self) -> Path:
        """The test split as the model translates it."""
        return self.path / "translations.test.tsv"

    @property
    def model(self) -> Path:
        """The best model, packed: a folder."""
        return self.path / "model"

    @property
    def lock(self) -> Path:
        """Who is at work on the run."""
        return self.path / ".lock"

    @property
    def tracking(self) -> Path:
        """Which MLflow run this is, and what it is to say."""
        return self.path / "tracking.json"


def create_run(run_dir: str | None, choices: Iterable[str], *, continues: bool) -> RunFolder:
    """Make the folder of a new run.

    Args:
        run_dir: where; null: runs/CHOICES-TIME.
        choices: what names the run: corpus, attention, ...
        continues: a run that lies there already may be gone on with.

    Raises:
        UserError: the folder holds a run already, or cannot be written.
    """
    if run_dir is not None:
        run = RunFolder(Path(run_dir).expanduser())
        if run.config.exists() and not continues:
            raise UserError(
                f"run_dir={run.path}: holds a run already: go on with it by resume={run.path}, or name another"
            )
        _make(run.path, f"run_dir={run.path}")
        return run
    # A choice may be a path within its group (experiment=paper/cho); a run is one folder of runs/ all the same.
    name = "-".join([*choices, time.strftime("%Y%m%d-%H%M%S")]).replace("/", "_")
    path = Path("runs") / name
    while path.exists():  # Another run began in the same second.
        path = Path("runs") / f"{name}-{secrets.token_hex(2)}"
    _make(path, f"{path}")
    return RunFolder(path)


def _make(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{option}: cannot be written ({reason}): set run_dir=PATH to one that can be") from None


def open_run(path: str, option: str) -> tuple[RunFolder, dict[str, Any]]:
    """Return a run's folder and its settings.

    Args:
        path: the folder.
        option: what named it, for messages: resume, run.

    Raises:
        UserError: it is no run folder.
    """
    run = RunFolder(Path(path).expanduser())
    try:
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "not a YAML file"
        raise UserError(f"{option}={path}: no run is there ({run.config}: {reason})") from None
    if not isinstance(config, dict):
        raise UserError(f"{option}={path}: no run is there ({run.config} holds no settings)")
    return run, config


def resume_run(path: str, overrides: Sequence[str]) -> tuple[RunFolder, dict[str, Any]]:
    """Return the run to go on with, and its own settings; who names it wants it to go on, never to start clean.

    Args:
        path: its folder.
        overrides: the command line's; none but `resume` may be there.

    Raises:
        UserError: it is no run folder, or other settings stand on the command line.
    """
    if others := [word for word in overrides if not word.startswith("resume=")]:
        raise UserError(f"resume={path} goes on by the run's own settings: leave out {' '.join(others)}")
    run, config = open_run(path, "resume")
    return run, {**config, "if_exists": "refuse"}


@contextmanager
def at_work(run: RunFolder, *, wait: bool = False) -> Iterator[None]:
    """Keep all other processes off a run's folder, and take it away if an error ends the run before it wrote there.

    The system lifts the lock when its owner dies, however it dies.

    Args:
        run: the folder.
        wait: for a process that is at work on the run, such as one whose sweep has died and that still has to stop.

    Raises:
        UserError: another process is at work on the run.
    """
    try:
        lock = run.lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run.path}: cannot be written ({error.strerror}): make it writable") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip()
            if not wait:
                raise UserError(
                    f"{run.path}: process {owner} is at work on this run: wait for it, or stop it"
                ) from None
            log.warning("%s: process %s is at work on this run: waiting for it", run.path, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield from _removed_if_empty(run)


def _removed_if_empty(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # Of a disk that fails the run itself says enough.
            if [file.name for file in run.path.iterdir()] == [run.lock.name]:
                run.lock.unlink()
                run.path.rmdir()
        raise


def clear(run: RunFolder) -> None:
    """Take away what an earlier run left in the folder, but for the lock."""
    checkpoints = (run.best, run.last, run.previous, run.next, *run.all_validated)
    files = (run.config, run.curves, run.system, run.metrics, run.translations, run.tracking)
    for path in (*checkpoints, *files):
        path.unlink(missing_ok=True)
    for name in ("alignments", "pictures", run.model.name):
        shutil.rmtree(run.path / name, ignore_errors=True)


def write_config(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Write the resolved settings."""
    write_whole(run.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
