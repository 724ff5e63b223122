"""Requests to MLflow: log points, tables and models; find or create an experiment; describe a dataset."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hourglass.errors import UserError
from hourglass.runs.curves import Point
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.tracking.artifacts import check_location, database_file, follow_database, new_location
from hourglass.tracking.database import check_tables, create_tables
from hourglass.tracking.server import check_database

# Limits of MLflow for one request.
PARAMETERS_AT_ONCE = 100
POINTS_AT_ONCE = 1000
# The tag that MLflow shows as the description of a run, in Markdown.
DESCRIPTION = "mlflow.note.content"
# The tag of an experiment that holds a view of its runs; the address ...?viewStateShareKey=scores shows it.
VIEW = "mlflow.sharedViewState.scores"
# The table of scores by source length.
LENGTH_TABLE = "scores_by_length.json"
# The tag of a logged model that holds the digest of its content.
MODEL = "hourglass.model"


def log_points(ask: Callable[..., Any], run_id: str, points: Sequence[Point]) -> None:
    """Log points of curves, in as few requests as MLflow allows.

    Args:
        ask: calls a method of MLflow's client, given its name and arguments.
        run_id: MLflow's id of the run.
        points: of any curves.
    """
    from mlflow.entities import Metric

    for first in range(0, len(points), POINTS_AT_ONCE):
        part = points[first : first + POINTS_AT_ONCE]
        ask("log_batch", run_id, metrics=[Metric(p.name, p.value, p.time, p.step) for p in part])


def log_by_length(ask: Callable[..., Any], run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log scores by source length as a table, in the form and with the tag that MLflow's pages expect.

    MLflow's own `log_table` appends: a request that is repeated would write the rows twice.

    Args:
        ask: calls a method of MLflow's client, given its name and arguments.
        run_id: MLflow's id of the run.
        rows: all with the same keys, the columns.
    """
    data = [[round(value, 3) if isinstance(value, float) else value for value in row.values()] for row in rows]
    table = {"columns": list(rows[0]), "data": data}
    ask("log_dict", run_id, table, LENGTH_TABLE)
    ask("set_tag", run_id, "mlflow.loggedArtifacts", json.dumps([{"path": LENGTH_TABLE, "type": "table"}]))


