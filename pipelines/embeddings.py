"""The words whose embeddings are nearest to a word or a sum of words: python pipelines/embeddings.py RUN near=king"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import PositiveInt

from hourglass.analysis.embeddings import Side, WordEmbeddings, read_terms
from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.reports.plots import draw_words, to_svg
from hourglass.runs.folder import open_run
from hourglass.system.files import write_whole


@dataclass(frozen=True)
class EmbeddingSettings:
    """What is asked of the embeddings of a run.

    Attributes:
        run: the run folder.
        near: a word or a sum of words; None: no question.
        side: whose embeddings.
        count: number of words to print.
        map: the SVG file to write; None: none.
        map_words: number of words in it.
    """

    run: str
    near: str | None
    side: Side
    count: PositiveInt
    map: str | None
    map_words: PositiveInt


def main(values: Mapping[str, Any]) -> None:
    """Print the nearest words, and write the map."""
    near = values["near"]
    if isinstance(near, bool | int | float):
        word = str(near).lower()
        raise UserError(
            f"near={word}: not a word as it stands: write a number, true or false in quotes, near='\"{word}\"'"
        )
    settings = build(EmbeddingSettings, values, "embeddings")
    if settings.near is None and settings.map is None:
        raise UserError('nothing is asked: set near=king, near="king - man + woman" or map=FILE.svg')
    terms = [] if settings.near is None else read_terms(settings.near)
    run, config = open_run(settings.run, "run")
    embeddings = WordEmbeddings.of(load_trained(run.best), settings.side)
    language = config["data"][settings.side]
    if terms:
        for word, cosine in embeddings.nearest(terms, settings.count):
            print(f"{cosine:6.3f}  {word}")
        split = [term.word for term in terms if len(embeddings.pieces_of(term.word)) > 1]
        note = f"; of several pieces, the mean of theirs: {', '.join(split)}" if split else ""
        print(
            f"\nCosines of {settings.side} embeddings ({language}) with {settings.near}, among the "
            f"{len(embeddings.words):,} pieces of the vocabulary that begin a word; its own words are left out{note}."
        )
    if settings.map is not None:
        words, places, shown = embeddings.plane(settings.map_words)
        title = f"{len(words)} most frequent words, {language}: {100 * shown:z.0f} % of the variance"
        write_whole(Path(settings.map), to_svg(draw_words(words, places.tolist(), title=title), "embeddings"))
        print(f"written: {settings.map}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("embeddings", "run"))
