"""The scores of a run by source length, and those of the source copied unchanged.

Shapes: N sentences, K counts of a metric.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hourglass.errors import UserError
from hourglass.metrics.metric import MetricFacts, References, facts_of
from hourglass.metrics.metrics import Metrics, details_or_none, metric_statistics, score_or_none

# Scores of fewer sentences than this are marked as unreliable.
FEW = 50


def length_buckets(edges: Sequence[int]) -> list[tuple[int, int | None]]:
    """Return each bucket's first and last number of source words; the last bucket is open (None).

    Raises:
        UserError: the edges do not increase from 1, so that a sentence would have no bucket, or two.
    """
    if not edges or edges[0] != 1 or any(low >= high for low, high in itertools.pairwise(edges)):
        raise UserError(f"edges={list(edges)}: set whole numbers that rise, the first of them 1")
    return [*((low, high - 1) for low, high in itertools.pairwise(edges)), (edges[-1], None)]


def inside_bounds(source_words: np.ndarray, bounds: tuple[int, int | None]) -> np.ndarray:
    """Return the indices of the sentences [N] whose number of source words lies in a bucket of `length_buckets`."""
    low, high = bounds
    return np.flatnonzero((source_words >= low) & (source_words <= (np.inf if high is None else high)))


def score(
    hypotheses: Sequence[str],
    references: References,
    sources: Sequence[str],
    source_words: Sequence[int],
    *,
    edges: Sequence[int],
    metrics: Metrics,
    copies: bool = True,
) -> dict[str, Any]:
    """Score outputs, and the sources copied unchanged, in all and by source length.

    Args:
        hypotheses: N outputs.
        references: one or more of each.
        sources: N source sentences.
        source_words: N lengths of the sources, in words (characters for languages written without spaces).
        edges: the smallest number of source words of each bucket, from 1; the last bucket is open.
        metrics: what to compute.
        copies: whether a source can be an output, as features cannot.

    Returns:
        Plain values, ready for JSON: `sentences`; the score of each metric by its name, that of the source as its own
        output as copy_NAME where the metric has it, and what else a metric tells (for BLEU `brevity_penalty`,
        `hypothesis_tokens`, `reference_tokens` and `length_ratio`, the former divided by the latter; for sequence
        accuracy and its error rate `premature`); `main`, the name of the main metric; `metrics`, the heading, digits,
        signature and direction of each; and `buckets`, a list of the same numbers for each bucket, with
        `source_words`: [low, high], high null for the open one. Without sentences all scores are null.

    Raises:
        ValueError: the four sequences differ in length, or a length is below the first edge.
        UserError: the edges do not increase from 1, a metric's tokenizer is not installed, or a sentence has no
            reference.
    """
    if len({len(hypotheses), len(references), len(sources), len(source_words)}) != 1:
        raise ValueError("hypotheses, references, sources and source_words differ in length")
    buckets = length_buckets(edges)
    if min(source_words, default=1) < edges[0]:
        raise ValueError("a source without words has no bucket")
    counts = {metric.name: metric_statistics(metric, hypotheses, references, sources) for metric in metrics.all}
    copied = {
        metric.name: metric_statistics(metric, sources, references, sources)
        for metric in metrics.all
        if copies and metric.scores_copies
    }

    def row(indices: np.ndarray) -> dict[str, Any]:
        """Score the sentences of these indices."""
        values: dict[str, Any] = {"sentences": len(indices)}
        for metric in metrics.all:
            for name, own in ((metric.name, counts), (f"copy_{metric.name}", copied)):
                if metric.name in own:
                    of_sentences, values[name] = own[metric.name], None
                    if of_sentences is not None and len(indices):
                        values[name] = score_or_none(metric, of_sentences[indices].sum(0))
            if (of_sentences := counts[metric.name]) is not None and of_sentences.size:
                details = details_or_none(metric, of_sentences[indices].sum(0))
                values |= details if len(indices) else dict.fromkeys(details)
        return values

    bucket_of = np.searchsorted(edges, source_words, side="right") - 1
    return {
        **row(np.arange(len(hypotheses))),
        "main": metrics.main.name,
        "metrics": {metric.name: asdict(MetricFacts.of(metric, references)) for metric in metrics.all},
        "buckets": [
            {"source_words": list(bounds), **row(np.flatnonzero(bucket_of == number))}
            for number, bounds in enumerate(buckets)
        ],
    }


def main_of(scores: Mapping[str, Any]) -> str:
    """Return the name of the main metric of scores that `score` has returned; those of earlier versions have BLEU."""
    return str(scores.get("main", "bleu"))


def format_table(scores: dict[str, Any], lengths: str = "source words") -> str:
    """Format the result of `score` as a table for a terminal: a line for each bucket and for all, and signatures.

    Args:
        scores: of `score`.
        lengths: a heading for the lengths of sources.
    """
    facts = facts_of(scores)
    columns: list[tuple[str, str, int]] = []
    width = max(12, len(lengths))
    for name, own in facts.items():
        columns.append((own.heading[:7], name, own.digits))
        if f"copy_{name}" in scores:
            columns.append(("copy", f"copy_{name}", own.digits))
    details = (("BP", "brevity_penalty", 3), ("ratio", "length_ratio", 3), ("early", "premature", 2))
    columns += [item for item in details if item[1] in scores]

    def line(label: str, row: dict[str, Any]) -> str:
        mark = "*" if row["sentences"] < FEW else " "
        cells = ["-" if row[key] is None else f"{row[key]:.{digits}f}" for _, key, digits in columns]
        return f"{label:<{width}}  {row['sentences']:>9,}{mark}" + "".join(f"{cell:>8}" for cell in cells)

    rows = [line(show_bounds(bucket["source_words"]), bucket) for bucket in scores["buckets"]] + [line("all", scores)]
    heading = f"{lengths:<{width}}  {'sentences':>9} " + "".join(f"{name:>8}" for name, _, _ in columns)
    meanings = {
        "copy": "copy: the source, scored as an output",
        "BP": "BP: brevity penalty",
        "ratio": "ratio: length of output to reference",
        "early": "early: percent of outputs that are right as far as they go and end too early",
    }
    shown = [meaning for key, meaning in meanings.items() if key in [name for name, _, _ in columns]]
    notes = [
        *(["; ".join(shown)] if shown else []),
        *(
            f"{own.heading:<4}  {own.signature}{'' if own.higher_is_better else ' (lower is better)'}"
            for own in facts.values()
        ),
    ]
    if any("*" in row for row in rows):
        notes.insert(0, f"*: fewer than {FEW} sentences, too few to rely on")
    rule = "-" * len(heading)
    return "\n".join([heading, rule, *rows[:-1], rule, rows[-1], *notes])


def show_bounds(bounds: Sequence[int | None]) -> str:
    """Return the bounds of a bucket as text: 1-10, or 51+ for the open one."""
    low, high = bounds
    if high is None:
        return f"{low}+"
    return f"{low}" if low == high else f"{low}-{high}"
