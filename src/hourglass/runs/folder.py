"""The run folder: the files of a run, and the names under which all other code finds them.

PATH/config.yaml                the resolved settings
PATH/checkpoints/best.ckpt      the best on dev
PATH/checkpoints/last.ckpt      the checkpoint to resume from
PATH/checkpoints/previous.ckpt  the last.ckpt before it, to resume from if that is damaged
PATH/checkpoints/stable.ckpt    with optimizer.decay=wsd, of the step after which the rate falls, for start_from
PATH/checkpoints/next.ckpt      becomes last.ckpt once the curves have its step; nothing reads it
PATH/curves.csv                 training curves: step, name, value, time (not with logger=none)
PATH/system.csv                 the same for the machine: CPU, memory, GPU (logger.system_metrics)
PATH/metrics.json               scores, counts, seed, commit, machine
PATH/translations.test.tsv      id, source, reference, hypothesis
PATH/sentence_scores.npz        of each test sentence its counts for the score and its length (kept runs of an ablation)
PATH/scores.json                scores over all test sentences and by length, and some examples (kept runs)
PATH/likelihoods.npz            of each target token of test its negative log-likelihood (kept runs)
PATH/alignments/STEP.json       attention weights over a few dev pairs at each validation
PATH/pictures/NAME.svg          plots of the above
PATH/model/                     the best model, packed for MLflow (logger.model, or src/pack.py)
PATH/tracking.json              the run in MLflow: id, tags, dataset, status (logger=mlflow)
PATH/tensorboard/               event files of TensorBoard (logger=tensorboard)
PATH/wandb/                     local files of W&B, and the id of its run (logger=wandb)
PATH/.lock                      held by the process that works on the run; contains its pid

Every file is written whole or not at all.
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

from hourglass.config.older import in_present_form
from hourglass.errors import UserError
from hourglass.system.commands import printed_command
from hourglass.system.files import write_whole
from hourglass.system.yaml_files import read_yaml, to_yaml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """The checkpoint with the best score on dev."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint to resume from if the last one is damaged."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def stable(self) -> Path:
        """The checkpoint from which a run with a larger budget can start (optimizer.decay=wsd)."""
        return self.path / "checkpoints" / "stable.ckpt"

    def validated(self, step: int) -> Path:
        """Return the checkpoint of a validation, which is kept for averaging (trainer.keep)."""
        return self.path / "checkpoints" / f"validated-{step:09}.ckpt"

    @property
    def all_validated(self) -> list[Path]:
        """The checkpoints kept for averaging, in the order of their steps."""
        return sorted((self.path / "checkpoints").glob("validated-*.ckpt"))

    @property
    def next(self) -> Path:
        """The checkpoint that is about to become the last."""
        return self.path / "checkpoints" / "next.ckpt"

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.path / "curves.csv"

    @property
    def system(self) -> Path:
        """The load of the machine."""
        return self.path / "system.csv"

    @property
    def metrics(self) -> Path:
        """Scores and counts; the last file that a complete run writes."""
        return self.path / "metrics.json"

    @property
    def translations(self) -> Path:
        """The translations of the test split."""
        return self.path / "translations.test.tsv"

    @property
    def sentence_scores(self) -> Path:
        """The counts for the score of each test sentence, without the sentences."""
        return self.path / "sentence_scores.npz"

    @property
    def scores(self) -> Path:
        """The scores over all test sentences and by length."""
        return self.path / "scores.json"

    @property
    def likelihoods(self) -> Path:
        """The likelihoods of the references of test."""
        return self.path / "likelihoods.npz"

    @property
    def model(self) -> Path:
        """The folder of the packed model."""
        return self.path / "model"

    @property
    def lock(self) -> Path:
        """The lock file of the process that works on the run."""
        return self.path / ".lock"

    @property
    def tracking(self) -> Path:
        """The record of the run in MLflow."""
        return self.path / "tracking.json"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """The folder of W&B's local files."""
        return self.path / "wandb"


