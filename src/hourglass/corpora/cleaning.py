"""Clean the pairs of a corpus, and count the dropped ones."""

import functools
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hourglass.corpora.features import check_features
from hourglass.corpora.languages import count_words
from hourglass.corpora.recipe import FEATURES, SPLITS, Pair, Recipe, Split
from hourglass.errors import UserError

# A training sentence of more characters than this times the limit in words is too long, however few its words.
CHARACTERS_A_WORD = 20


def normalise(text: str) -> str:
    """Return a sentence without case, spaces, punctuation and variants of Unicode (NFKC), to find duplicates.

    Only letters, their marks and numbers remain; a sentence without any remains as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(not_letters()) or folded


@functools.cache
def not_letters() -> dict[int, None]:
    """Return a translation table that deletes punctuation, symbols, separators and control characters."""
    categories = ((code, unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1))
    return {code: None for code, category in categories if category[0] in "PSZ" or category in ("Cc", "Cf")}


@dataclass
class Tally:
    """Counts over the splits of a corpus, which are cleaned one after another.

    Attributes:
        held_out: the normalised sentences of test and dev, and their parts, on either side.
        pairs: pairs kept, by split.
        source_words: words of their sources.
        target_words: words of their targets.
        dropped: pairs dropped from train, and from splits that are taken from it, by reason.
        dev_pairs_in_test: dev pairs with a sentence, or part of one, that is also in test.
    """

    held_out: set[str] = field(default_factory=set)
    pairs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    source_words: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    target_words: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    dropped: dict[str, int] = field(default_factory=lambda: {"leak": 0, "empty": 0, "too long": 0})
    dev_pairs_in_test: int = 0


def clean_pairs(recipe: Recipe, split: Split, tally: Tally) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, and count them; only pairs of train, and of splits taken from it, are dropped.

    Raises:
        UserError: a side or a further reference of a dev or test pair is empty, or a pair has a prefix and the recipe
            has none, or the reverse; or features are not as wide as the recipe says, or not finite.
    """
    own: set[str] = set()
    may_drop = split == "train" or split in recipe.taken()
    for pair in recipe.pairs(split):
        # One space between words, and no line end or tab, so that a sentence is always one line of a file.
        source, target = " ".join(pair.source.split()), " ".join(pair.target.split())
        others = [" ".join(text.split()) for text in pair.alternatives]
        if not source or not target or not all(others):
            if not may_drop:
                what = "side" if not source or not target else "further reference"
                raise UserError(
                    f"{pair.places[0] if not source else pair.places[1]}: an empty {what}, and {split} pairs are never "
                    f"dropped: fill it in or remove the {'pair' if what == 'side' else 'reference'}"
                )
            tally.dropped["empty"] += 1
            continue
        prefix = None if pair.prefix is None else " ".join(pair.prefix.split())
        if bool(prefix) != recipe.has_prefixes:
            raise UserError(
                f"{pair.places[1]}: {'a' if prefix else 'no'} prefix, and {type(recipe).__name__}.has_prefixes is "
                f"{recipe.has_prefixes}: a recipe gives every pair a prefix, or none"
            )
        source_words = count_words(source, recipe.source) if pair.length is None else pair.length
        target_words = count_words(target, recipe.target)
        if split == "train" and _too_long(recipe, (source_words, target_words), (source, target)):
            tally.dropped["too long"] += 1
            continue
        if recipe.removes_leaks:
            sentences = {normalise(text) for text in _searched(recipe, pair, source, target)}
            if not sentences.isdisjoint(tally.held_out):
                if may_drop:
                    tally.dropped["leak"] += 1
                    continue
                tally.dev_pairs_in_test += 1
            if split != "train":
                own |= sentences
        tally.pairs[split] += 1
        tally.source_words[split] += source_words
        tally.target_words[split] += target_words
        row = {"source": source, "target": target, "id": pair.id, "source_words": source_words}
        if recipe.has_alternatives:
            row["alternatives"] = others
        if recipe.has_features:
            row[FEATURES] = check_features(pair.features, getattr(recipe, "feature_size", None), pair.places[0])
        yield row if prefix is None else {**row, "prefix": prefix}
    tally.held_out |= own


def _searched(recipe: Recipe, pair: Pair, source: str, target: str) -> set[str]:
    """Return the texts of a pair that must not be in train and in dev or test: its sides, and those of its parts."""
    sides = {"source": 0, "target": 1}
    texts = [(source, target), *pair.parts, *((source, other) for other in pair.alternatives)]
    return {text[sides[side]] for text in texts for side in recipe.leak_sides}


def _too_long(recipe: Recipe, words: tuple[int, int], texts: tuple[str, str]) -> bool:
    """Return whether a side has too many words, or far too many characters, as a word may be of any length."""
    if recipe.limit is None:
        return False
    return max(words) > recipe.limit or max(map(len, texts)) > CHARACTERS_A_WORD * recipe.limit
