"""Write the attention explorer: python pipelines/explore.py run=PATH, or 'run=[PATH,PATH]' for several side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import hydra
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, PositiveInt

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import check_command_line, one_line_errors
from hourglass.config.compose import plain_values
from hourglass.config.options import build
from hourglass.errors import UserError


@dataclass(frozen=True)
class ExploreSettings:
    """conf/explore.yaml.

    Attributes:
        run: the run folder, or several that are shown side by side.
        sentences: test sentences on the page.
        output: the page.
    """

    run: str | list[str]
    sentences: PositiveInt
    output: Annotated[str, Field(min_length=1)]


@hydra.main(config_path="../conf", config_name="explore", execution_whitelist=())
def main(composed: DictConfig) -> None:
    """Follow the models through some test sentences and write the page."""
    with one_line_errors():
        if OmegaConf.is_missing(composed, "run"):
            raise UserError("run: not set; python pipelines/explore.py run=PATH, PATH a run folder")
        settings = build(ExploreSettings, plain_values(composed), "explore")
        paths = [settings.run] if isinstance(settings.run, str) else settings.run
        if not paths:
            raise UserError("run=[]: names no run folder; give one or several")
        print(f"written: {explore(paths, settings.sentences, Path(settings.output).expanduser())}")


if __name__ == "__main__":
    check_command_line("explore")
    main()
