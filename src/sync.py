"""Send what MLflow lacks of a run, after its server was down: python src/sync.py RUN"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder, open_run, run_lock
from hourglass.system.commands import printed_command
from hourglass.system.files import read_json
from hourglass.tracking.mirror import RUNNING, Mirror
from hourglass.tracking.server import error_line, mlflow_server
from hourglass.tracking.settings import MlflowSettings, check_logger


@dataclass(frozen=True)
class SyncSettings:
    """conf/sync.yaml.

    Attributes:
        run: a run folder, or a folder of run folders.
        tracking_uri: the address of MLflow; None: that of the run's settings.
    """

    run: str
    tracking_uri: str | None


def main(values: Mapping[str, Any]) -> None:
    """Send the run, or every run in the folder that MLflow tracks."""
    settings = build(SyncSettings, values, "")
    folder = Path(settings.run).expanduser()
    only_run = RunFolder(folder) if RunFolder(folder).config.exists() else None
    runs = [only_run] if only_run else [RunFolder(file.parent) for file in sorted(folder.glob("*/tracking.json"))]
    if not runs:
        raise UserError(f"run={folder}: neither a run folder nor a folder of runs that MLflow tracks")
    failed = []
    for run in runs:
        try:
            send(run, settings.tracking_uri)
        except UserError as error:
            if only_run:
                raise
            failed.append(run)
            print(f"error: {error}", file=sys.stderr)
    if failed:
        raise UserError(f"run={folder}: {len(failed)} of {len(runs)} runs were not sent; see above")


def send(run: RunFolder, tracking_uri: str | None) -> None:
    """Send to MLflow what it lacks of one run.

    Args:
        run: the run folder.
        tracking_uri: the address of MLflow; None: that of the run's settings.

    Raises:
        UserError: MLflow does not track the run or fails, or another process is working on the run.
    """
    _, config = open_run(str(run.path), "run")
    changed = {} if tracking_uri is None else {"tracking_uri": tracking_uri}
    settings = check_logger({**config["logger"], **changed})
    if not isinstance(settings, MlflowSettings) or not run.tracking.exists():
        raise UserError(f"run={run.path}: MLflow does not track this run (logger={config['logger']['name']})")
    record = read_json(run.tracking)
    if "key" not in record:
        raise UserError(
            f"{run.tracking}: of an earlier version: send the run by {printed_command('src/train.py', resume=run.path)}"
        )
    with run_lock(run), mlflow_server(settings.uri) as uri:
        mirror = Mirror(run, uri, settings.experiment, config, record)
        if record["status"] == RUNNING:  # Its process has died, since the lock was free.
            mirror.end("KILLED", max(file.stat().st_mtime for file in (run.config, run.curves) if file.exists()))
        else:
            mirror.follow()
        try:
            mirror.send()
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"run={run.path}: MLflow at {settings.where} lacks {mirror.missing()} ({error_line(error)}): "
                "correct that, and run the command again"
            ) from None
        print(f"{run.path}: all of it is at {settings.where}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("sync", "run"))
