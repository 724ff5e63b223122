"""Bits that came through the neck of runs on made corpora, a lower bound: python pipelines/channel.py RUN ...

The runs are of data=copy, reverse, recall or phone_book, with data.calibrated=true, as in experiment=capacity.
"""

from collections.abc import Mapping
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.analysis.channel import summarise_channel
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import check
from hourglass.corpora.lookup import AssociativeRecipe
from hourglass.corpora.recipes import RECIPES
from hourglass.reports.capacity import NORMAL
from hourglass.training.finished import FinishedRun


def main(values: Mapping[str, Any]) -> None:
    """Print the bits of each run, over the longest quarter of the test sequences and by length."""
    for path in check(RunPaths, values["run"], "run"):
        run = FinishedRun.open(path)
        channel = summarise_channel(run)
        unit = "entries" if issubclass(RECIPES[run.config["data"]["name"]], AssociativeRecipe) else "symbols"
        width = NORMAL * channel.error
        print(
            f"{path}: {channel.bits:z.2f} bits per sequence of the longest quarter "
            f"[{channel.bits - width:z.2f}, {channel.bits + width:z.2f}] of {channel.source_bits:z.2f}; bits of end of "
            f"sequence {channel.end_bits:z.3f}; with the wrong source {channel.wrong_source_bits:z.2f}; hard ceiling "
            f"{channel.ceiling or 'none'}"
        )
        print(f"  {unit:>7}  {'bits':>8}  {'error':>6}  {'of':>8}")
        for row in channel.by_length:
            print(f"  {row.symbols:>7.0f}  {row.bits:>8.2f}  {row.error:>6.2f}  {row.source_bits:>8.2f}")
    print(
        "\nIntervals: 95 % over test sequences. Bits are a lower bound on the information that reached the decoder: of "
        "entries, that about their values, given their keys."
    )


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("channel", "run..."))
