"""Compare the BLEU of several runs by source length: python pipelines/by_length.py RUN RUN ... [out=FOLDER]

This is figure 2 of Bahdanau et al. 2014. With out= it also writes the figure and the table as files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hourglass.analysis.comparing import BleuByLength, TestSet, score_runs
from hourglass.analysis.convergence import judge_convergence
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import check
from hourglass.config.usage import usage_line
from hourglass.errors import UserError
from hourglass.metrics.scoring import FEW, show_bounds, signature
from hourglass.metrics.significance import CONVERGED, RESAMPLES
from hourglass.reports.document import Block, Heading, Picture, Table, to_markdown, write_files
from hourglass.reports.phrases import banded, show_range
from hourglass.reports.plots import draw_lines
from hourglass.training.finished import FinishedRun


def main(values: Mapping[str, Any]) -> None:
    """Print the table, and write the report if there is a folder for it."""
    paths, out = check(RunPaths, values["run"], "run"), check(str | None, values["out"], "out")
    if len(paths) < 2:
        raise UserError(f"usage: {usage_line('by_length')}")
    test, scores = score_runs([Path(path) for path in paths], RESAMPLES)
    blocks = write_lengths(test, scores)
    print(to_markdown([block for block in blocks if isinstance(block, Table)], figures=""))
    if out is not None:
        write_files(Path(out), blocks)
        print(f"written: {out}/report.html")


def write_lengths(test: TestSet, scores: Mapping[str, BleuByLength]) -> list[Block]:
    """Return heading, figure and table.

    Args:
        test: the test set.
        scores: BLEU by the path of each run folder.
    """
    names = {path: Path(path).name for path in scores}
    if len(set(names.values())) < len(names):
        names = {path: path for path in scores}
    inside = {bucket: test.inside(bucket) for bucket in range(len(test.bounds))}
    known = [bucket for bucket, rows in inside.items() if len(rows)]
    x = [float(test.source_words[inside[bucket]].mean()) for bucket in known]
    few = [len(inside[bucket]) < FEW for bucket in known]
    lines, rows = {}, []
    for path, bleu in scores.items():
        buckets = [bleu.buckets[bucket].estimate for bucket in known]
        lines[names[path]] = banded(
            x, [estimate.mean for estimate in buckets], [estimate.interval for estimate in buckets], few
        )
        run = FinishedRun.open(path)
        metrics, convergence = run.metrics, judge_convergence(run, CONVERGED)
        rows.append(
            [
                names[path],
                *(
                    f"{estimate.mean:.2f} {show_range(estimate.interval)}"
                    for estimate in [*buckets, bleu.whole.estimate]
                ),
                f"{metrics.corpus['pairs']['train']:,}",
                f"{metrics.train_target_tokens:,}",
                f"{'yes' if convergence.converged else 'no'} ({100 * convergence.gain_of_last_fifth:.1f} %)",
                f"{metrics.parameters:,}",
                str(metrics.seed),
                metrics.code,
            ]
        )
    counts = ", ".join(f"{show_bounds(test.bounds[bucket])}: {len(inside[bucket]):,}" for bucket in known)
    bounds = "95 % intervals of these trained models (bootstrap over test sentences, without the spread of seeds)"
    head = ["run", *(f"{show_bounds(test.bounds[bucket])} words" for bucket in known), "all"]
    head += ["training pairs", "target tokens", "converged (gain of the last fifth)", "parameters", "seed", "commit"]
    return [
        Heading(1, "BLEU by source length"),
        Picture(
            "bleu-by-length",
            draw_lines(lines, x_label="mean source words of a bucket", y_label="BLEU", zero=True),
            f"BLEU of {', '.join(names.values())} by source length",
            f"BLEU by source length, {bounds}. Hollow: fewer than {FEW} sentences.",
        ),
        Table(
            "bleu-by-length",
            head,
            rows,
            f"BLEU by source length, {bounds}. Sentences: {counts}. {signature(test.target_language)}",
        ),
    ]


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("by_length", "run..."))
