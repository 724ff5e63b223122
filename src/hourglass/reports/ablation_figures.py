"""Figures of the ablation's report."""

import math
from collections.abc import Callable, Sequence

from hourglass.analysis.evaluation import BucketScores, Evaluation, VariantResult, mean_curve
from hourglass.metrics.scoring import FEW
from hourglass.reports.document import Picture
from hourglass.reports.phrases import (
    cover_of_differences,
    cover_of_estimates,
    difference_line,
    estimate_line,
    length_label,
)
from hourglass.reports.plots import Line, draw_lines
from hourglass.reports.sentences import say


def length_figures(evaluation: Evaluation, variants: Sequence[str]) -> list[Picture]:
    """Return the score by length of the source, with that of the copied source: of some variants, then of all.

    Args:
        evaluation: of all.
        variants: of the first figure; if they are all there are, it is the only one.
    """
    figures = [_length_figure(evaluation, variants, "by-length")]
    if len(variants) < len(evaluation.variants):
        figures.append(_length_figure(evaluation, list(evaluation.variants), "by-length-all"))
    return figures


def _length_figure(evaluation: Evaluation, variants: Sequence[str], suffix: str) -> Picture:
    name, title = evaluation.corpus.name, evaluation.metric.heading
    x, few = _lengths(evaluation)
    scores = {
        variant: [bucket.score for bucket in evaluation.variants[variant].buckets if bucket.score is not None]
        for variant in variants
    }
    lines = {variant: estimate_line(x, estimates, few) for variant, estimates in scores.items()}
    cover = cover_of_estimates(item for estimates in scores.values() for item in estimates)
    # The source is the same for all variants.
    first, floor = next(iter(evaluation.variants.values())), None
    if first.copied is not None:
        copied = _bucket_line(evaluation, first, lambda bucket: bucket.copied)
        floor = ("copy", Line(copied.x, copied.y))
    return Picture(
        f"{name}-{evaluation.main}-{suffix}",
        draw_lines(
            lines,
            x_label=_length_label(evaluation),
            y_label=title,
            order=list(evaluation.variants),
            floor=floor,
            bands=cover,
        ),
        say("figures", "scores_alt", title=title, names=variants, corpus=name),
        say("figures", "scores", title=title, cover=cover),
    )


def difference_figure(evaluation: Evaluation) -> Picture:
    """Return the lead of each variant over the baseline by length of the source."""
    return draw_differences(evaluation, "difference", list(evaluation.variants))


def draw_differences(evaluation: Evaluation, suffix: str, variants: Sequence[str]) -> Picture:
    """Return the lead of some variants over the baseline by length of the source.

    Args:
        evaluation: of all.
        suffix: of the figure's name.
        variants: to draw; the baseline among them has no lead.
    """
    name, baseline, title = evaluation.corpus.name, evaluation.baseline, evaluation.metric.heading
    x, few = _lengths(evaluation)
    differences = {
        variant: list(result.difference.by_length.values())
        for variant, result in evaluation.variants.items()
        if result.difference is not None and variant in variants
    }
    cover = cover_of_differences(row for rows in differences.values() for row in rows)
    return Picture(
        f"{name}-{suffix}-by-length",
        draw_lines(
            {variant: difference_line(x, rows, few) for variant, rows in differences.items()},
            x_label=_length_label(evaluation),
            y_label=f"{title} minus {baseline}",
            zero=True,
            order=list(evaluation.variants),
            bands=cover,
        ),
        say("figures", "difference_alt", title=title, names=list(differences), baseline=baseline, corpus=name),
        say("figures", "difference", title=title, baseline=baseline, cover=cover),
    )


def learning_figure(evaluation: Evaluation) -> Picture:
    """Return the dev loss of each variant during training."""
    name = evaluation.corpus.name
    lines = {variant: _mean_loss(result) for variant, result in evaluation.variants.items()}
    return Picture(
        f"{name}-learning",
        draw_lines(
            lines,
            x_label="target tokens read, millions",
            y_label="dev loss, nats per token",
            order=list(evaluation.variants),
        ),
        say("figures", "learning_alt", corpus=name),
        say("figures", "learning"),
    )


def ratio_figure(evaluation: Evaluation) -> Picture:
    """Return the length of the output over that of the reference, by length of the source."""
    return _bucket_figure(
        evaluation,
        lambda bucket: bucket.length_ratio,
        suffix="length-ratio",
        y_label="output length / reference length",
        sentence="ratio",
    )


def brevity_figure(evaluation: Evaluation) -> Picture:
    """Return BLEU's brevity penalty by length of the source."""
    return _bucket_figure(
        evaluation,
        lambda bucket: bucket.brevity_penalty,
        suffix="brevity",
        y_label="brevity penalty",
        sentence="brevity",
    )


def premature_figure(evaluation: Evaluation) -> Picture:
    """Return the share of the outputs that are right as far as they go and end too early, by length of the source."""
    return _bucket_figure(
        evaluation,
        lambda bucket: bucket.premature,
        suffix="premature",
        y_label="right until they end too early, %",
        sentence="premature",
        zero=True,
    )


def _bucket_figure(
    evaluation: Evaluation,
    value: Callable[[BucketScores], float | None],
    *,
    suffix: str,
    y_label: str,
    sentence: str,
    zero: bool = False,
) -> Picture:
    name, order = evaluation.corpus.name, list(evaluation.variants)
    lines = {variant: _bucket_line(evaluation, result, value) for variant, result in evaluation.variants.items()}
    return Picture(
        f"{name}-{suffix}",
        draw_lines(lines, x_label=_length_label(evaluation), y_label=y_label, order=order, span=0.1, zero=zero),
        say("figures", f"{sentence}_alt", corpus=name),
        say("figures", sentence),
    )


def _bucket_line(evaluation: Evaluation, result: VariantResult, value: Callable[[BucketScores], float | None]) -> Line:
    x, few = _lengths(evaluation)
    values = [
        value(scores) for scores, bucket in zip(result.buckets, evaluation.buckets, strict=True) if bucket.sentences
    ]
    return Line(x, [math.nan if number is None else number for number in values], few=few)


def _lengths(evaluation: Evaluation) -> tuple[list[float], list[bool]]:
    """Return the mean length of each bucket with sentences, and whether those are few."""
    known = [bucket for bucket in evaluation.buckets if bucket.mean_source_words is not None]
    return [bucket.mean_source_words or 0.0 for bucket in known], [bucket.sentences < FEW for bucket in known]


def recipe_of(evaluation: Evaluation) -> str:
    """Return the name of the recipe of an ablation's corpus."""
    return str(evaluation.variants[evaluation.baseline].config["data"]["name"])


def _length_label(evaluation: Evaluation) -> str:
    return length_label(recipe_of(evaluation))


def _mean_loss(result: VariantResult) -> Line:
    """Return the mean over seeds of the dev loss, against millions of target tokens."""
    points = mean_curve([training.curves.loss for training in result.seeds])
    return Line([tokens / 1e6 for tokens, _ in points], [loss for _, loss in points])
