"""Pack a run's best model for MLflow: python src/pack.py RUN, then mlflow models serve -m PATH/model"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field

from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder, open_run
from hourglass.system.commands import printed_command


@dataclass(frozen=True)
class PackSettings:
    """conf/pack.yaml.

    Attributes:
        run: the run folder.
        out: folder for the packed model; None: `model` in the run folder.
        register: name of the registered model to add a version to; None: do not register.
        tracking_uri: address of MLflow for `register`; None: that of the run's settings, or MLFLOW_TRACKING_URI.
    """

    run: str
    out: Annotated[str, Field(min_length=1)] | None
    register: Annotated[str, Field(pattern=r"^[\w. -]+$")] | None
    tracking_uri: str | None


def main(values: Mapping[str, Any]) -> None:
    """Pack the model, and register it if asked to."""
    settings = build(PackSettings, values, "")
    run, config = open_run(settings.run, "run")
    uri = settings.tracking_uri or config["logger"].get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if settings.register and not uri:
        raise UserError("tracking_uri: not set, and neither is MLFLOW_TRACKING_URI: set one of them")
    # MLflow takes seconds to import.
    from hourglass.tracking.packing import pack  # noqa: PLC0415
    from hourglass.tracking.registry import register_model  # noqa: PLC0415

    folder = Path(settings.out).expanduser() if settings.out else run.model
    state = "packed" if pack(run, folder) else "packed before"
    print(f"{state}: {folder}; {serving_hint(run, folder)}")
    if settings.register:
        assert uri is not None
        print(register_model(run, folder, settings.register, uri))


def serving_hint(run: RunFolder, folder: Path) -> str:
    """Return the words that say how to serve a packed model; MLflow takes its path for an address, where % escapes."""
    if re.search("[%#?]", str(folder.resolve())):
        elsewhere = printed_command("src/pack.py", run.path, out=Path("/tmp/model"))
        return f"MLflow cannot serve it from a path with %, # or ?; to pack it elsewhere: {elsewhere}"
    return f"to serve it: mlflow models serve --env-manager local -m {shlex.quote(str(folder))}"


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("pack", "run"))
