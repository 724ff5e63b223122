"""The sweeper of a plain -m: one job for each combination of values, and at the end one table of all jobs.

In MLflow, the jobs' runs are the children of one run.
"""

import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from hourglass.config.compose import load_composed_plugins, plain_values
from hourglass.errors import UserError
from hourglass.reports.document import to_csv
from hourglass.sweeps.space import listed_values
from hourglass.sweeps.summary import SweptJob, jobs_table, summarise_jobs, varying
from hourglass.system.files import write_whole
from hourglass.system.secrets import first_line, without_secrets
from hourglass.tracking.parent import close_parent_run, open_parent_run
from hourglass.tracking.settings import MlflowSettings, check_logger

# The environment variable with the id of the jobs' parent run in MLflow; Hydra sets it with any launcher.
PARENT_RUN = "HOURGLASS_PARENT_RUN"
# Characters of each part of the parent run's description, and of its name; MLflow cuts longer ones.
DESCRIPTION_LENGTH, NAME_LENGTH = 3000, 100


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
        choices = varying(everything)
        logger = self._shared_logger(overrides)
        parent = _open_parent(logger, choices) if logger is not None and len(everything) > 1 else None
        if parent is not None:
            place = f"+hydra.job.env_set.{PARENT_RUN}='{parent}'"
            batches = [[[*words, place] for words in batch] for batch in batches]
        if self.config.hydra.runtime.choices["hydra/launcher"] == "basic":
            # One job at a time: each is known as soon as it ends.
            batches = [[words] for batch in batches for words in batch]
        ended: list[SweptJob] = []
        try:
            for result in self._results(batches):
                ended.append(_swept(len(ended), choices[len(ended)], result))
        finally:
            if ended:
                write_whole(folder / "jobs.csv", to_csv(jobs_table(ended, "job")))
                print(f"\n{summarise_jobs(ended, 'job')}", flush=True)
            failed = sum(job.error is not None for job in ended)
            if logger is not None and parent is not None:
                status = "KILLED" if len(ended) < len(everything) else "FAILED" if failed else "FINISHED"
                metrics = {"jobs/complete": len(ended) - failed, "jobs/failed": failed}
                files = [folder / "jobs.csv"] if ended else []
                close_parent_run(logger, parent, status=status, metrics=metrics, files=files)
        if failed:
            raise UserError(f"{failed} of {len(ended)} jobs failed: see above")

    def _shared_logger(self, overrides: Sequence[Override]) -> MlflowSettings | None:
        """Return where the jobs are tracked in MLflow; None if in several places, or nowhere.

        Raises:
            UserError: the settings of the logger are refused.
        """
        assert self.config is not None
        swept = any(word.is_sweep_override() and word.key_or_group.split(".")[0] == "logger" for word in overrides)
        logger = None if swept else check_logger(plain_values(self.config.logger))
        return logger if isinstance(logger, MlflowSettings) else None

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


def _open_parent(logger: MlflowSettings, choices: Sequence[Mapping[str, str]]) -> str | None:
    """Create the parent run in MLflow of jobs with these choices, and return its id; None if the server fails."""
    values: dict[str, dict[str, None]] = {}
    for job in choices:
        for key, value in job.items():
            values.setdefault(key, {})[value] = None
    name = f"sweep over {', '.join(values)}"
    lists = "\n".join(f"{key}={','.join(each)}" for key, each in values.items())
    command = without_secrets(f"python src/train.py {shlex.join(sys.argv[1:])}")
    # Indented lines are code in Markdown, whatever they contain.
    code = "\n\n".join(textwrap.indent(text[:DESCRIPTION_LENGTH], "    ") for text in (lists, command))
    tags = {"jobs": str(len(choices))}
    return open_parent_run(logger, name[:NAME_LENGTH], f"{len(choices)} jobs of one command.\n\n{code}", tags, {})


def _swept(number: int, choices: dict[str, str], result: Any) -> SweptJob:
    if isinstance(result, Exception):
        return SweptJob(number, "failed", choices, error=first_line(result))
    return SweptJob(number, "complete", choices, runs=[result.run])
