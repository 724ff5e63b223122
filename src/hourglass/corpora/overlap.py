"""How much of dev and test stands word for word in train: n-grams of eight words that a training sentence has, too.

The leak search (corpora/cleaning.py) drops training pairs that share a whole sentence with dev or test. A test sentence
may still share long passages with training sentences: a model that has learnt them by heart needs neither a summary nor
attention to translate them. Large language models are examined likewise, by shared n-grams of 8 to 13 words (Brown et
al. 2020, appendix C) or of 8 (Chowdhery et al. 2022, section 8), with scores of the clean part beside the whole.

Sources are compared with training sources, and targets with training targets.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hourglass.corpora.cleaning import not_letters
from hourglass.corpora.corpus import ROWS_AT_ONCE, Corpus
from hourglass.corpora.languages import words_of

# Words of an n-gram.
NGRAM = 8
# Part of the file that holds a `CorpusOverlap`: add 1 whenever that changes its fields or their meaning.
OVERLAP_VERSION = 1

HeldOut = Literal["dev", "test"]
Side = Literal["source", "target"]
HELD_OUT: tuple[HeldOut, ...] = ("dev", "test")
SIDES: tuple[Side, ...] = ("source", "target")


@dataclass(frozen=True)
class OverlapFacts:
    """What one side of dev or test shares with the same side of train, in numbers.

    Attributes:
        sentences: all of them.
        short: those of fewer than `NGRAM` words, which have no n-gram and so share none.
        sharing: those that share an n-gram.
        half_covered: those with at least half of their words in shared n-grams.
        words: of all sentences, as `folded_words` counts them.
        covered: words in shared n-grams.
    """

    sentences: int
    short: int
    sharing: int
    half_covered: int
    words: int
    covered: int


@dataclass(frozen=True)
class SideOverlap:
    """What each sentence of one side of dev or test shares with the same side of train; N sentences, in their order.

    Attributes:
        words: [N] of `folded_words`.
        covered: [N] words in n-grams that a training sentence has; 0: it shares none.
    """

    words: list[int]
    covered: list[int]

    @property
    def facts(self) -> OverlapFacts:
        """The sums over all sentences."""
        return OverlapFacts(
            sentences=len(self.words),
            short=sum(words < NGRAM for words in self.words),
            sharing=sum(covered > 0 for covered in self.covered),
            half_covered=sum(0 < words <= 2 * own for words, own in zip(self.words, self.covered, strict=True)),
            words=sum(self.words),
            covered=sum(self.covered),
        )


@dataclass(frozen=True)
class CorpusOverlap:
    """What each sentence of dev and test shares with train.

    Attributes:
        digest: of the corpus.
        ids: of the sentences, by split, in their order.
        sides: by split and side.
    """

    digest: str
    ids: dict[HeldOut, list[str]]
    sides: dict[HeldOut, dict[Side, SideOverlap]]

    @property
    def facts(self) -> dict[str, dict[str, OverlapFacts]]:
        """The sums over all sentences, by split and side."""
        return {split: {side: own.facts for side, own in sides.items()} for split, sides in self.sides.items()}


def folded_words(text: str, language: str) -> list[str]:
    """Return the words of a sentence (`words_of`), folded as the leak search folds sentences (`normalise`).

    Case, punctuation, symbols and variants of Unicode (NFKC) make no difference, and a word without letters, marks and
    digits is none.
    """
    # A line end between words, as NFKC makes spaces of some characters, which must not divide a word.
    lines = unicodedata.normalize("NFKC", "\n".join(text.split())).casefold().translate(_not_letters_or_line_ends())
    return words_of(lines, language)


@functools.cache
def _not_letters_or_line_ends() -> dict[int, None]:
    return {code: None for code in not_letters() if code != ord("\n")}


def measure_overlap(
    held_out: Mapping[HeldOut, Iterable[str]], train: Iterable[str], language: str
) -> dict[HeldOut, SideOverlap]:
    """Return what each sentence of dev and test shares with a training sentence.

    Train is read once and not kept: the memory is that of the n-grams of dev and test. A sentence of fewer than `NGRAM`
    words has no n-gram, and so shares none: many of them are phrases that long sentences are made of, and a training
    sentence that is the same as a whole has been dropped by the leak search.

    Args:
        held_out: sentences of one side, by split.
        train: the training sentences of that side.
        language: of that side; decides what a word is.
    """
    folded = {split: [folded_words(text, language) for text in texts] for split, texts in held_out.items()}
    wanted = {ngram for sentences in folded.values() for words in sentences for ngram in _ngrams(words)}
    shared: set[tuple[str, ...]] = set()
    for text in train:
        shared.update(wanted.intersection(_ngrams(folded_words(text, language))))
    return {
        split: SideOverlap([len(words) for words in sentences], [_count_covered(words, shared) for words in sentences])
        for split, sentences in folded.items()
    }


def _ngrams(words: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(NGRAM)), strict=False)


def _count_covered(words: list[str], shared: set[tuple[str, ...]]) -> int:
    """Return the number of words that lie in a shared n-gram."""
    covered = end = 0
    for start, ngram in enumerate(_ngrams(words)):
        if ngram in shared:
            covered += start + NGRAM - max(start, end)
            end = start + NGRAM
    return covered


def corpus_overlap(corpus: Corpus) -> CorpusOverlap:
    """Return what each sentence of dev and test shares with train: minutes for a corpus of 10 million pairs."""
    languages: dict[Side, str] = {"source": corpus.source_language, "target": corpus.target_language}
    by_side = {
        side: measure_overlap(
            {split: _texts(corpus, split, side) for split in HELD_OUT}, _texts(corpus, "train", side), language
        )
        for side, language in languages.items()
    }
    return CorpusOverlap(
        digest=corpus.digest,
        ids={split: list(_texts(corpus, split, "id")) for split in HELD_OUT},
        sides={split: {side: by_side[side][split] for side in SIDES} for split in HELD_OUT},
    )


def _texts(corpus: Corpus, split: str, column: str) -> Iterator[str]:
    """Yield the texts of a column, of which `ROWS_AT_ONCE` are in memory at a time."""
    for batch in corpus.splits[split].select_columns(column).iter(ROWS_AT_ONCE):
        yield from batch[column]
