"""What dev and test share with train, against a plain search that compares every two places."""

import csv
import random
import unicodedata
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from helpers import CONF, compose_config, run_script
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from hourglass.corpora import overlap as overlap_module
from hourglass.corpora.cleaning import Tally, normalise
from hourglass.corpora.corpus import Corpus, check_recipe, pair_facts
from hourglass.corpora.overlap import (
    NGRAM,
    OverlapFacts,
    SideOverlap,
    corpus_overlap,
    folded_words,
    measure_overlap,
)
from hourglass.corpora.recipes import RECIPES

LINE = "one two three four five six seven eight nine ten"


def covered_words(words: list[str], train: list[list[str]]) -> int:
    """Mark every word of every n-gram that some place in train spells: quadratic, by the definition."""
    marks = [False] * len(words)
    for start in range(len(words) - NGRAM + 1):
        for other in train:
            for place in range(len(other) - NGRAM + 1):
                if all(words[start + i] == other[place + i] for i in range(NGRAM)):
                    marks[start : start + NGRAM] = [True] * NGRAM
    return sum(marks)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_overlap_is_that_of_a_plain_search(language: str) -> None:
    choose = random.Random(0)
    between = "" if language == "zh" else " "

    def sentences(number: int) -> list[list[str]]:
        """Runs of one word with another here and there, so that many passages are shared in part."""
        return [
            ["国" if choose.random() < 0.9 else "学" for _ in range(choose.randrange(1, 30))] for _ in range(number)
        ]

    train, dev, test = sentences(4), sentences(25), sentences(40)
    measured = measure_overlap(
        {"dev": map(between.join, dev), "test": map(between.join, test)}, map(between.join, train), language
    )
    for own, split in ((dev, measured["dev"]), (test, measured["test"])):
        assert split.words == [len(words) for words in own]
        assert split.covered == [covered_words(words, train) for words in own]
    kinds = {(covered > 0) + (covered == words) for covered, words in zip(split.covered, split.words, strict=True)}
    assert kinds == {0, 1, 2}, "the sentences do not cover every case"


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        (LINE, 10),
        ("ONE, two; three: (four) five - six 'seven' eight!", 8),  # Case and punctuation, alone or at a word.
        ("one two three four five six se-ven eight", 8),  # A hyphen divides no word.
        ("one two three four five six seven eleven eight", 0),
        ("one two three four five six seven", 0),  # Shorter than an n-gram.
        ("eight seven six five four three two one", 0),
        (f"zero {LINE}", 10),
        ("two three four five six seven eight nine zero one two three four five six seven eight", 16),
        ("one two three four five six seven eightnine ten", 0),
        ("\uff4f\uff4e\uff45 two three four five six seven eight", 8),  # Full-width letters, by NFKC.
    ],
    ids=["same", "case", "hyphen", "word", "short", "order", "longer", "twice", "space", "width"],
)
def test_what_counts_as_shared(text: str, covered: int) -> None:
    assert measure_overlap({"test": [text]}, ["nothing", LINE], "en")["test"].covered == [covered]


@given(st.text(alphabet=st.characters(categories=["L", "M", "N", "P", "S", "Z", "Cc", "Cf"])))
def test_words_are_folded_as_the_leak_search_folds_sentences(text: str) -> None:
    def letters(part: str) -> str:
        folded = unicodedata.normalize("NFKC", part).casefold()
        return "".join(letter for letter in folded if unicodedata.category(letter)[0] in "LMN")

    assert folded_words(text, "en") == [normalise(word) for word in text.split() if letters(word)]
    lines = "\n".join(text.split())  # As NFKC may join a mark to a space before it.
    assert folded_words(text, "zh") == list(letters(lines))


def test_facts_count_sentences_and_words() -> None:
    own = SideOverlap(words=[0, 7, 8, 16, 17, 20], covered=[0, 0, 8, 8, 8, 0])
    assert own.facts == OverlapFacts(sentences=6, short=2, sharing=3, half_covered=2, words=68, covered=24)