def create_run(run_dir: str | None, choices: Iterable[str], *, continues: bool, words: Sequence[str] = ()) -> RunFolder:
    """Create the folder of a new run.

    Args:
        run_dir: its path; None: runs/CHOICES-TIME.
        choices: the parts of the name: corpus, attention, ...
        continues: whether the folder may hold a run already, which is then resumed.
        words: that a command which resumes the run needs beside its folder.

    Raises:
        UserError: the folder holds a run already, or cannot be written.
    """
    if run_dir is not None:
        run = RunFolder(Path(run_dir).expanduser())
        if run.config.exists() and not continues:
            raise UserError(
                f"run_dir={run.path}: holds a run already: resume it by "
                f"{printed_command('src/train.py', *words, resume=run.path)}, or name another folder"
            )
        _make_writable(run.path, f"run_dir={run.path}")
        return run
    # A choice may have a slash (experiment=paper/cho), but every run is a direct subfolder of runs/.
    name = "-".join([*choices, time.strftime("%Y%m%d-%H%M%S")]).replace("/", "_")
    path = Path("runs") / name
    while path.exists():  # Another run started in the same second.
        path = Path("runs") / f"{name}-{secrets.token_hex(2)}"
    _make_writable(path, f"{path}")
    return RunFolder(path)


def _make_writable(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{option}: cannot be written ({reason}): set run_dir=PATH to a writable folder") from None


def open_run(path: str, option: str) -> tuple[RunFolder, dict[str, Any]]:
    """Return a run folder and the settings of its run.

    Args:
        path: the folder.
        option: the option that named it, for messages: resume, run.

    Raises:
        UserError: the folder holds no run.
    """
    run = RunFolder(Path(path).expanduser())
    try:
        config = read_yaml(run.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "not a YAML file"
        raise UserError(f"{option}={path}: not a run folder ({run.config}: {reason})") from None
    if not isinstance(config, dict):
        raise UserError(f"{option}={path}: not a run folder ({run.config} holds no settings)")
    return run, in_present_form(config)


def resume_run(path: str, overrides: Sequence[str]) -> tuple[RunFolder, dict[str, Any]]:
    """Return the folder and the settings of a run to resume; a checkpoint that does not fit is an error.

    Args:
        path: the folder.
        overrides: the words of the command line, of which only `resume` and `plugins` are allowed.

    Raises:
        UserError: the folder holds no run, or one that is complete and has no checkpoint to go on from, such as a small
            model in results/; or the command line has other settings.
    """
    if others := [word for word in overrides if not word.startswith(("resume=", "plugins="))]:
        raise UserError(f"resume={path} uses the settings of the run: leave out {' '.join(others)}")
    run, config = open_run(path, "resume")
    if run.metrics.exists() and not (run.last.exists() or run.previous.exists()):
        raise UserError(
            f"resume={path}: its training is complete, and {run.last.name} is not there: nothing to go on from; train "
            "it anew in another folder by run_dir=PATH"
        )
    return run, {**config, "if_exists": "refuse"}


@contextmanager
def run_lock(run: RunFolder, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run folder, and remove the folder if an error ends the run before it wrote anything there.

    The system releases the lock when its owner dies, for whatever reason.

    Args:
        run: the folder.
        wait: whether to wait for another process that holds the lock, such as a child of a sweep's dead worker.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
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
                    f"{run.path}: process {owner} is working on this run: wait for it, or stop it"
                ) from None
            log.warning("%s: process %s is working on this run: waiting for it", run.path, owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield from _remove_if_empty(run)


def _remove_if_empty(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # If the disk fails, the error on its way says so.
            if [file.name for file in run.path.iterdir()] == [run.lock.name]:
                run.lock.unlink()
                run.path.rmdir()
        raise


def clear(run: RunFolder) -> None:
    """Remove everything that an earlier run left in the folder, except the lock."""
    checkpoints = (run.best, run.last, run.previous, run.stable, run.next, *run.all_validated)
    files = (run.config, run.curves, run.system, run.metrics, run.translations, run.tracking)
    for path in (*checkpoints, *files):
        path.unlink(missing_ok=True)
    for name in ("alignments", "pictures", run.model.name, run.tensorboard.name, run.wandb.name):
        shutil.rmtree(run.path / name, ignore_errors=True)


def write_config(run: RunFolder, config: Mapping[str, Any]) -> None:
    """Write the resolved settings."""
    write_whole(run.config, to_yaml(config))
