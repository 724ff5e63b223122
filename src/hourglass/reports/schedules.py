"""The report on whole schedules against a ladder of budgets: a sentence a budget, and two tables."""

from hourglass.analysis.schedules import ScheduleComparison, Schedules
from hourglass.metrics.significance import Difference
from hourglass.reports.document import Block, Heading, Paragraph, Table
from hourglass.reports.phrases import show_range, show_tokens
from hourglass.reports.sentences import say


def write_schedules_report(schedules: Schedules) -> list[Block]:
    """Return the report."""
    whole, ladder = schedules.decays
    told = [
        say("schedules", "gap", gap=gap, shown=gap.change.trained is not None and not gap.change.trained.holds(0))
        for gap in schedules.gaps
    ]
    return [
        Heading(1, say("schedules", "title", corpus=schedules.corpus)),
        Paragraph(say("schedules", "about", whole=whole, ladder=ladder, schedules=schedules)),
        *(Paragraph(text) for text in told),
        _runs_table(schedules),
        _gaps_table(schedules),
    ]


def _runs_table(schedules: Schedules) -> Table:
    metric = schedules.metric
    head = ["variant", "target tokens", "learning rates", "dev losses", f"{metric}, both"]
    head += [f"{metric}, whole less ladder", "95 % interval", "bits, whole less ladder", "95 % interval of bits"]
    rows = [_run_row(own) for own in schedules.comparisons]
    return Table("schedules", head, rows, say("schedules", "runs"), text_columns=1)


def _run_row(own: ScheduleComparison) -> list[str]:
    return [
        own.variant,
        show_tokens(own.budget),
        " and ".join(f"{rate:zg}" for rate in own.learning_rates),
        " and ".join(f"{loss:z.4f}" for loss in own.dev_losses),
        " and ".join(f"{score:z.2f}" for score in own.scores),
        *_cells(own.score),
        *_cells(own.bits),
    ]


def _gaps_table(schedules: Schedules) -> Table:
    head = ["gap", "target tokens", "whole schedules", "95 % interval", "ladder", "95 % interval of the ladder"]
    head += ["whole less ladder", "95 % interval of the difference"]
    rows = [
        [
            f"{gap.first} less {gap.second}",
            show_tokens(gap.budget),
            *_cells(gap.whole),
            *_cells(gap.ladder),
            *_cells(gap.change),
        ]
        for gap in schedules.gaps
    ]
    return Table("schedules-gaps", head, rows, say("schedules", "gaps"), text_columns=1)


def _cells(difference: Difference) -> list[str]:
    return [f"{difference.value:+z.2f}", show_range(difference.trained)]
