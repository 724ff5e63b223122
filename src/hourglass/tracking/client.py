"""What is sent to MLflow: points of curves, tables, models, datasets."""

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

# The curve of BLEU by source length: its step is the first length of a bucket.
BY_LENGTH = "test/bleu_by_source_words"


# The most settings, and the most points, that MLflow takes at once.
PARAMETERS_AT_ONCE = 100


POINTS_AT_ONCE = 1000


# The table of scores by source length.
LENGTH_TABLE = "scores_by_length.json"


# The tag that says what a logged model is made of.
MODEL = "hourglass.model"


def log_points(ask: Callable[..., Any], run_id: str, points: Sequence[Point]) -> None:
    """Log points of curves, as many at once as MLflow takes.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        points: of any names.
    """
    from mlflow.entities import Metric

    for first in range(0, len(points), POINTS_AT_ONCE):
        some = points[first : first + POINTS_AT_ONCE]
        ask("log_batch", run_id, metrics=[Metric(p.name, p.value, p.time, p.step) for p in some])


def log_by_length(ask: Callable[..., Any], run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log scores by source length as a table, in the form and under the tag by which MLflow's pages show one.

    MLflow's own `log_table` adds to what is there, so that what is sent twice would stand twice.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        rows: all with the same keys, the columns.
    """
    shown = [[round(value, 3) if isinstance(value, float) else value for value in row.values()] for row in rows]
    table = {"columns": list(rows[0]), "data": shown}
    ask("log_dict", run_id, table, LENGTH_TABLE)
    ask("set_tag", run_id, "mlflow.loggedArtifacts", json.dumps([{"path": LENGTH_TABLE, "type": "table"}]))


def log_model(ask: Callable[..., Any], run_id: str, run: RunFolder, folder: Path) -> str:
    """Log a packed model to an MLflow run, once, and return MLflow's name of it.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        run: the run's folder.
        folder: the packed model.
    """
    from mlflow.entities import LoggedModelOutput

    told = ask("get_run", run_id)
    # Named by its content: a run that was trained again has another model.
    metrics, digest = read_json(run.metrics), digest_of(folder)
    known = [
        model
        for model in ask("search_logged_models", [told.info.experiment_id], f"source_run_id='{run_id}'")
        if model.tags.get(MODEL) == digest
    ]
    name = re.sub(r"[^\w -]", "-", told.info.run_name)
    tags = {MODEL: digest, "dev_loss": str(metrics["dev"]["loss"]), "corpus_digest": metrics["corpus"]["digest"]}
    known.sort(key=lambda model: model.status != "READY")
    if not known:
        known.append(ask("create_logged_model", told.info.experiment_id, name, run_id, tags))
    model_id: str = known[0].model_id
    if known[0].status != "READY":
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):  # One by one: each is a sign of life.
            below = file.relative_to(folder).parent
            ask("log_model_artifact", model_id, str(file), None if below == Path() else str(below))
        ask("finalize_logged_model", model_id, "READY")
    for double in known[1:]:  # Of a request that was answered too late, so that it was made again.
        ask("delete_logged_model", double.model_id)
    if model_id not in [one.model_id for one in (told.outputs.model_outputs if told.outputs else [])]:
        ask("log_outputs", run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def find_experiment(ask: Callable[..., Any], name: str) -> str:
    """Return MLflow's name of an experiment, which is made if it is not there.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        name: of the experiment.

    Raises:
        UserError: it has been deleted there, or cannot be made.
    """
    found = ask("get_experiment_by_name", name)
    if found is None:
        with suppress(Exception):  # Another run may have made it in between; if not, the next line says so.
            ask("create_experiment", name, None, {"mlflow.experimentKind": "custom_model_development"})
        found = ask("get_experiment_by_name", name)
    if found is None:
        raise UserError(f"the experiment {name} cannot be made there")
    if found.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name} has been deleted there: restore it, or name another")
    experiment: str = found.experiment_id
    return experiment


def asking(client: Any) -> Callable[..., Any]:
    """Return what calls a method of MLflow's client by its name."""
    return lambda what, *arguments, **options: getattr(client, what)(*arguments, **options)


def digest_of(folder: Path) -> str:
    """Return a digest of what a packed model was made of."""
    files = sorted((folder / "artifacts").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:32]


def dataset_input(name: str, digest: str) -> Any:
    """Return the corpus of a run as MLflow takes it: its name and digest."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    # Name and digest only: MLflow's other datasets read all the text to make a digest of their own.
    known = MetaDataset(CodeDatasetSource(tags={"corpus": name}), name=name, digest=digest[:32])  # type: ignore[abstract]
    return DatasetInput(known._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings under their names on the command line: GROUP.KEY."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
