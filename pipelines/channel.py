"""Bits that came through the neck of runs on copy or reverse, a bound for certain: python pipelines/channel.py RUN ...

The runs are of data.calibrated=true, as experiment=capacity has it.
"""

import sys
from pathlib import Path

from hourglass.analysis.channel import read_run
from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.reports.capacity import NORMAL
from hourglass.runs.folder import RunFolder


def main(paths: list[str]) -> None:
    """Print what came through each run."""
    if not paths:
        raise UserError("usage: python pipelines/channel.py RUN ...")
    for path in paths:
        found = read_run(RunFolder(Path(path)))
        width = NORMAL * found["error"]
        print(
            f"{path}: {found['bits']:.2f} bits a sequence of the longest quarter "
            f"[{found['bits'] - width:.2f}, {found['bits'] + width:.2f}] "
            f"of {found['of']:.2f}; end of sequence cost {found['end_bits']:.3f}; of another sequence's memory "
            f"{found['of_another']:.2f}; hard ceiling {found['ceiling'] or 'none'}"
        )
        print(f"  {'symbols':>7}  {'bits':>8}  {'error':>6}  {'of':>8}")
        for row in found["by_length"]:
            print(f"  {row['symbols']:>7.0f}  {row['bits']:>8.2f}  {row['error']:>6.2f}  {row['of']:>8.2f}")
    print("\nIntervals: 95 % over test sequences. A lower bound on the information that reached the decoder.")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
