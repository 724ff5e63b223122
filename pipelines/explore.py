"""Write the attention explorer: python pipelines/explore.py RUN [RUN ...]"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field, PositiveInt

from hourglass.analysis.explorer import explore
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import build


@dataclass(frozen=True)
class ExploreSettings:
    """conf/explore.yaml.

    Attributes:
        run: the run folder, or several that are shown side by side.
        blind: run folders of the source-blind model, joined by commas; None: the page shows no bits.
        sentences: test sentences on the page.
        out: the page.
    """

    run: RunPaths
    blind: str | None
    sentences: PositiveInt
    out: Annotated[str, Field(min_length=1)]


def main(values: Mapping[str, Any]) -> None:
    """Follow the models through some test sentences and write the page."""
    settings = build(ExploreSettings, values, "")
    blind = settings.blind.split(",") if settings.blind else []
    print(f"written: {explore(settings.run, settings.sentences, Path(settings.out).expanduser(), blind)}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("explore", "run..."))
