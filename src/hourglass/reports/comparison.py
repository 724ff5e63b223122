"""The report of a comparison of finished runs in groups: tables, figures, and what a reader must know to judge them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized

from hourglass.analysis.comparing import GroupScores, TestSetComparison
from hourglass.analysis.convergence import NOT_JUDGED, Convergence, all_converged, judge_convergence, show_convergence
from hourglass.analysis.grouping import RunGroup, axis_numbers, shown_setting
from hourglass.analysis.neck import NECK, NECK_DEFINED, neck_of
from hourglass.corpora.overlap import NGRAM
from hourglass.errors import UserError
from hourglass.metrics.metric import Metric
from hourglass.metrics.metrics import heading_of
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import CONVERGED, FEWEST_SENTENCES, RESAMPLES, Interval
from hourglass.reports.document import Block, Bullets, Heading, Picture, Table
from hourglass.reports.phrases import (
    P_HEADINGS,
    banded,
    cover_of_differences,
    cover_of_estimates,
    difference_cells,
    difference_line,
    estimate_line,
    p_cells,
    show_range,
)
from hourglass.reports.plots import draw_estimates, draw_lines
from hourglass.reports.sentences import say

# A numeric axis that spans more than this factor is drawn on a logarithmic scale.
DECADE = 10

LENGTH = "mean source words of a bucket"

# As `DIFFERENCE_HEADINGS`, where groups may differ in any settings.
GROUP_HEADINGS = ("these trained models", "these settings, pooled", "these settings, own spread")


def note_on_few() -> str:
    """Return what the mark at a number of sentences means."""
    return say("comparison", "few", few=FEW)


def note_on_undefined() -> str:
    """Return what a dash in place of an interval means."""
    return say("comparison", "undefined", fewest=FEWEST_SENTENCES)


def note_on_units(metrics: Iterable[Metric]) -> str:
    """Return what scores, their differences and p are."""
    named = {metric.title: metric for metric in metrics}
    bounded = [title for title, metric in named.items() if math.isfinite(metric.highest)]
    return say("comparison", "units", metrics=list(named.values()), bounded=bounded)


def list_left_out(reasons: Mapping[str, str]) -> list[str]:
    """Return a note on each path that was given, and is not in a comparison.

    Args:
        reasons: by path.
    """
    return [say("comparison", "left_out", reason=reason) for reason in reasons.values()]


def write_comparison(
    parts: Sequence[TestSetComparison], left_out: Mapping[str, str], *, by_length: bool
) -> list[Block]:
    """Return the report of a comparison.

    Args:
        parts: the groups on each test set.
        left_out: of each path that was given, and is not in the comparison, the reason.
        by_length: whether scores and differences are shown by source length, too.
    """
    axes = list(map(shown_setting, _axes(parts)))
    blocks: list[Block] = [Heading(1, say("comparison", "heading", titles=_titles(parts), axes=axes))]
    blocks += [scores_table(parts), *([differences_table(parts)] if _compared(parts) else [])]
    blocks += [*([clean_scores_table(parts)] if any(part.clean for part in parts) else []), runs_table(parts)]
    for part in parts:
        blocks += [*_axis_figures(part, parts), *_settings_tables(part, parts)]
        blocks += _lengths(part, parts) if by_length else []
    return [
        *blocks,
        Heading(2, say("comparison", "how_to_read")),
        Bullets(describe_comparison(parts, left_out, by_length=by_length)),
    ]


def _titles(parts: Sequence[TestSetComparison]) -> list[str]:
    """Return the heading of the score, or of the scores where test sets have several."""
    return list(dict.fromkeys(part.metric.title for part in parts))


def _title(parts: Sequence[TestSetComparison]) -> str:
    return " or ".join(_titles(parts))


def _dev_title(parts: Sequence[TestSetComparison]) -> str:
    """Return the heading of the main metric of the runs, which dev is scored by."""
    runs = [run.metrics for part in parts for item in part.scores for run in item.group.runs]
    return " or ".join(dict.fromkeys(heading_of(run.dev.metric) for run in runs))


def scores_table(parts: Sequence[TestSetComparison]) -> Table:
    """Return the score of each group, with its intervals."""
    over_seeds = any(item.pooled or item.own_spread for part in parts for item in part.scores)
    rows = []
    for part in parts:
        for item in part.scores:
            whole, spread = item.score.whole, item.score.whole.spread
            cells = [f"{whole.mean:z.2f}", show_range(whole.interval)]
            if over_seeds:
                cells.insert(1, "-" if spread is None else f"{spread:z.2f}")
                cells += [show_range(item.pooled), show_range(item.own_spread)]
            rows.append(
                [*_labels(part, item.group, parts), show_sentences(part.test.rows), *cells, str(len(item.group.runs))]
            )
    trained, pooled, own = GROUP_HEADINGS
    head = [*_label_heads(parts), "sentences", _title(parts), *(["SD over seeds"] if over_seeds else []), trained]
    head += [*([pooled, own] if over_seeds else []), "number of seeds"]
    lower = dict.fromkeys(part.metric.title for part in parts if not part.metric.higher_is_better)
    caption = say(
        "comparison",
        "scores",
        titles=_titles(parts),
        partial=next((part.partial for part in parts if part.partial), ""),
        lower=list(lower),
        few=_note_on_few(parts),
        signatures=list(
            dict.fromkeys(part.metric.signature_of([row.references for row in part.test.rows]) for part in parts)
        ),
    )
    return Table("scores", head, rows, caption, text_columns=len(_label_heads(parts)))


def differences_table(parts: Sequence[TestSetComparison]) -> Table:
    """Return the difference of each group to its baseline, with its intervals."""
    rows = [
        [
            *_labels(part, item.group, parts),
            str(item.baseline),
            show_sentences(part.test.rows),
            *difference_cells(item.difference.whole),
            *p_cells(item.difference.whole),
        ]
        for part in parts
        for item in part.scores
        if item.difference is not None
    ]
    head = [*_label_heads(parts), "minus", "sentences", _title(parts), *GROUP_HEADINGS, *P_HEADINGS]
    caption = say("comparison", "differences", few=_note_on_few(parts))
    return Table("differences", head, rows, caption, text_columns=len(_label_heads(parts)) + 1)


def clean_scores_table(parts: Sequence[TestSetComparison]) -> Table:
    """Return scores and differences on the sentences that share no n-gram with train, beside those on all."""
    rows = []
    for part in parts:
        if part.clean is None:
            continue
        for item, own in zip(part.scores, part.clean.scores, strict=True):
            whole = item.difference.whole if item.difference else None
            difference = own.difference.whole if own.difference else None
            rows.append(
                [
                    *_labels(part, item.group, parts),
                    show_sentences(part.clean.test.rows),
                    f"{item.score.whole.mean:z.2f}",
                    f"{own.score.whole.mean:z.2f}",
                    show_range(own.score.whole.interval),
                    str(item.baseline or "-"),
                    f"{whole.value:+z.2f}" if whole else "-",
                    *difference_cells(difference),
                    *p_cells(difference),
                ]
            )
    head = [
        *_label_heads(parts),
        "sentences",
        f"{_title(parts)}, all",
        f"{_title(parts)}, clean part",
        GROUP_HEADINGS[0],
        "minus",
    ]
    head += ["difference, all", "difference, clean part", *GROUP_HEADINGS, *P_HEADINGS]
    caption = say("comparison", "clean", ngram=NGRAM, lengths=_clean_lengths(parts))
    return Table("clean", head, rows, caption, text_columns=len(_label_heads(parts)))


def _clean_lengths(parts: Sequence[TestSetComparison]) -> list[tuple[float, float]]:
    """Return the mean source words of each clean part, and of all its test set."""
    return [
        (float(part.clean.test.source_words.mean()), float(part.test.source_words.mean()))
        for part in parts
        if part.clean is not None
    ]


def show_sentences(rows: Sized) -> str:
    """Return the number of sentences, with a mark if there are few."""
    return f"{len(rows):,}{'*' if len(rows) < FEW else ''}"


def _note_on_few(parts: Sequence[TestSetComparison]) -> str:
    return note_on_few() if any(len(part.test.rows) < FEW for part in parts) else ""


def runs_table(parts: Sequence[TestSetComparison]) -> Table:
    """Return how each group was trained: size, data, budget, convergence, seeds, code."""
    rows, unjudged = [], False
    for part in parts:
        for item in part.scores:
            metrics = [run.metrics for run in item.group.runs]
            trainings = _convergence(item.group)
            verdict = all_converged(training.converged for training in trainings)
            gain = max((training.gain_of_last_fifth for training in trainings), default=None)
            unjudged = unjudged or any(training.converged is None for training in trainings)
            tokens = sum(run.train_target_tokens for run in metrics) / len(metrics)
            rows.append(
                [
                    *_labels(part, item.group, parts),
                    f"{sum(run.dev.score for run in metrics) / len(metrics):z.2f}",
                    f"{sum(run.dev.loss for run in metrics) / len(metrics):z.3f}",
                    " or ".join(f"{count:,}" for count in sorted({run.parameters for run in metrics})),
                    " or ".join(sorted({str(neck_of(run.config)) for run in item.group.runs})),
                    f"{metrics[0].corpus['pairs']['train']:,}",
                    f"{tokens:z,.0f}",
                    "-" if gain is None else f"{show_convergence(verdict, trainings)} ({100 * gain:z.1f} %)",
                    item.group.setting("trainer.precision"),
                    ", ".join(map(str, item.group.seeds)),
                    ", ".join(dict.fromkeys(run.code for run in metrics)),
                ]
            )
    head = [
        *_label_heads(parts),
        f"dev {_dev_title(parts)}",
        "dev loss",
        "parameters",
        NECK,
        "training pairs",
        "target tokens",
    ]
    head += ["converged (gain of the last fifth)", "precision", "seeds", "commit"]
    caption = say(
        "comparison", "runs", converged=CONVERGED, not_judged=NOT_JUDGED if unjudged else "", neck=NECK_DEFINED
    )
    return Table("runs", head, rows, caption, text_columns=len(_label_heads(parts)))


def describe_comparison(
    parts: Sequence[TestSetComparison], left_out: Mapping[str, str], *, by_length: bool
) -> list[str]:
    """Return what the groups are, what they do not have in common, what the intervals cover, and what is left out."""
    notes = []
    if len(parts) > 1:
        notes.append(say("comparison", "several_tests", tests=len(parts)))
    for part in parts:
        own = _describe_groups(part)
        several = len(parts) > 1
        notes += [say("comparison", "on_test", name=part.name, note=note) for note in own] if several else own
    notes += _describe_intervals(parts, by_length=by_length)
    repeated = {path: reason for part in parts for path, reason in part.grouping.repeated.items()}
    return [*notes, *list_left_out({**left_out, **repeated})]


def _describe_groups(part: TestSetComparison) -> list[str]:
    grouping = part.grouping
    asked, further = (list(map(shown_setting, axes)) for axes in _asked_and_further(part))
    notes = []
    if asked:
        notes.append(say("comparison", "grouped_by", asked=asked))
        if further:
            notes.append(say("comparison", "further_axes", asked=asked, further=further))
    elif further:
        notes.append(say("comparison", "own_axes", further=further))
    if grouping.along:
        notes.append(say("comparison", "along", settings=list(map(shown_setting, grouping.along))))
    if grouping.rounding:
        notes.append(say("comparison", "rounding", settings=list(map(shown_setting, grouping.rounding))))
    notes += _describe_baselines(part)
    runs = [run for group in grouping.groups for run in group.runs]
    commits = list(dict.fromkeys(run.metrics.code for run in runs))
    if len(commits) > 1:
        notes.append(say("comparison", "commits", commits=commits))
    if part.partial:
        notes.append(say("comparison", "partial", partial=part.partial))
    slow = [item.group.name for item in part.scores if _is_unfinished(item.group)]
    if slow:
        notes.append(say("comparison", "unfinished", groups=slow))
    return notes


def _asked_and_further(part: TestSetComparison) -> tuple[Sequence[str], Sequence[str]]:
    """Return the axes that were asked for, and those that had to be added."""
    axes, asked = part.grouping.axes, part.grouping.asked
    return axes[:asked], axes[asked:]


def _describe_baselines(part: TestSetComparison) -> list[str]:
    """Return what groups are compared with, how that is chosen, and why some are compared with none."""
    if len(part.scores) < 2:
        return []
    first, *others = part.grouping.axes
    axis = shown_setting(first)
    if part.baseline is None:
        values = dict.fromkeys(item.group.values[first] for item in part.scores)
        return [say("comparison", "no_baseline", axis=axis, values=list(values))]
    compared = {"axis": axis, "baseline": part.baseline, "others": list(map(shown_setting, others))}
    notes = [say("comparison", "baseline", **compared)]
    bases = [item.group.name for item in part.scores if item.group.values[first] == part.baseline]
    lonely = [item.group.name for item in part.scores if item.baseline is None and item.group.name not in bases]
    if lonely:
        notes.append(say("comparison", "not_compared", groups=lonely, bases=bases, **compared))
    return notes


def _describe_intervals(parts: Sequence[TestSetComparison], *, by_length: bool) -> list[str]:
    everyone = [item for part in parts for item in part.scores]
    notes = [say("comparison", "intervals", resamples=RESAMPLES)]
    if _compared(parts):
        notes.insert(0, note_on_units(part.metric for part in parts))
    if any(item.pooled for item in everyone):
        notes.append(say("comparison", "over_seeds"))
    if single := [item for item in everyone if len(item.group.runs) == 1]:
        names = [] if len(single) == len(everyone) else [item.group.name for item in single]
        notes.append(say("comparison", "one_seed", groups=names, pooled=any(item.pooled for item in single)))
    undefined = any(_has_undefined(part, by_length=by_length) for part in parts)
    return [*notes, *([note_on_undefined()] if undefined else [])]


def _has_undefined(part: TestSetComparison, *, by_length: bool) -> bool:
    """Return whether a score that is shown has no interval."""
    return any(
        not quantity.scorable
        for item in part.scores
        for quantity in [item.score.whole, *(item.score.buckets.values() if by_length else ())]
    )


def _axis_figures(part: TestSetComparison, parts: Sequence[TestSetComparison]) -> list[Picture]:
    """Return the score against the first axis of numbers, or else of each group in a row of its own."""
    grouping, name = part.grouping, _figure_name(part.metric.name, part, parts)
    if len(part.scores) < 2:
        return []
    numbers, title, sentences = axis_numbers(grouping), part.metric.title, len(part.test.rows)
    caption = say(
        "comparison",
        "axis_figure",
        title=title,
        test_set=_test_set(part, parts),
        numbers=bool(numbers),
        over_seeds=_over_seeds(part),
        sentences=sentences if sentences < FEW else 0,
    )
    if not numbers:
        rows = {item.group.name: item.score.whole.value.tolist() for item in part.scores}
        widths = [_widest_of_mean(item) for item in part.scores]
        intervals = [None if width is None else (width.low, width.high) for width in widths]
        covered = say("comparison", "covered_in_short", over_seeds=_over_seeds(part))
        figure = draw_estimates(rows, intervals, x_label=title, bands=covered)
        return [Picture(name, figure, say("comparison", "names_alt", title=title, names=list(rows)), caption)]
    axis, values = next(iter(numbers.items()))
    lines: dict[str, list[GroupScores]] = {}
    for item in sorted(part.scores, key=lambda item: float(item.group.values[axis])):
        line = item.group.named_without(axis) if len(grouping.axes) > 1 else "mean over seeds"
        lines.setdefault(line, []).append(item)
    few = sentences < FEW
    figure = draw_lines(
        {
            line: banded(
                [float(item.group.values[axis]) for item in members],
                [item.score.whole.mean for item in members],
                [_widest_of_mean(item) for item in members],
                [few] * len(members),
                [item.score.whole.value.tolist() for item in members],
            )
            for line, members in lines.items()
        },
        x_label=shown_setting(axis),
        y_label=title,
        x_values=values,
        log_x=values[0] > 0 and values[-1] > DECADE * values[0],
        bands=say("comparison", "covered_in_short", over_seeds=_over_seeds(part)),
    )
    return [Picture(name, figure, say("comparison", "axis_alt", title=title, axis=shown_setting(axis)), caption)]


def _settings_tables(part: TestSetComparison, parts: Sequence[TestSetComparison]) -> list[Table]:
    """Return the settings, beside the axes, in which groups differ."""
    if not part.grouping.along:
        return []
    groups = part.grouping.groups
    rows = [[shown_setting(key), *(group.setting(key) for group in groups)] for key in part.grouping.along]
    caption = say("comparison", "settings", test_set=_test_set(part, parts))
    head = ["setting", *(group.name for group in groups)]
    return [Table(_figure_name("settings", part, parts), head, rows, caption, text_columns=len(head))]


def _lengths(part: TestSetComparison, parts: Sequence[TestSetComparison]) -> list[Block]:
    """Return scores and differences by source length, as tables and figures."""
    title = part.metric.title
    test, names, test_set = part.test, [item.group.name for item in part.scores], _test_set(part, parts)
    inside = {bucket: test.inside(bucket) for bucket in part.scores[0].score.buckets}
    x = [float(test.source_words[rows].mean()) for rows in inside.values()]
    few = [len(rows) < FEW for rows in inside.values()]
    scores = {
        item.group.name: [quantity.estimate for quantity in [*item.score.buckets.values(), item.score.whole]]
        for item in part.scores
    }
    counts = [(show_bounds(test.bounds[bucket]), len(rows)) for bucket, rows in inside.items()]
    cover = cover_of_estimates(item for row in scores.values() for item in row[:-1])
    marks = {bucket: "*" if len(rows) < FEW else "" for bucket, rows in inside.items()}
    head = ["group", *(f"{show_bounds(test.bounds[bucket])} words{marks[bucket]}" for bucket in inside), "all"]
    head[-1] += "*" if len(test.rows) < FEW else ""
    rows = [[name, *(f"{item.mean:z.2f} {show_range(item.interval)}" for item in row)] for name, row in scores.items()]
    lines = {name: estimate_line(x, row[:-1], few) for name, row in scores.items()}
    table, figure = (
        _figure_name(f"{part.metric.name}-by-length", part, parts),
        draw_lines(lines, x_label=LENGTH, y_label=title, zero=True, bands=cover),
    )
    blocks: list[Block] = [
        Picture(
            table,
            figure,
            say("comparison", "length_figure_alt", title=title, names=names),
            say("comparison", "length_figure", title=title, test_set=test_set, cover=cover, few=FEW),
        ),
        Table(
            table,
            head,
            rows,
            say("comparison", "lengths", title=title, test_set=test_set, buckets=counts, few=note_on_few()),
        ),
    ]
    compared = {item.group.name: item for item in part.scores if item.difference is not None}
    if not compared:
        return blocks
    rows = [
        [
            show_bounds(test.bounds[bucket]),
            name,
            str(item.baseline),
            show_sentences(inside[bucket]),
            *difference_cells(item.difference.by_length[bucket]),
            *p_cells(item.difference.by_length[bucket]),
        ]
        for bucket in inside
        for name, item in compared.items()
        if item.difference is not None
    ]
    caption = say("comparison", "length_differences", test_set=test_set, few=note_on_few())
    head = ["source words", "group", "minus", "sentences", _title(parts), *GROUP_HEADINGS, *P_HEADINGS]
    table = _figure_name("differences-by-length", part, parts)
    differences = {
        name: list(item.difference.by_length.values()) for name, item in compared.items() if item.difference is not None
    }
    figure = draw_lines(
        {name: difference_line(x, of_buckets, few) for name, of_buckets in differences.items()},
        x_label=LENGTH,
        y_label=f"{title} minus the baseline",
        zero=True,
        order=names,
        bands=cover_of_differences(item for of_buckets in differences.values() for item in of_buckets),
    )
    return [
        *blocks,
        Picture(
            table,
            figure,
            say("comparison", "difference_figure_alt", title=title, names=list(compared)),
            say("comparison", "difference_figure", title=title, test_set=test_set),
        ),
        Table(table, head, rows, caption, text_columns=3),
    ]


def _compared(parts: Sequence[TestSetComparison]) -> bool:
    return any(item.difference is not None for part in parts for item in part.scores)


def _convergence(group: RunGroup) -> list[Convergence]:
    """Return the convergence of all runs of a group; empty: unknown."""
    try:
        return [judge_convergence(run, CONVERGED) for run in group.runs]
    except UserError:  # A run has a single validation, or no curves (logger=none).
        return []


def _is_unfinished(group: RunGroup) -> bool:
    return any(training.converged is False for training in _convergence(group))


def _widest_of_mean(scores: GroupScores) -> Interval | None:
    """Return the wider of the two intervals over sentences and seeds, or else that over sentences."""
    over_seeds = [interval for interval in (scores.pooled, scores.own_spread) if interval]
    return max(over_seeds, key=lambda interval: interval.high - interval.low, default=scores.score.whole.interval)


def _over_seeds(part: TestSetComparison) -> bool:
    return any(item.pooled for item in part.scores)


def _axes(parts: Sequence[TestSetComparison]) -> list[str]:
    return list(dict.fromkeys(axis for part in parts for axis in part.grouping.axes))


def _label_heads(parts: Sequence[TestSetComparison]) -> list[str]:
    """Return the headings of the columns that name a group: its test set, if there are several, and its axes."""
    return [*(["test set"] if len(parts) > 1 else []), *map(shown_setting, _axes(parts))] or ["group"]


def _labels(part: TestSetComparison, group: RunGroup, parts: Sequence[TestSetComparison]) -> list[str]:
    return [
        *([part.name] if len(parts) > 1 else []),
        *(group.values.get(axis, group.setting(axis)) for axis in _axes(parts)),
    ] or [group.name]


def _test_set(part: TestSetComparison, parts: Sequence[TestSetComparison]) -> str:
    return f"test ({part.name})" if len(parts) > 1 else "test"


def _figure_name(name: str, part: TestSetComparison, parts: Sequence[TestSetComparison]) -> str:
    """Return the name of a table's or figure's file; with the test set, if there are several."""
    test_set = re.sub(r"[^\w.]+", "-", part.name)
    return f"{test_set}-{name}" if len(parts) > 1 else name
