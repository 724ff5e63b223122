"""Corpora that ask about a part of the source after it: against a plain reading of their text."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import compose_config

from hourglass.corpora.cleaning import Tally, clean_pairs
from hourglass.corpora.corpus import check_recipe, load_corpus, prefixes_of
from hourglass.corpora.recipe import SPLITS, Pair, Recipe
from hourglass.data.encoded import EncodedSplit, encode_corpus
from hourglass.data.tokenizer import train_vocabularies
from hourglass.errors import UserError
from hourglass.training.settings import check_settings

SIZES = ("data.train_pairs=400", "data.dev_pairs=60", "data.test_pairs=120")


def recipe_of(*overrides: str) -> Recipe:
    return check_recipe(compose_config(*overrides)["data"])[1]


def answer(name: str, source: str, query: str) -> tuple[str, int]:
    """Return the answer to a query by reading the source from left to right, and the size of the item."""
    if name == "recall":
        words = re.findall(r"[kv]\d+", source)
        entries = dict(zip(words[::2], words[1::2], strict=True))
        assert len(entries) == len(words) // 2, "the keys are distinct"
        return entries[query], len(entries)
    if name == "phone_book":
        found = re.findall(r"(f\d+ l\d+) ((?:\d ){6}\d)", source)
        assert " ".join(map(" ".join, found)) == source
        assert len(dict(found)) == len(found)
        return dict(found)[query], len(found)
    after = re.findall(rf"(?<!\S)(?={re.escape(query)}(?: (\S+)|$))", source)
    assert len(after) == 1, "the query occurs once"
    return after[0], len(source.split())


@pytest.mark.parametrize(
    ("name", "smallest", "largest"), [("recall", 4, 16), ("phone_book", 2, 12), ("ngram_lookup", 8, 32)]
)
def test_the_answer_is_in_the_source_and_sizes_are_balanced(name: str, smallest: int, largest: int) -> None:
    recipe = recipe_of(f"data={name}", "data.test_pairs=1500")
    sizes: Counter[int] = Counter()
    for pair in recipe.pairs("test"):
        assert pair.prefix is not None
        expected, size = answer(name, pair.source, pair.prefix)
        assert pair.target == expected
        sizes[size] += 1
    assert set(sizes) == set(range(smallest, largest + 1))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert [next(recipe.pairs(split)).source for split in SPLITS] != [next(recipe.pairs("dev")).source] * 3


def test_an_entry_of_one_word_is_its_key_and_its_value_in_a_row() -> None:
    recipes: Any = [recipe_of("data=recall", f"data.entry_words={words}") for words in (1, 2)]
    for joined, apart in zip(*(recipe.pairs("test") for recipe in recipes), strict=True):
        assert joined.source == re.sub(r"(k\d+) (v\d+)", r"\1\2", apart.source)
        assert (joined.prefix, joined.target) == (apart.prefix, apart.target)
        assert recipes[0].place(joined.source, joined.prefix) == recipes[1].place(apart.source, apart.prefix)
    assert [recipe.all_symbols for recipe in recipes] == [64 + 64 + 64 * 64, 64 + 64]


def test_values_and_queries_are_uniform_and_values_independent() -> None:
    recipe: Any = recipe_of(
        "data=recall", "data.values=8", "data.keys=8", "data.fewest=4", "data.most=4", "data.dev_pairs=8000"
    )
    rows = [(pair.source.split(), pair.prefix) for pair in recipe.pairs("dev")]
    values = np.array([[int(word[1:]) for word in words[1::2]] for words, _ in rows])
    places = np.array([recipe.place(" ".join(words), prefix)[1] for words, prefix in rows])
    assert all(words[2 * at] == prefix for (words, prefix), at in zip(rows, places, strict=True))
    joint = np.zeros((8, 8))
    np.add.at(joint, (values[:, 0], values[:, 1]), 1)
    for counts in (np.bincount(places, minlength=4), np.bincount(values.ravel(), minlength=8), joint.ravel()):
        expected = counts.sum() / len(counts)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_a_corpus_keeps_prefixes_and_one_without_has_no_such_column(tmp_path: Path) -> None:
    config = compose_config("data=recall", *SIZES)
    corpus = load_corpus(config["data"], tmp_path)
    settings = check_settings(config)
    vocabularies = train_vocabularies(settings.tokenizer, corpus.splits["train"], corpus.digest, tmp_path)
    splits = encode_corpus(corpus, vocabularies, tmp_path)
    assert vocabularies.target.size == 4 + 64 + 64
    split = splits["test"]
    given = prefixes_of(corpus.splits["test"])
    assert given == [pair.prefix for pair in recipe_of("data=recall", *SIZES).pairs("test")]
    texts = [f"{prefix} {target}" for prefix, target in zip(given, corpus.splits["test"]["target"], strict=True)]
    rows = np.arange(len(split))
    assert vocabularies.target.decode([ids.tolist() for ids in split.target_ids.rows(rows)]) == texts
    assert split.prefix_lengths is not None
    assert split.prefix_lengths.tolist() == [1] * len(split)
    assert split.loss_tokens(rows[:5]) == 10  # The answer and its end.
    again = EncodedSplit(split.file)
    assert again.prefix_lengths is not None
    plain = load_corpus(compose_config("data=copy", *SIZES)["data"], tmp_path)
    assert plain.splits["test"].column_names == ["source", "target", "id", "source_words"]
    assert prefixes_of(plain.splits["test"]) is None
    changed = {**config["data"], "seed": 1}
    assert load_corpus(changed, tmp_path).digest != corpus.digest


def test_a_recipe_gives_every_pair_a_prefix_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of("data=recall")
    monkeypatch.setattr(type(recipe), "pairs", lambda *_: iter([Pair("a", "k1 v1", "v1", ("a", "b"))]))
    with pytest.raises(UserError, match=r"b: no prefix, and Recall.has_prefixes is True"):
        list(clean_pairs(recipe, "test", Tally()))


CALIBRATED = ("data.calibrated=true", "optimizer.label_smoothing=0", "attention=none", "encoder.summary_size=16")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=recall", "data.most=65"],
            r"data.most=65 entries need .* there are 64 \(data.keys\): lower data.most or",
        ),
        (["data=recall", "data.fewest=17"], r"data.fewest=17 is more than data.most=16: lower it"),
        (["data=recall", "data.values=1"], r"data.values=1: input should be greater than or equal to 2"),
        (
            ["data=phone_book", "data.first_names=2", "data.last_names=5"],
            r"data.most=12 entries .* there are 10 \(data.f",
        ),
        (["data=ngram_lookup", "data.n=8"], r"data.shortest=8: no symbol follows data.n=8 others: set data.shortest=9"),
        (
            ["data=ngram_lookup", "data.symbols=5"],
            r"data.longest=32: there are 25 sequences of data.n=2 symbols, too few",
        ),
        (
            ["data=recall", "data.fewest=1", *CALIBRATED],
            r"data.calibrated=true: there are 4,096 sources of data.fewest=1",
        ),
        (
            ["data=recall", "data.vocabulary_size=99", "trainer.target_tokens=9000", *CALIBRATED],
            r"data.vocabulary_size=99 .* are the 128 symbols and 4 special ones: set data.vocabulary_size=132",
        ),
        (
            ["data=recall", "trainer.target_tokens=100000", *CALIBRATED],
            r"data.train_pairs=50000 .* read more than once",
        ),
    ],
)
def test_settings_that_fit_no_item_or_no_bound_are_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        check_settings(compose_config(*overrides))
    assert "\n" not in str(refused.value)
