"""The sweeper of a plain -m: one job for each combination of values, and at the end one table of all jobs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from hourglass.config.compose import load_composed_plugins
from hourglass.errors import UserError
from hourglass.reports.document import to_csv
from hourglass.sweeps.space import listed_values
from hourglass.sweeps.summary import SweptJob, jobs_table, summarise_jobs, varying
from hourglass.system.files import write_whole
from hourglass.system.secrets import first_line


def check_values(override: Override) -> None:
    """Check that an override has values; without any there would be no job at all.

    Raises:
        UserError: it has none.
    """
    try:
        listed_values(override)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from None


class CombinationSweeper(BasicSweeper):
    """Hydra's own sweeper, but a job that fails is one line of the table and leaves the others alone."""

    def sweep(self, arguments: list[str]) -> None:
        """Run all jobs, and print the table of those that have ended, also when this process is stopped.

        Raises:
            UserError: jobs failed.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        load_composed_plugins(self.config)  # What is wrong with them is said once, not by each job.
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:
            if override.is_sweep_override():
                check_values(override)
        batches = self.split_arguments(overrides, self.max_batch_size)
        everything = [words for batch in batches for words in batch]
        self.validate_batch_is_legal(everything)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        if self.config.hydra.runtime.choices["hydra/launcher"] == "basic":
            batches = [[words] for words in everything]  # One job at a time: each is known as soon as it ends.
        choices = varying(everything)
        ended: list[SweptJob] = []
        try:
            for result in self._results(batches):
                ended.append(_swept(len(ended), choices[len(ended)], result))
        finally:
            if ended:
                write_whole(folder / "jobs.csv", to_csv(jobs_table(ended, "job")))
                print(f"\n{summarise_jobs(ended, 'job')}", flush=True)
        failed = sum(job.error is not None for job in ended)
        if failed:
            raise UserError(f"{failed} of {len(ended)} jobs failed: see above")

    def _results(self, batches: Sequence[Sequence[Sequence[str]]]) -> Iterator[Any]:
        """Yield what `run_job` returns for each job, in order; for one that the launcher lost, the exception."""
        assert self.launcher is not None
        number = 0
        for batch in batches:
            for job in self.launcher.launch(batch, initial_job_idx=number):
                try:
                    yield job.return_value
                except Exception as error:
                    yield error
            number += len(batch)


def _swept(number: int, choices: dict[str, str], result: Any) -> SweptJob:
    if isinstance(result, Exception):
        return SweptJob(number, "failed", choices, error=first_line(result))
    return SweptJob(number, "complete", choices, runs=[result.run])
