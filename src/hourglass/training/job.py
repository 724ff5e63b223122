"""A job: one run with its folder and its settings."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hourglass.config.compose import load_composed_plugins, plain_values
from hourglass.config.differences import changes
from hourglass.config.options import Config
from hourglass.config.plugins import plugin_words, require_plugins
from hourglass.errors import UserError
from hourglass.models.pretrained import check_files
from hourglass.runs.folder import RunFolder, create_run, open_run, resume_run, run_lock
from hourglass.system.devices import is_main_process, under_torchrun
from hourglass.tracking.settings import MlflowSettings
from hourglass.training.branching import check_start_from
from hourglass.training.freezing import check_frozen_encoder, has_frozen_encoder
from hourglass.training.hosts import Hosts
from hourglass.training.jobs import Ticket, TrialTicket
from hourglass.training.settings import Settings, check_settings
from hourglass.training.stopping import resumable

log = logging.getLogger("hourglass")
# torch's default, read at import: a later run in this process must not inherit the number of an earlier one.
THREADS = torch.get_num_threads()
# What if_exists=continue advises for a folder whose run cannot be resumed.
OTHERWISE = "set another run_dir, or delete this run by if_exists=continue_or_replace"


@dataclass(frozen=True)
class Job:
    """One run with its folder and its settings.

    Attributes:
        run: the run folder.
        config: all settings, as plain values.
        settings: the same, checked and typed.
        ticket: what the parent process has handed over, for a job of a sweep; None for any other run.
        hosts: the processes that train together, where torchrun has started them.
    """

    run: RunFolder
    config: Config
    settings: Settings
    ticket: Ticket | None = None
    hosts: Hosts | None = None

    @property
    def trial(self) -> TrialTicket | None:
        """The trial of an Optuna study that this run evaluates, if any."""
        return self.ticket.trial if self.ticket is not None else None

    @property
    def keeps_model(self) -> bool:
        """Whether the model is packed for MLflow."""
        logger = self.settings.logger
        return isinstance(logger, MlflowSettings) and (self.ticket is None if logger.model == "auto" else logger.model)

    @property
    def measures_speed(self) -> bool:
        """Whether the sweep needs the speed of translation."""
        return self.ticket is not None and self.ticket.measure_speed


def open_job(composed: DictConfig, ticket: Ticket | None, hosts: Hosts | None = None) -> Job:
    """Check all settings, and create the run folder, or open that of the run to resume.

    Args:
        composed: the settings.
        ticket: what the parent process has handed over.
        hosts: the processes that train together, where torchrun has started them.

    Raises:
        UserError: an option is refused, a plugin cannot be loaded, or the folder cannot be used.
    """
    if not is_main_process():
        log.setLevel(logging.WARNING)  # The first process logs the rest.
    config = plain_values(composed)
    config["plugins"] = load_composed_plugins(composed)
    if config["resume"] is not None:
        run, config = resume_run(str(config["resume"]), HydraConfig.get().overrides.task)
        require_plugins(config.get("plugins", []), f"resume={run.path}")
        return Job(run, config, check_settings(config), hosts=hosts)
    settings = check_settings(config)
    check_start_from(config, settings)
    check_frozen_encoder(config)
    choices = HydraConfig.get().runtime.choices
    if choices.get("sweep") is not None and ticket is None:  # A job has the settings of its sweep.
        raise UserError(f"sweep={choices['sweep']}: needs -m: python src/train.py -m sweep={choices['sweep']} ...")
    if config["run_dir"] is None and under_torchrun():
        raise UserError("run_dir: not set; under torchrun set run_dir=PATH, a folder that all processes share")
    if not is_main_process():  # The first process creates the folder.
        return Job(RunFolder(Path(config["run_dir"]).expanduser()), config, settings, hosts=hosts)
    check_files(config)
    continues = config["if_exists"] != "refuse"
    run = create_run(config["run_dir"], name_run(choices, config), continues=continues, words=plugin_words())
    if config["if_exists"] == "continue":
        check_same_settings(run, config)
    return Job(run, config, settings, ticket, hosts)


def check_same_settings(run: RunFolder, config: Config) -> None:
    """Check, before the data are prepared, that a run folder has no training of other settings.

    Raises:
        UserError: it has.
    """
    if not any(file.exists() for file in (run.last, run.previous)) or not run.config.exists():
        return
    if changed := changes(open_run(str(run.path), "run_dir")[1], config):
        raise UserError(
            f"run_dir={run.path}: holds a run of other settings ({', '.join(changed)}): restore those that it was "
            f"trained with, or {OTHERWISE}"
        )


@contextmanager
def working_on(job: Job) -> Iterator[None]:
    """Hold the lock of the run, and print how to resume the run if it is stopped."""
    # When the worker of a trial dies, its child process may hold the folder's lock for some moments more.
    lock = run_lock(job.run, wait=job.trial is not None) if is_main_process() else nullcontext()
    with lock, resumable(job.run, job.hosts):
        yield


def name_run(choices: Mapping[str, Any], config: Config) -> list[str]:
    """Return the parts of a run's name: corpus, experiment and encoder if not the defaults, attention and seed.

    A frozen encoder is named, too.
    """
    special = [choices[group] for group in ("experiment", "encoder") if choices.get(group) not in (None, "null", "rnn")]
    special += ["frozen"] if has_frozen_encoder(config) else []
    return [choices["data"], *special, choices["attention"], f"s{config['seed']}"]
