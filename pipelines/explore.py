"""Write the attention explorer: python pipelines/explore.py RUN [RUN ...]

With serve=true it is served on this machine in place, and the models translate what is typed on the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.analysis.explorer import explore, serve
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import Words, build


@dataclass(frozen=True)
class ExploreSettings:
    """conf/explore.yaml.

    Attributes:
        run: the run folder, or several that are shown side by side.
        blind: run folders of the source-blind model; without any, the page shows no bits.
        sentences: test sentences on the page.
        checkpoints: earlier checkpoints of each run, at most.
        out: the page.
        serve: serve the page in place of writing it.
        port: that is listened on; 0: any that is free.
    """

    run: RunPaths
    blind: Words
    sentences: PositiveInt
    checkpoints: NonNegativeInt
    out: Annotated[str, Field(min_length=1)]
    serve: bool
    port: Annotated[int, Field(ge=0, le=65535)]


def main(values: Mapping[str, Any]) -> None:
    """Follow the models through some test sentences and write the page."""
    settings = build(ExploreSettings, values, "")
    if settings.serve:
        with serve(
            settings.run, settings.sentences, settings.port, settings.blind, checkpoints=settings.checkpoints
        ) as server:
            print(f"open {server.address} in a browser; Ctrl-C ends", flush=True)
            server.serve_forever()
        return
    output = Path(settings.out).expanduser()
    page = explore(settings.run, settings.sentences, output, settings.blind, checkpoints=settings.checkpoints)
    print(f"written: {page}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("explore", "run..."))
