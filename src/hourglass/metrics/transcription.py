"""Metrics of transcripts: word, character and phoneme error rate, with the edit distance of torchmetrics.

An error rate is the number of substitutions, deletions and insertions that turn the outputs into their references, over
the number of units of the references, in percent. Of several references the closest counts (as in grapheme-to-phoneme
conversion: Yao and Zweig 2015, section 4.1).

Shapes: N sentences.
"""

from abc import abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from hourglass.corpora.languages import words_of
from hourglass.metrics.metric import Metric, References, check_references


class ErrorRate(Metric):
    """Errors over units of the reference, in percent, lower is better: the base of the three.

    Args:
        target_language: see `Metric`; decides what a word is.
    """

    higher_is_better = False
    highest: ClassVar[float] = float("inf")  # An output may have any number of insertions.

    @abstractmethod
    def units(self, text: str) -> Sequence[str]:
        """Return the units of a text."""

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        """Return errors and units of the closest reference, the first of equals, [N, 2] int64."""
        check_references(hypotheses, references, self.name)
        codes: dict[str, int] = {}

        def encoded(text: str) -> str:
            """Write each unit as one character, as the library compares characters."""
            return "".join(chr(codes.setdefault(unit, len(codes))) for unit in self.units(text))

        pairs = [
            (row, encoded(hypothesis), encoded(reference))
            for row, (hypothesis, own) in enumerate(zip(hypotheses, references, strict=True))
            for reference in own
        ]
        closest: dict[int, tuple[int, int]] = {}
        for (row, _, reference), errors in zip(pairs, _distances(pairs), strict=True):
            if row not in closest or errors < closest[row][0]:
                closest[row] = errors, len(reference)
        return np.array([closest[row] for row in range(len(hypotheses))], dtype=np.int64).reshape(-1, 2)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return errors over units; 0 of empty outputs and references."""
        errors, units = (np.asarray(sums[..., place], dtype=np.float64) for place in range(2))
        rate: np.ndarray = 100 * errors / np.maximum(units, 1)
        return rate

    def scorable(self, statistics: np.ndarray) -> np.ndarray:
        """Return which sentences have a unit to find."""
        known: np.ndarray = statistics[:, 1] > 0
        return known

    def signature(self) -> str:
        """See `Metric.signature`."""
        return f"{self.name}|refs:closest|case:mixed|torchmetrics:{version('torchmetrics')}"


def _distances(pairs: Sequence[tuple[int, str, str]]) -> list[int]:
    """Return the edit distance of the two texts of each pair; equal ones need no library."""
    from torchmetrics.functional.text import edit_distance

    unequal = [(hypothesis, reference) for _, hypothesis, reference in pairs if hypothesis != reference]
    known = {}
    if unequal:
        distinct = list(dict.fromkeys(unequal))
        hypotheses, references = [pair[0] for pair in distinct], [pair[1] for pair in distinct]
        found = edit_distance(hypotheses, references, reduction="none").tolist()
        known = dict(zip(distinct, found, strict=True))
    return [int(known.get((hypothesis, reference), 0)) for _, hypothesis, reference in pairs]


class WordErrorRate(ErrorRate):
    """Word error rate: units are words, or characters in languages written without spaces."""

    name = "word_error_rate"
    heading = "WER"
    abbreviates = "word error rate"

    def units(self, text: str) -> Sequence[str]:
        """Return the words."""
        return words_of(text, self.target_language)


class CharacterErrorRate(ErrorRate):
    """Character error rate: units are characters, spaces among them."""

    name = "character_error_rate"
    heading = "CER"
    abbreviates = "character error rate"

    def units(self, text: str) -> Sequence[str]:
        """Return the characters."""
        return text


class PhonemeErrorRate(ErrorRate):
    """Phoneme error rate: units are what stands between spaces, a phoneme each."""

    name = "phoneme_error_rate"
    heading = "PER"
    abbreviates = "phoneme error rate"

    def units(self, text: str) -> Sequence[str]:
        """Return the phonemes."""
        return text.split()