def log_model(ask: Callable[..., Any], run_id: str, run: RunFolder, folder: Path) -> str:
    """Log a packed model to an MLflow run, unless it is logged already, and return MLflow's id of the model.

    Args:
        ask: calls a method of MLflow's client, given its name and arguments.
        run_id: MLflow's id of the run.
        run: the run folder.
        folder: the packed model.
    """
    from mlflow.entities import LoggedModelOutput

    logged_run = ask("get_run", run_id)
    # A model is identified by its content: a run that was trained again has another model.
    metrics, digest = read_json(run.metrics), digest_of(folder)
    models = [
        model
        for model in ask("search_logged_models", [logged_run.info.experiment_id], f"source_run_id='{run_id}'")
        if model.tags.get(MODEL) == digest
    ]
    name = re.sub(r"[^\w -]", "-", logged_run.info.run_name)
    tags = {MODEL: digest, "dev_loss": str(metrics["dev"]["loss"]), "corpus_digest": metrics["corpus"]["digest"]}
    models.sort(key=lambda model: model.status != "READY")
    if not models:
        models.append(ask("create_logged_model", logged_run.info.experiment_id, name, run_id, tags))
    model_id: str = models[0].model_id
    if models[0].status != "READY":
        # One request for each file: each success tells `Sender` that the server is alive.
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            below = file.relative_to(folder).parent
            ask("log_model_artifact", model_id, str(file), None if below == Path() else str(below))
        ask("finalize_logged_model", model_id, "READY")
    for duplicate in models[1:]:  # Created by a request whose answer came too late, so that it was repeated.
        ask("delete_logged_model", duplicate.model_id)
    outputs = logged_run.outputs.model_outputs if logged_run.outputs else []
    if model_id not in [output.model_id for output in outputs]:
        ask("log_outputs", run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def connect(uri: str) -> Any:
    """Return MLflow's client for an address, after a check that is faster than the client's own attempts.

    Args:
        uri: address of MLflow, from `mlflow_server`.

    Raises:
        UserError: the tables of a SQLite database are incomplete, as a process was killed that created them.
        Exception: any error of a database or its driver.
    """
    check_database(uri)
    create_tables(uri)
    file = database_file(uri)
    since = file.stat().st_mtime if file is not None else 0  # `follow_database` may write.
    follow_database(uri)
    from mlflow import MlflowClient

    try:
        return MlflowClient(uri)
    except Exception as error:
        failure = error
    # Outside of `except`: `created_by_another` reads the errors that precede an error, too.
    check_tables(uri, failure, since)
    raise failure


def find_experiment(ask: Callable[..., Any], name: str, uri: str, scores: Sequence[str] = ()) -> str:
    """Return MLflow's id of an experiment, which is created if it does not exist.

    Args:
        ask: calls a method of MLflow's client, given its name and arguments.
        name: of the experiment.
        uri: address of MLflow.
        scores: of test, by the names of their metrics, that the view of its runs has as columns from now on.

    Raises:
        UserError: the experiment has been deleted or cannot be created, or its artifacts cannot be written.
    """
    experiment = ask("get_experiment_by_name", name)
    if experiment is None:
        with suppress(Exception):  # Another run may have created it meanwhile. If none has, the check below fails.
            ask(
                "create_experiment",
                name,
                new_location(uri, name),
                {"mlflow.experimentKind": "custom_model_development"},
            )
        experiment = ask("get_experiment_by_name", name)
    if experiment is None:
        raise UserError(f"MLflow cannot create the experiment {name}: name another by logger.experiment")
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name} has been deleted in MLflow: restore it, or name another")
    check_location(uri, experiment)
    shown = json.loads(experiment.tags[VIEW])["selectedColumns"] if VIEW in experiment.tags else []
    view = view_of_scores(scores, shown)
    if scores and view["selectedColumns"] != shown:
        ask("set_experiment_tag", experiment.experiment_id, VIEW, json.dumps(view))
    experiment_id: str = experiment.experiment_id
    return experiment_id


def by_length_name(metric: str) -> str:
    """Return the name of the curve of a score by source length, whose steps are the first lengths of the buckets."""
    return f"test/{metric}_by_source_words"


def view_of_scores(scores: Sequence[str], shown: Sequence[str] = ()) -> dict[str, Any]:
    """Return the state of MLflow's list of runs in which scores are columns; by itself it shows no metric.

    Args:
        scores: of test, by the names of their metrics: of the runs of an experiment, which may have several groups.
        shown: the columns that the view has so far.
    """
    own = [f"metrics.`test/{name}`" for name in scores]
    others = ["metrics.`best/loss`", *(f"tags.`{name}`" for name in ("attention", "seed", "corpus"))]
    tests = [column for column in shown if column not in others]
    columns = list(dict.fromkeys([*tests, *own, *others]))
    return {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
    }


def asking(client: Any) -> Callable[..., Any]:
    """Return a function that calls a method of MLflow's client, given its name and arguments."""
    return lambda method, *arguments, **options: getattr(client, method)(*arguments, **options)


def digest_of(folder: Path) -> str:
    """Return a digest of the artifacts of a packed model."""
    files = sorted((folder / "artifacts").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:32]


def dataset_input(name: str, digest: str) -> Any:
    """Return the corpus of a run in MLflow's form."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    # Name and digest only: MLflow's other datasets read the whole text to compute a digest of their own.
    dataset = MetaDataset(CodeDatasetSource(tags={"corpus": name}), name=name, digest=digest[:32])  # type: ignore[abstract]
    return DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings with their names on the command line: GROUP.KEY."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
