"""Train a translation model, score it and track it: python src/train.py GROUP=CHOICE GROUP.KEY=VALUE ..."""

import sys
from typing import TYPE_CHECKING, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hourglass.config.command_line import check_command_line, is_sweep, one_line_errors
from hourglass.config.usage import train_usage
from hourglass.config.version import version_report
from hourglass.system.devices import exit_without_python, is_main_process
from hourglass.system.memory import importing_libraries
from hourglass.training.hosts import hosts_of_torchrun, refuse_sweep
from hourglass.training.job import Job, open_job, working_on
from hourglass.training.jobs import Outcome, answering, read_ticket

if TYPE_CHECKING:
    from hourglass.training.preparation import PreparedData


@hydra.main(config_path="../conf", config_name="config", execution_whitelist=())
def main(composed: DictConfig) -> Any:
    """Run the training that the command line describes; in a sweep, start a child process that does."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from hourglass.sweeps.sweeper import run_job  # noqa: PLC0415

        return run_job(composed)
    ticket = read_ticket()
    with one_line_errors(), hosts_of_torchrun() as hosts, answering(ticket) as answer:
        job = open_job(composed, ticket, hosts)
        with working_on(job):
            outcome = train(job)
        answer(outcome)
        return outcome.dev[job.settings.trainer.select]


def train(job: Job) -> Outcome:
    """Prepare, train, score and track one run, or what is left of it."""
    # Lightning, matplotlib and MLflow take seconds to import. So all settings are checked first.
    with importing_libraries():
        from hourglass.training import outcome, preparation, run  # noqa: PLC0415

    run.meet_hosts(job)
    prepared = preparation.prepare(job.config, job.settings)
    preparation.warn_of_unknown_pieces(job.config, prepared)
    model = run.make_model(job, prepared)
    start = run.choose_start(job, prepared, model)
    run.compare_hosts(job, prepared, start)
    with run.open_tracking(job, prepared) as tracking:
        progress = run.train_model(job, prepared, model, tracking, start, callbacks=make_callbacks(job, prepared))
        if is_main_process():
            outcome.write_metrics(job, prepared, model, progress)
            finish(job)
    if is_main_process():
        if hint := tracking.hint():
            print(hint)
        print(f"run: {job.run.path}", flush=True)
    return outcome.outcome_of(job, prepared, model, progress)


def make_callbacks(job: Job, prepared: "PreparedData") -> list[Any]:
    """Return the callbacks of a sweep: a trial of one objective may be pruned."""
    if job.trial is None or not job.trial.objective:
        return []
    from hourglass.sweeps.pruning import Pruning  # noqa: PLC0415

    return [Pruning(job.trial, prepared.stream.validate_every)]


def finish(job: Job) -> None:
    """Draw the run, and pack its model for MLflow; what fails is logged, and the run is complete without it."""
    from hourglass.training.outcome import finishing_step  # noqa: PLC0415

    if job.settings.trainer.pictures:
        from hourglass.reports.pictures import PICTURES, draw_picture  # noqa: PLC0415

        for name in PICTURES:
            with finishing_step(job.run, f"picture {name}"):
                draw_picture(job.run, name)
    if job.keeps_model:
        with finishing_step(job.run, "packed model"):
            from hourglass.tracking.packing import pack_anew  # noqa: PLC0415

            pack_anew(job.run)


if __name__ == "__main__":
    if help_flags := {"-h", "--help"} & set(sys.argv[1:]):
        after = sys.argv[sys.argv.index(help_flags.pop()) + 1 :]
        with one_line_errors():
            print(train_usage(after[0] if after and "=" not in after[0] else None))
        raise SystemExit
    if "--version" in sys.argv[1:]:
        print(version_report())
        raise SystemExit
    check_command_line("config")
    if is_sweep(sys.argv[1:]):
        with one_line_errors():
            refuse_sweep()
        # Optuna takes a second to import.
        from hourglass.sweeps.sweeper import register_sweepers

        register_sweepers()
    with exit_without_python(), one_line_errors():
        main()
