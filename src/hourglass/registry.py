"""The registry of MLflow: a packed model as a version of a registered model, whose alias `best` is the best on dev."""

from pathlib import Path
from typing import Any

from hourglass.errors import UserError
from hourglass.mirror import check_database, reason, served
from hourglass.runs import RunFolder, read_json

# Where runs are listed that MLflow did not know.
EXPERIMENT = "hourglass"


def register(run: RunFolder, folder: Path, name: str, uri: str) -> str:
    """Log a packed model to MLflow and register it; the alias best goes to the lowest dev loss. Return what was done.

    Args:
        run: it is of; where MLflow has the run, the model is logged to it.
        folder: the packed model.
        name: of the registered model.
        uri: of MLflow.

    Raises:
        UserError: MLflow does not take it, or has models of another corpus under that name.
    """
    from mlflow import MlflowClient  # noqa: PLC0415

    metrics = read_json(run.metrics)
    tags = {"corpus_digest": metrics["corpus"]["digest"], "dev_loss": str(metrics["dev"]["loss"])}
    with served(uri) as shown:
        try:
            check_database(shown)
            client = MlflowClient(shown)
            best = find_best(client, name)
            if best is not None and best.tags.get("corpus_digest") != tags["corpus_digest"]:
                raise UserError(f"{name}@best is a model of another corpus: give another name")
            run_id = find_run(client, run)
            client.log_artifacts(run_id, str(folder), "model")
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            version = client.create_model_version(name, source, run_id, tags=tags)
            better = best is None or metrics["dev"]["loss"] < float(best.tags["dev_loss"])
            if better:
                client.set_registered_model_alias(name, "best", version.version)
        except UserError as error:
            raise UserError(f"register={error}") from None
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow at {shown} did not take the model ({reason(error)}); it lies at {folder}: mend that, and give "
                "the command again"
            ) from None
    said = "it is the best: " if better else f"version {best.version} stays the best, by dev loss: "
    return f"registered: models:/{name}/{version.version}; {said}models:/{name}@best"


def find_best(client: Any, name: str) -> Any:
    """Return the version of a registered model that has the alias best, None where there is none yet."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

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


def find_run(client: Any, run: RunFolder) -> str:
    """Return the MLflow run of a run folder; one is made where this MLflow does not have it."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    known = read_json(run.tracking)["run_id"] if run.tracking.exists() else None
    if known is not None:
        try:
            run_id: str = client.get_run(known).info.run_id
            return run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = client.get_experiment_by_name(EXPERIMENT)
    owner = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    made: str = client.create_run(owner, run_name=run.path.resolve().name).info.run_id
    client.set_terminated(made)
    return made
