"""Pack a run's best model for MLflow: python src/pack.py run=PATH, then mlflow models serve -m PATH/model"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import hydra
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from hourglass.errors import UserError, check_command_line, one_line_errors
from hourglass.mirror import check_database, reason, served
from hourglass.options import build, plain_values
from hourglass.preparation import prepare
from hourglass.runs import RunFolder, open_run, read_json
from hourglass.settings import check_to_read


@dataclass(frozen=True)
class PackSettings:
    """conf/pack.yaml.

    Attributes:
        run: the run folder.
        output: the packed model; None: in the run folder.
        register: name of a registered model; None: none.
        tracking_uri: MLflow, for that; None: as the environment says.
    """

    run: str
    output: str | None
    register: Annotated[str, Field(min_length=1, pattern=r"^[^/:]+$")] | None
    tracking_uri: str | None


@hydra.main(config_path="../conf", config_name="pack", execution_whitelist=())
def main(composed: DictConfig) -> None:
    """Pack, and register where that is wanted."""
    with one_line_errors():
        if OmegaConf.is_missing(composed, "run"):
            raise UserError("run: not set; python src/pack.py run=PATH, PATH a run folder")
        settings = build(PackSettings, plain_values(composed), "pack")
        run, config = open_run(settings.run, "run")
        uri = settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if settings.register and not uri:
            raise UserError("tracking_uri: not set, and neither is MLFLOW_TRACKING_URI: set one of them")
        from hourglass.packing import pack  # noqa: PLC0415 (MLflow takes seconds to import)

        folder = Path(settings.output) if settings.output else run.path / "model"
        example = prepare(config, check_to_read(config)).corpus.splits["dev"][0]["source"]
        pack(run.best, folder, example)
        print(f"packed: {folder}; to serve it: mlflow models serve --env-manager local -m {shlex.quote(str(folder))}")
        if settings.register:
            assert uri is not None
            print(f"registered: {register(run, folder, settings.register, uri)}")


def register(run: RunFolder, folder: Path, name: str, uri: str) -> str:
    """Log a packed model to MLflow and register it, with the alias best; return its address.

    Args:
        run: it is of; where MLflow has the run, the model is logged to it.
        folder: the packed model.
        name: of the registered model.
        uri: of MLflow.

    Raises:
        UserError: MLflow does not take it.
    """
    from mlflow import MlflowClient  # noqa: PLC0415

    with served(uri) as shown:
        try:
            check_database(shown)
            client = MlflowClient(shown)
            run_id = read_json(run.tracking)["run_id"] if run.tracking.exists() else None
            if run_id is None:
                experiment = client.get_experiment_by_name("hourglass")
                owner = experiment.experiment_id if experiment else client.create_experiment("hourglass")
                run_id = client.create_run(owner, run_name=run.path.resolve().name).info.run_id
                client.set_terminated(run_id)
            client.log_artifacts(run_id, str(folder), "model")
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            version = client.create_model_version(name, source, run_id)
            client.set_registered_model_alias(name, "best", version.version)
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow at {shown} did not take the model ({reason(error)}); it lies at {folder}"
            ) from None
    return f"models:/{name}@best (version {version.version})"


if __name__ == "__main__":
    check_command_line("pack")
    main()
