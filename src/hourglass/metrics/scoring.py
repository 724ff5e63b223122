"""BLEU and chrF by source length, and the same for the source copied unchanged (sacreBLEU: Post, 2018).

BLEU (Papineni et al., 2002) is a function of ten counts that add up over sentences. sacreBLEU counts them once for each
sentence; for a corpus, a length bucket or a bootstrap resample they are summed.

Shapes: N sentences.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from hourglass.corpora.languages import is_han, is_japanese, is_unspaced
from hourglass.errors import UserError
from hourglass.metrics.metric import Metric, metric_value

ORDERS = 4  # n-grams of BLEU
STATISTICS = 2 * ORDERS + 2

# Scores of fewer sentences than this are marked as unreliable.
FEW = 50


def bleu_tokenizer(target_language: str) -> str:
    """Return sacreBLEU's name of the tokenizer for a language code such as de, zh-CN or jpn_Jpan.

    Languages with spaces between words get 13a, sacreBLEU's default; those without, for which sacreBLEU has none, are
    split into characters.
    """
    if is_japanese(target_language):
        return "ja-mecab"
    if is_han(target_language):
        return "zh"
    return "char" if is_unspaced(target_language) else "13a"


def check_language(target_language: str) -> None:
    """Check that BLEU's tokenizer for a language is installed, so that a run does not fail at its end.

    Raises:
        UserError: the tokenizer is not installed.
    """
    _bleu(target_language)


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


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> np.ndarray:
    """Return the counts that BLEU is computed from, for each sentence, with sacreBLEU's tokenization and clipping.

    Returns:
        [N, 10] int64: matching n-grams of order 1 to 4, hypothesis n-grams of order 1 to 4, hypothesis tokens,
        reference tokens.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
        UserError: the language's tokenizer is not installed.
    """
    metric = _bleu(target_language)
    scores = [
        metric.corpus_score([hypothesis], [[reference]])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    rows = [[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores]
    return np.array(rows, dtype=np.int64).reshape(len(rows), STATISTICS)


def bleu_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """Compute corpus BLEU from summed statistics, as sacreBLEU does by default: order 4, exponential smoothing.

    BLEU = 100 * BP * (p1 p2 p3 p4)^(1/4), with BP = exp(min(0, 1 - reference tokens / hypothesis tokens)). The first
    order without a match counts as 1/2 match, the next as 1/4, and so on. Without any match, or with hypotheses too
    short for an order, BLEU is 0.

    Args:
        statistics: [..., 10], sums of rows of `bleu_statistics`.

    Returns:
        [...] float64, from 0 to 100.
    """
    counts = np.asarray(statistics, dtype=np.float64)
    correct, total = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    missed = correct == 0
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), correct)
    defined = (total > 0).all(-1) & (correct > 0).any(-1)
    precisions = smoothed / np.where(total > 0, total, 1)
    score = 100 * brevity_penalty(counts) * np.exp(np.log(precisions).mean(-1))
    return np.where(defined, score, 0.0)


def brevity_penalty(statistics: np.ndarray) -> np.ndarray:
    """Return BLEU's penalty factor for output shorter than the reference, from 0 to 1.

    Args:
        statistics: [..., 10], sums of rows of `bleu_statistics`.

    Returns:
        [...] float64.
    """
    counts = np.asarray(statistics, dtype=np.float64)
    hypothesis, reference = counts[..., -2], counts[..., -1]
    penalty = np.exp(np.minimum(0, 1 - reference / np.maximum(hypothesis, 1)))
    return np.where((hypothesis == 0) & (reference > 0), 0.0, penalty)


def bleu(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> float:
    """Return corpus BLEU, from 0 to 100.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
        UserError: the language's tokenizer is not installed.
    """
    return float(bleu_from_statistics(bleu_statistics(hypotheses, references, target_language).sum(0)))


def signature(target_language: str) -> str:
    """Return sacreBLEU's signature of BLEU for a target language, with one reference per sentence."""
    return _signature(_bleu(target_language, references=[[""]]))


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    source_words: Sequence[int],
    *,
    edges: Sequence[int],
    target_language: str,
    metrics: Sequence[Metric] = (),
) -> dict[str, Any]:
    """Score translations, and the sources copied unchanged, in all and by source length.

    Args:
        hypotheses: N translations.
        references: N references.
        sources: N source sentences.
        source_words: N lengths of the sources, in words (characters for languages written without spaces).
        edges: the smallest number of source words of each bucket, from 1; the last bucket is open.
        target_language: code of the target language, which determines BLEU's tokenizer.
        metrics: further scores.

    Returns:
        Plain values, ready for JSON: `sentences`, `bleu`, `chrf`, `copy_bleu`, `copy_chrf` (0 to 100),
        `brevity_penalty`, `hypothesis_tokens`, `reference_tokens` (as BLEU counts them), `length_ratio` (the former
        divided by the latter); `signature`, `chrf_signature`; and `buckets`, a list of the same numbers for each
        bucket, with `source_words`: [low, high], high null for the open one. Without sentences all scores are null.
        With further metrics also these by their names, and `metrics`: the heading, digits and signature of each.

    Raises:
        ValueError: the four sequences differ in length, or a length is below the first edge.
        UserError: the edges do not increase from 1, or the language's tokenizer is not installed.
    """
    if len({len(hypotheses), len(references), len(sources), len(source_words)}) != 1:
        raise ValueError("hypotheses, references, sources and source_words differ in length")
    buckets = length_buckets(edges)
    if min(source_words, default=1) < edges[0]:
        raise ValueError("a source without words has no bucket")
    statistics = bleu_statistics(hypotheses, references, target_language)
    copy_statistics = bleu_statistics(sources, references, target_language)
    chrf = CHRF()

    def row(indices: np.ndarray) -> dict[str, Any]:
        """Score the sentences of these indices."""
        if not len(indices):
            return {"sentences": 0, **dict.fromkeys((*_SCORES, *(metric.name for metric in metrics)))}
        total, copy_total = statistics[indices].sum(0), copy_statistics[indices].sum(0)
        chosen = [[texts[i] for i in indices] for texts in (hypotheses, references, sources)]
        *_, hypothesis_tokens, reference_tokens = total.tolist()
        values = (
            float(bleu_from_statistics(total)),
            chrf.corpus_score(chosen[0], [chosen[1]]).score,
            float(bleu_from_statistics(copy_total)),
            chrf.corpus_score(chosen[2], [chosen[1]]).score,
            float(brevity_penalty(total)),
            hypothesis_tokens,
            reference_tokens,
            hypothesis_tokens / reference_tokens if reference_tokens else None,
        )
        further = {metric.name: metric_value(metric, *chosen) for metric in metrics}
        return {"sentences": len(indices), **dict(zip(_SCORES, values, strict=True)), **further}

    described = {
        metric.name: {
            "heading": metric.heading or metric.name,
            "digits": metric.digits,
            "signature": str(metric.signature()),
        }
        for metric in metrics
    }
    bucket_of = np.searchsorted(edges, source_words, side="right") - 1
    return {
        **row(np.arange(len(hypotheses))),
        "signature": signature(target_language),
        "chrf_signature": _signature(CHRF(references=[[""]])),
        **({"metrics": described} if metrics else {}),
        "buckets": [
            {"source_words": list(bounds), **row(np.flatnonzero(bucket_of == number))}
            for number, bounds in enumerate(buckets)
        ],
    }


