"""Bits that the source gives about each word of the references of test, by a model trained with nulled sources.

Shapes: N test sentences, W words of a reference, T target tokens.
"""

from dataclasses import dataclass

import numpy as np

from hourglass.analysis.likelihoods import best_temperature, encode_split, read_pointwise
from hourglass.corpora.languages import words_of
from hourglass.decoding.word_alignment import words_of_pieces
from hourglass.metrics.likelihood import reference_nats
from hourglass.metrics.nulled import check_nulled, null_share
from hourglass.training.finished import FinishedRun


@dataclass(frozen=True)
class NulledSentence:
    """A test sentence.

    Attributes:
        id: of the corpus.
        source_words: number of words of the source.
        words: W words of the reference.
        bits: [W] that the source gives about each word.
        end_bits: that it gives about the end of the sentence.
    """

    id: str
    source_words: int
    words: list[str]
    bits: np.ndarray
    end_bits: float

    @property
    def total(self) -> float:
        """Bits about the whole reference."""
        return float(self.bits.sum()) + self.end_bits


@dataclass(frozen=True)
class NulledReading:
    """What the sources of test give about the references, by one run.

    Attributes:
        share: of the training items that the run has read without source.
        temperatures: that divide the logits, fitted on dev with and without sources; 1 without label smoothing.
        sentences: N.
    """

    share: float
    temperatures: tuple[float, float]
    sentences: list[NulledSentence]


def read_nulled(run: FinishedRun) -> NulledReading:
    """Read the references of test with and without their sources, by the run's best checkpoint.

    Raises:
        UserError: the run has never read an empty source, or a temperature lies at the bound of its search.
    """
    check_nulled(str(run.path), run.config)
    trained, prepared = run.trained, run.prepared
    dev, test = (encode_split(trained, prepared, name) for name in ("dev", "test"))
    temperature = best_temperature(run, trained, dev)
    nats = reference_nats(trained.model, test, temperature=temperature)
    information, nulled_temperature = read_pointwise(run, trained, dev, test, nats)
    split, language = prepared.corpus.splits["test"], prepared.corpus.target_language
    references: list[str] = split["target"][:]
    offsets = map(trained.vocabularies.target.offsets, references)
    owners = [words_of_pieces(text, spans, language) for text, spans in zip(references, offsets, strict=True)]
    words = [words_of(text, language) for text in references]
    columns = split["id"][:], split["source_words"][:], words, information.words(owners), information.ends.tolist()
    sentences = [NulledSentence(*row) for row in zip(*columns, strict=True)]
    return NulledReading(null_share(run.config), (temperature, nulled_temperature), sentences)