def test_a_corpus_is_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sentence is lost between two batches, and each side is compared with its own, which differs in a word."""
    monkeypatch.setattr(overlap_module, "ROWS_AT_ONCE", 2)
    texts = [f"{number} {LINE}" for number in range(5)]
    splits = {
        split: Dataset.from_dict({"source": own, "target": own[::-1], "id": own})
        for split, own in (("train", texts), ("dev", texts[:3]), ("test", ["x"] * 3 + texts[4:]))
    }
    splits["train"] = splits["train"].map(lambda row: {"target": row["target"].replace("one", "uno")})
    _, recipe = check_recipe(compose_config("data=numbers")["data"])
    facts = pair_facts("numbers", recipe, Tally())
    corpus = Corpus(DatasetDict(splits), "digest", "en", "en", facts, Path())
    overlap = corpus_overlap(corpus)
    assert overlap.ids == {"dev": texts[:3], "test": ["x"] * 3 + texts[4:]}
    assert overlap.sides["dev"]["source"].covered == [11] * 3
    assert overlap.sides["test"]["source"].covered == [0, 0, 0, 11]
    assert overlap.sides["test"]["target"].covered == [9, 0, 0, 0]


def test_the_command_prints_the_overlap_of_any_corpus(tmp_path: Path) -> None:
    """Sources with sources and targets with targets, in either split, in batches; and a file of all sentences."""
    rows = {
        "train": [("x", f"{LINE} eleven"), (f"y {LINE}", "z")] + [(f"a{i}", f"b{i}") for i in range(30)],
        "dev": [(f"{LINE} w", "one"), ("two", "three")],
        "test": [("p", f"q {LINE} r s"), (f"{LINE} t", LINE.replace("one", "a")), ("u", "v")],
    }
    for split, pairs in rows.items():
        (tmp_path / f"{split}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    words = ["data=text", "data.source=en", "data.target=fr", *(f"data.{split}={split}.tsv" for split in rows)]
    done = run_script("pipelines/overlap.py", *words, "out=sentences.tsv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = {tuple(line.split()[:2]): line.split()[2:] for line in done.stdout.splitlines()[1:5]}
    assert printed == {
        ("dev", "source"): ["2", "1", "1", "50.0", "1", "50.0", "83.3"],
        ("dev", "target"): ["2", "2", "0", "0.0", "0", "0.0", "0.0"],
        ("test", "source"): ["3", "2", "1", "33.3", "1", "33.3", "76.9"],
        ("test", "target"): ["3", "1", "2", "66.7", "2", "66.7", "79.2"],
    }
    assert "no leak" not in done.stdout
    with (tmp_path / "sentences.tsv").open() as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    covered = {(row["split"], row["id"]): (row["source_covered"], row["target_covered"]) for row in listed}
    assert covered == {
        ("dev", "dev-1"): ("10", "0"),
        ("dev", "dev-2"): ("0", "0"),
        ("test", "test-1"): ("0", "10"),
        ("test", "test-2"): ("10", "9"),
        ("test", "test-3"): ("0", "0"),
    }
    assert [row["target_words"] for row in listed] == ["1", "1", "13", "10", "1"]


def test_a_made_corpus_is_not_said_to_leak(tmp_path: Path) -> None:
    sizes = ["data.train_pairs=50", "data.dev_pairs=20", "data.test_pairs=20", "data.symbols=2", "data.longest=10"]
    done = run_script("pipelines/overlap.py", "data=copy", *sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no leak" in done.stdout


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "data").glob("*.yaml")))
def test_the_command_composes_with_every_corpus(name: str) -> None:
    """Also with those that choose a tokenizer or metrics of their own."""
    with initialize_config_dir(str(CONF)):
        assert compose("overlap", [f"data={name}"]).data.name in RECIPES
