"""Register packed models in MLflow: versions of a registered model, whose alias `best` has the lowest dev loss."""

import json
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.tracking.client import MODEL, asking, connect, digest_of, find_experiment, log_model
from hourglass.tracking.server import error_line, mlflow_server

# The experiment for runs that MLflow does not know.
EXPERIMENT = "hourglass"


def register_model(run: RunFolder, folder: Path, name: str, uri: str) -> str:
    """Register a packed model; the alias `best` moves to the lowest dev loss.

    Args:
        run: the run that the model is of. The model is logged to this run in MLflow.
        folder: the packed model.
        name: of the registered model.
        uri: address of MLflow.

    Returns:
        A line for the user: the new version and the best one.

    Raises:
        UserError: MLflow fails, or the registered model has versions of another corpus.
    """
    with mlflow_server(uri) as shown:
        try:
            client = connect(shown)
            model_id = log_model(asking(client), find_run(client, run, folder), run, folder)
            return add_version(client, name, client.get_logged_model(model_id))
        except UserError as error:
            raise UserError(f"register={error}") from None
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow at {shown} did not take the model ({error_line(error)}), which is in {folder}: correct that, "
                "and run the command again"
            ) from None


def add_version(client: Any, name: str, model: Any, *, is_best: bool = False) -> str:
    """Make a logged model a version of a registered model, unless it is one, and move the alias `best`.

    Args:
        client: of MLflow.
        name: of the registered model.
        model: the logged model.
        is_best: give the model the alias `best` in any case; otherwise the lowest dev loss decides.

    Returns:
        A line for the user: the new version and the best one.

    Raises:
        UserError: the registered model has versions of another corpus.
    """
    best = find_best(client, name)
    if not is_best and best is not None and best.tags.get("corpus_digest") != model.tags["corpus_digest"]:
        raise UserError(f"{name}@best is a model of another corpus: give another name")
    version = next(
        (known for known in client.search_model_versions(f"name='{name}'") if known.source == model.model_uri), None
    )
    if version is None:
        tags = {key: model.tags[key] for key in ("corpus_digest", "dev_loss")}
        version = client.create_model_version(
            name, model.model_uri, model.source_run_id, tags=tags, model_id=model.model_id
        )
    # MLflow's own register_model sets this tag too. The model's page shows it.
    known, own = json.loads(model.tags.get("mlflow.modelVersions", "[]")), {"name": name, "version": version.version}
    if own not in known:
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([*known, own])})
    if is_best or best is None or float(version.tags["dev_loss"]) < float(best.tags["dev_loss"]):
        client.set_registered_model_alias(name, "best", version.version)
        best = version
    subject = "it is" if best.version == version.version else f"version {best.version} is"
    return f"registered: models:/{name}/{version.version}; {subject} the best by dev loss: models:/{name}@best"


def find_best(client: Any, name: str) -> Any:
    """Return the version of a registered model that has the alias `best`, or None; create the model if needed."""
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
        return None
    try:
        return client.get_model_version_by_alias(name, "best")
    except MlflowException:
        return None


def find_run(client: Any, run: RunFolder, folder: Path) -> str:
    """Return MLflow's id of the run of a folder; if this MLflow does not have the run, create one for its model.

    Args:
        client: of MLflow.
        run: the run folder.
        folder: its packed model, whose digest identifies a run that this function has created.
    """
    known = read_json(run.tracking)["run_id"] if run.tracking.exists() else None
    if known is not None:
        try:
            run_id: str = client.get_run(known).info.run_id
            return run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = find_experiment(asking(client), EXPERIMENT, client.tracking_uri)
    digest = digest_of(folder)
    created = client.search_runs([experiment], f"tags.`{MODEL}` = '{digest}'")
    if not created:
        created = [client.create_run(experiment, run_name=run.path.resolve().name, tags={MODEL: digest})]
    run_id = created[0].info.run_id
    if created[0].info.status == "RUNNING":
        client.set_terminated(run_id)
    return run_id
