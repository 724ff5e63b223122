"""Metrics of translation, from sacreBLEU (Post 2018): BLEU, chrF and TER.

BLEU (Papineni et al. 2002) is a function of ten counts that add up over sentences. sacreBLEU counts them once for each
sentence; for a corpus, a length bucket or a bootstrap resample they are summed.

Shapes: N sentences, K counts.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from hourglass.corpora.languages import is_han, is_japanese, is_unspaced
from hourglass.errors import UserError
from hourglass.metrics.metric import Metric, References, check_references, single

ORDERS = 4  # n-grams of BLEU
STATISTICS = 2 * ORDERS + 2


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


class Bleu(Metric):
    """BLEU, with sacreBLEU's tokenizer for the language, its clipping and its smoothing.

    Args:
        target_language: see `Metric`.
    """

    name = "bleu"
    heading = "BLEU"
    scores_copies = True

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """Return the counts that BLEU is computed from.

        Returns:
            [N, 10] int64: matching n-grams of order 1 to 4, hypothesis n-grams of order 1 to 4, hypothesis tokens,
            reference tokens.

        Raises:
            UserError: the language's tokenizer is not installed, or a sentence has no reference.
        """
        check_references(hypotheses, references, self.name)
        library = _bleu(self.target_language)  # Not kept: MeCab's tagger cannot be sent to a spawned process.
        scores = [
            library.corpus_score([hypothesis], [[reference] for reference in own])
            for hypothesis, own in zip(hypotheses, references, strict=True)
        ]
        rows = [[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores]
        return np.array(rows, dtype=np.int64).reshape(len(rows), STATISTICS)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """See `bleu_from_statistics`."""
        return bleu_from_statistics(sums)

    def scorable(self, statistics: np.ndarray) -> np.ndarray:
        """Return which sentences have a reference of four tokens.

        Without any there is no 4-gram to match: sacreBLEU gives 0 whatever the output, and intervals over such zeros
        would speak of the draw.
        """
        enough: np.ndarray = statistics[:, -1] >= ORDERS
        return enough

    def details(self, sums: np.ndarray) -> dict[str, float | int | None]:
        """Return the brevity penalty, tokens of output and references as BLEU counts them, and their ratio."""
        *_, hypothesis, reference = np.asarray(sums).tolist()
        return {
            "brevity_penalty": float(brevity_penalty(sums)),
            "hypothesis_tokens": hypothesis,
            "reference_tokens": reference,
            "length_ratio": hypothesis / reference if reference else None,
        }

    def signature(self) -> str:
        """Return sacreBLEU's signature, with one reference per sentence."""
        return str(_bleu(self.target_language, references=[[""]]).get_signature())

    def signature_of(self, references: References) -> str:
        """See `_signature_of`."""
        return _signature_of(self, references)


class _OfSacrebleu(Metric):
    """A metric whose counts and score are those of a class of sacreBLEU.

    The library's own bootstrap adds up the same counts by the same two functions.
    """

    def _make(self, **options: Any) -> CHRF | TER:
        raise NotImplementedError

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """See `Metric.statistics`; the counts are sacreBLEU's, [N, K] float64."""
        check_references(hypotheses, references, self.name)
        library = self._make()
        rows = [
            library._extract_corpus_statistics([hypothesis], [[reference] for reference in own])[0]
            for hypothesis, own in zip(hypotheses, references, strict=True)
        ]
        return np.array(rows, dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """See `Metric.score`."""
        library, counts = self._make(), np.asarray(sums)
        flat = [library._compute_score_from_stats(row).score for row in counts.reshape(-1, counts.shape[-1]).tolist()]
        return np.array(flat, dtype=np.float64).reshape(counts.shape[:-1])

    def signature(self) -> str:
        """Return sacreBLEU's signature, with one reference per sentence."""
        return str(self._make(references=[[""]]).get_signature())

    def signature_of(self, references: References) -> str:
        """See `_signature_of`."""
        return _signature_of(self, references)


class Chrf(_OfSacrebleu):
    """Character n-gram F-score (Popovic 2015): n-grams of up to 6 characters, recall counts twice.

    Args:
        target_language: see `Metric`.
    """

    name = "chrf"
    heading = "chrF"
    scores_copies = True

    def _make(self, **options: Any) -> CHRF:
        return CHRF(**options)


class Ter(_OfSacrebleu):
    """Translation edit rate in percent, lower is better (Snover et al. 2006).

    Args:
        target_language: see `Metric`.
        case_sensitive: whether a word in other case counts as another word.
    """

    name = "ter"
    heading = "TER"
    higher_is_better = False
    highest: ClassVar[float] = float("inf")

    def __init__(self, target_language: str, *, case_sensitive: bool = False):
        super().__init__(target_language)
        self.case_sensitive = case_sensitive

    def _make(self, **options: Any) -> TER:
        return TER(case_sensitive=self.case_sensitive, **options)


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> np.ndarray:
    """Return BLEU's counts where each sentence has one reference: see `Bleu.statistics`.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
        UserError: the language's tokenizer is not installed.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    return Bleu(target_language).statistics(hypotheses, single(references), hypotheses)


def bleu(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> float:
    """Return corpus BLEU, from 0 to 100, where each sentence has one reference.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
        UserError: the language's tokenizer is not installed.
    """
    return float(bleu_from_statistics(bleu_statistics(hypotheses, references, target_language).sum(0)))


def _signature_of(metric: Metric, references: References) -> str:
    """Return sacreBLEU's signature with the number of references of a sentence; var, if it varies."""
    counts = {len(own) for own in references} or {1}
    number = str(counts.pop()) if len(counts) == 1 else "var"
    return metric.signature().replace("nrefs:1", f"nrefs:{number}", 1)


def _bleu(target_language: str, **options: Any) -> BLEU:
    tokenizer = bleu_tokenizer(target_language)
    try:
        return BLEU(tokenize=tokenizer, **options)
    except RuntimeError:
        raise UserError(
            f"target language {target_language}: BLEU's tokenizer {tokenizer} is not installed; "
            'pip install "hourglass[ja]"'
        ) from None
