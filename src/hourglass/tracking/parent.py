"""The parent run in MLflow of the runs of one sweep, below which its list shows them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hourglass.tracking.client import DESCRIPTION, asking, connect, find_experiment
from hourglass.tracking.server import error_line, mlflow_server
from hourglass.tracking.settings import MlflowSettings

log = logging.getLogger(__name__)

# The tag of MLflow's own that makes a run a child of another.
PARENT_TAG = "mlflow.parentRunId"


def open_parent_run(
    logger: MlflowSettings, name: str, description: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> str | None:
    """Create a parent run in MLflow, and return its id; None if the server fails: the sweep runs without it.

    Args:
        logger: where, and in which experiment.
        name: of the run; a name of its own, neither the experiment's nor that of another run.
        description: in Markdown.
        tags: by name.
        params: by name.
    """
    try:
        with mlflow_server(logger.uri) as uri:
            client = connect(uri)
            experiment_id = find_experiment(asking(client), logger.experiment, client.tracking_uri)
            run = client.create_run(experiment_id, run_name=name, tags={**tags, DESCRIPTION: description})
            run_id: str = run.info.run_id
            for key, value in params.items():
                client.log_param(run_id, key, value)
            return run_id
    except Exception as error:  # Of the network or a database.
        log.warning("MLflow has no parent run for the sweep (%s): its runs have none", error_line(error))
        return None


def close_parent_run(
    logger: MlflowSettings,
    run_id: str,
    *,
    status: str,
    metrics: Mapping[str, float],
    files: Sequence[Path],
    folders: Sequence[Path] = (),
) -> None:
    """End a parent run, with what the sweep has written; if the server fails, one line of the log says so.

    Args:
        logger: where it is.
        run_id: its id.
        status: MLflow's: FINISHED, FAILED or KILLED.
        metrics: by name.
        files: its artifacts.
        folders: artifacts, each in a folder of its name; those that do not exist are left out.
    """
    try:
        with mlflow_server(logger.uri) as uri:
            client = connect(uri)
            for name, value in metrics.items():
                client.log_metric(run_id, name, value)
            # Before the files: a run whose artifacts cannot be written must not stay RUNNING.
            client.set_terminated(run_id, status)
            for file in files:
                client.log_artifact(run_id, str(file))
            for folder in filter(Path.is_dir, folders):
                client.log_artifacts(run_id, str(folder), folder.name)
    except Exception as error:  # Of the network or a database. The folder is complete.
        places = ", ".join(str(path) for path in [*files, *folders])
        log.warning("MLflow did not take what the sweep has made (%s): %s", error_line(error), places)
