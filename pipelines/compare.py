"""Compare finished runs on their test set: python pipelines/compare.py RUN RUN [RUN ...] [KEY=VALUE ...]

Two runs are compared by source length. More are grouped by the settings in which they differ, or by those of by=, and
each group has its mean over seeds, intervals, and the difference to a baseline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field

from hourglass.analysis.comparing import TestSetComparison, compare_groups
from hourglass.analysis.grouping import COMMIT, RUN, SEED, open_finished, setting_text
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import Words, build
from hourglass.config.usage import usage_line
from hourglass.errors import UserError
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import RESAMPLES, Difference
from hourglass.reports.comparison import (
    clean_scores_table,
    note_on_few,
    note_on_undefined,
    note_on_units,
    write_comparison,
)
from hourglass.reports.document import Picture, to_markdown, write_made_by
from hourglass.reports.phrases import show_p, show_range


@dataclass(frozen=True)
class CompareSettings:
    """conf/compare.yaml.

    Attributes:
        run: run folders.
        by: settings that the runs are grouped by; None: those in which they differ.
        baseline: value of the first of them; empty: the first.
        by_length: whether to show source lengths, too.
        clean: whether to score the sentences apart that share no n-gram with train.
        metric: name of the score; None: the main metric of the runs.
        out: folder of the report.
    """

    run: RunPaths
    by: Annotated[Words, Field(min_length=1)] | None
    baseline: str | int | float | bool | None
    by_length: bool
    clean: bool
    metric: Annotated[str, Field(min_length=1)] | None
    out: Annotated[str, Field(min_length=1)] | None


def main(values: Mapping[str, Any]) -> None:
    """Print the comparison, and write the report if there is a folder for it."""
    settings = build(CompareSettings, values, "")
    if len(settings.run) < 2:
        several = any(Path(settings.run[0]).glob("*/config.yaml"))
        remedy = f"a folder of runs: write {settings.run[0]}/*" if several else "one run folder"
        raise UserError(f"{settings.run[0]}: {remedy}; usage: {usage_line('compare')}")
    runs, left_out = open_finished(settings.run)
    if len(runs) < 2:
        more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        raise UserError(f"fewer than two finished runs to compare: {'; '.join(list(left_out.values())[:3])}{more}")
    pair = settings.by is None and len(settings.run) == 2
    baseline = None if settings.baseline == "" else setting_text(settings.baseline)
    if pair:
        baseline = baseline or str(runs[1].path)
    parts = compare_groups(
        runs, [RUN] if pair else settings.by or [], baseline, RESAMPLES, clean=settings.clean, metric=settings.metric
    )
    if pair and len(parts) > 1:
        raise UserError(
            f"{' and '.join(settings.run)} do not translate the same sentences: give two runs of one test set"
        )
    blocks = write_comparison(parts, left_out, by_length=pair or settings.by_length)
    if pair:
        print_pair(parts[0])
    else:
        print(to_markdown([block for block in blocks if not isinstance(block, Picture)], figures=""))
    if settings.out is not None:
        write_made_by(Path(settings.out).expanduser(), blocks, "pipelines/compare.py")
        print(f"written: {settings.out}/report.html")


def print_pair(part: TestSetComparison) -> None:
    """Print the scores of two runs, and their difference in all and by source length."""
    test, scores = part.test, part.scores
    (item,) = (item for item in scores if item.difference is not None)
    assert item.difference is not None
    title = part.metric.title
    for group in scores:
        whole = group.score.whole
        print(f"{group.group.runs[0].path}: {whole.mean:z.2f} {title} {show_range(whole.interval)}")
    print(f"\n{show_settings(part)}")
    print(f"\n{'source words':<12}  {'sentences':>9}  {title:>10}  {'95 % interval':>18}  {'p':>6}  {'p Holm':>6}")
    for bucket, row in item.difference.by_length.items():
        sentences = len(test.inside(bucket))
        mark = "*" if sentences < FEW else " "
        print(_line(show_bounds(test.bounds[bucket]), f"{sentences:,}{mark}", row, show_p(row.p_holm)))
    mark = "*" if len(test.rows) < FEW else " "
    print(_line("all", f"{len(test.rows):,}{mark}", item.difference.whole, ""))
    print(
        f"\n{item.group.name} minus {item.baseline}, with {RESAMPLES:,} paired bootstrap resamples of sentences, each "
        "bucket within itself.\nIntervals are pointwise and hold for these two trained models: another seed would "
        f"score differently. {note_on_few()}\n{note_on_units([part.metric])}"
    )
    if part.partial:
        print(f"The test set is {part.partial}.")
    if part.clean is not None:
        print(f"\n{to_markdown([clean_scores_table([part])], figures='')}")
    if any(row.trained is None for row in [item.difference.whole, *item.difference.by_length.values()]):
        print(note_on_undefined())


def show_settings(part: TestSetComparison) -> str:
    """Return the settings, seeds and commits in which two runs differ, a line each."""
    groups = [item.group for item in part.scores]
    keys = [key for key in (*part.grouping.along, SEED, COMMIT) if len({group.setting(key) for group in groups}) > 1]
    if not keys:
        return "The two runs have the same settings, seed and commit."
    rows = [["setting", *(group.name for group in groups)]]
    rows += [[key, *(group.setting(key) for group in groups)] for key in keys]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _line(label: str, sentences: str, row: Difference, p_holm: str) -> str:
    interval = show_range(row.trained)
    return f"{label:<12}  {sentences:>9}  {row.value:>10.2f}  {interval:>18}  {show_p(row.p):>6}  {p_holm:>6}"


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("compare", "run..."))
