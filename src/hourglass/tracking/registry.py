"""The registry of MLflow: a packed model as a version of a registered model, whose alias `best` is the best on dev."""

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.tracking.client import MODEL, asking, digest_of, find_experiment, log_model
from hourglass.tracking.server import check_database, reason, served

# Where runs are listed that MLflow did not know.
EXPERIMENT = "hourglass"


def register(run: RunFolder, folder: Path, name: str, uri: str) -> str:
    """Register a packed model; the alias best goes to the lowest dev loss. Return what was done.

    Args:
        run: it is of; where MLflow has the run, the model is logged to it.
        folder: the packed model.
        name: of the registered model.
        uri: of MLflow.

    Raises:
        UserError: MLflow does not take it, or has models of another corpus under that name.
    """
    with served(uri) as shown:
        try:
            check_database(shown)
            client = MlflowClient(shown)
            model_id = log_model(asking(client), find_run(client, run, folder), run, folder)
            return add_version(client, name, client.get_logged_model(model_id))
        except UserError as error:
            raise UserError(f"register={error}") from None
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow at {shown} did not take the model ({reason(error)}); it lies at {folder}: mend that, and give "
                "the command again"
            ) from None


def add_version(client: Any, name: str, model: Any, *, is_best: bool = False) -> str:
    """Make a logged model a version of a registered model, once, and the best if it is. Return what was done.

    Args:
        client: of MLflow.
        name: of the registered model.
        model: the logged model.
        is_best: whoever asks knows that it is the best there is now; otherwise the lowest dev loss decides.

    Raises:
        UserError: that name has models of another corpus.
    """
    best = find_best(client, name)
    if not is_best and best is not None and best.tags.get("corpus_digest") != model.tags["corpus_digest"]:
        raise UserError(f"{name}@best is a model of another corpus: give another name")
    version = next(
        (one for one in client.search_model_versions(f"name='{name}'") if one.source == model.model_uri), None
    )
    if version is None:
        tags = {key: model.tags[key] for key in ("corpus_digest", "dev_loss")}
        version = client.create_model_version(
            name, model.model_uri, model.source_run_id, tags=tags, model_id=model.model_id
        )
    # What MLflow's own register_model sets, so that the model's page shows it.
    known, own = json.loads(model.tags.get("mlflow.modelVersions", "[]")), {"name": name, "version": version.version}
    if own not in known:
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([*known, own])})
    if is_best or best is None or float(version.tags["dev_loss"]) < float(best.tags["dev_loss"]):
        client.set_registered_model_alias(name, "best", version.version)
        best = version
    said = "it is" if best.version == version.version else f"version {best.version} is"
    return f"registered: models:/{name}/{version.version}; {said} the best by dev loss: models:/{name}@best"


def find_best(client: Any, name: str) -> Any:
    """Return the version of a registered model that has the alias best, None where there is none yet."""
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
    """Return the MLflow run of a run folder; one is made where this MLflow does not have it.

    Args:
        client: of MLflow.
        run: the run's folder.
        folder: its packed model, by which a run that was made here is found again.
    """
    known = read_json(run.tracking)["run_id"] if run.tracking.exists() else None
    if known is not None:
        try:
            run_id: str = client.get_run(known).info.run_id
            return run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    owner = find_experiment(asking(client), EXPERIMENT)
    tag = digest_of(folder)
    made = client.search_runs([owner], f"tags.`{MODEL}` = '{tag}'")
    if not made:
        made = [client.create_run(owner, run_name=run.path.resolve().name, tags={MODEL: tag})]
    run_id = made[0].info.run_id
    if made[0].info.status == "RUNNING":
        client.set_terminated(run_id)
    return run_id