_SCORES = (
    "bleu",
    "chrf",
    "copy_bleu",
    "copy_chrf",
    "brevity_penalty",
    "hypothesis_tokens",
    "reference_tokens",
    "length_ratio",
)


def format_table(scores: dict[str, Any]) -> str:
    """Format the result of `score` as a table for a terminal: a line for each bucket and for all, and signatures."""
    columns = [("BLEU", "bleu", 2), ("copy", "copy_bleu", 2), ("chrF", "chrf", 2), ("copy", "copy_chrf", 2)]
    columns += [("BP", "brevity_penalty", 3), ("ratio", "length_ratio", 3)]
    further = scores.get("metrics", {})
    columns += [(metric["heading"][:7], name, metric["digits"]) for name, metric in further.items()]

    def line(label: str, row: dict[str, Any]) -> str:
        mark = "*" if row["sentences"] < FEW else " "
        cells = ["-" if row[key] is None else f"{row[key]:.{digits}f}" for _, key, digits in columns]
        return f"{label:<12}  {row['sentences']:>9,}{mark}" + "".join(f"{cell:>8}" for cell in cells)

    rows = [line(show_bounds(bucket["source_words"]), bucket) for bucket in scores["buckets"]] + [line("all", scores)]
    heading = f"{'source words':<12}  {'sentences':>9} " + "".join(f"{name:>8}" for name, _, _ in columns)
    notes = [
        "copy: the source, scored as a translation; BP: brevity penalty; ratio: length of output to reference",
        f"BLEU  {scores['signature']}",
        f"chrF  {scores['chrf_signature']}",
        *(f"{metric['heading']:<4}  {metric['signature']}" for metric in further.values()),
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


def _bleu(target_language: str, **options: Any) -> BLEU:
    tokenizer = bleu_tokenizer(target_language)
    try:
        return BLEU(tokenize=tokenizer, **options)
    except RuntimeError:
        raise UserError(
            f"target language {target_language}: BLEU's tokenizer {tokenizer} is not installed; "
            'pip install "hourglass[ja]"'
        ) from None


def _signature(metric: BLEU | CHRF) -> str:
    """Return the signature of a metric, which must have been given references, to state their number."""
    return str(metric.get_signature())
