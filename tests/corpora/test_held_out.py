"""Dev and test that are taken from train: fixed, disjoint, and said."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hourglass.corpora.cleaning import normalise
from hourglass.corpora.corpus import Corpus, check_leaks, load_corpus
from hourglass.corpora.held_out import MOST, SHARE, share_of, split_of, take
from hourglass.corpora.recipe import SPLITS, Pair, Split
from hourglass.errors import UserError

TAKEN: list[Split] = ["dev", "test"]
WORDS = ["dog", "cat", "house", "river", "small", "big", "runs", "sleeps"]


def make_lines(count: int) -> list[str]:
    """Return pairs of which many share a source or a target with others, or differ in case alone; a few are empty."""
    draw = random.Random(1)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(2, 5))) for _ in range(2 * count)]
    pairs = [
        (source if draw.random() < 0.9 else source.upper(), target)
        for source, target in zip(texts[::2], texts[1::2], strict=True)
    ]
    return [
        f"{source}\t{target}"
        for source, target in [*pairs, *draw.choices(pairs, k=count // 4), ("dog", ""), ("", "cat")]
    ]


def load(folder: Path, lines: list[str], **changes: Any) -> Corpus:
    (folder / "train.tsv").write_text("".join(f"{line}\n" for line in lines))
    options = {"name": "text", "source": "en", "target": "en", "longest": 100, "train": str(folder / "train.tsv")}
    return load_corpus({**options, "dev": None, "test": None, **changes}, folder / "cache")


def pairs_of(corpus: Corpus, split: str) -> list[tuple[str, str]]:
    rows = corpus.splits[split]
    return list(zip(rows["source"], rows["target"], strict=True))


def sentences_of(corpus: Corpus, split: str) -> set[str]:
    return {normalise(text) for pair in pairs_of(corpus, split) for text in pair}


def test_no_sentence_is_in_two_splits_and_a_line_says_how_many_each_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = make_lines(1000)
    for _ in range(2):  # Built, and from the cache.
        caplog.clear()
        with caplog.at_level("INFO"):
            corpus = load(tmp_path, lines)
        counts = {split: len(corpus.splits[split]) for split in SPLITS}
        assert (
            f"data.dev and data.test: not set: {counts['dev']} dev and {counts['test']} test pairs of data.train are "
            "held out, by a hash of the source; no sentence is in two splits"
        ) in caplog.messages
    assert check_leaks(corpus) == 0
    assert not sentences_of(corpus, "dev") & sentences_of(corpus, "test")
    assert corpus.facts.dev_pairs_in_test == 0
    assert corpus.facts.dropped["empty"] == 2
    assert sum(counts.values()) + sum(corpus.facts.dropped.values()) == len(lines)
    assert all(20 < counts[split] < 110 for split in ("dev", "test"))
    assert all(line in lines for split in SPLITS for line in map("\t".join, pairs_of(corpus, split)))


def test_the_order_of_the_file_and_more_pairs_move_nothing_between_dev_and_test(tmp_path: Path) -> None:
    lines = make_lines(400)
    first = load(tmp_path, lines)
    other = load(tmp_path, random.Random(2).sample(lines, len(lines)))
    for split in SPLITS:
        assert sorted(pairs_of(first, split)) == sorted(pairs_of(other, split))
    texts = [f"sentence {number}" for number in range(2000)]
    for large, small in ((0.05, 0.01), (0.05, 0.0499)):
        wide, narrow = ([split_of(text, share, TAKEN) for text in texts] for share in (large, small))
        assert all(after in (before, "train") for before, after in zip(wide, narrow, strict=True))
    assert split_of("Ein Hund.", 0.5, TAKEN) == split_of("ein hund", 0.5, TAKEN)


def test_shares_are_those_that_are_documented() -> None:
    texts = [f"sentence {number}" for number in range(20_000)]
    splits = [split_of(text, share_of(len(texts)), TAKEN) for text in texts]
    assert share_of(len(texts)) == SHARE == 1 / 20
    for split in ("dev", "test"):
        assert splits.count(split) == pytest.approx(1000, abs=130)  # Four standard deviations.
    assert share_of(4_500_000) * 4_500_000 == pytest.approx(MOST)


@pytest.mark.parametrize("given", ["dev", "test"])
def test_a_split_that_is_given_is_kept_and_the_other_is_taken(given: str, tmp_path: Path) -> None:
    lines = make_lines(600)
    (tmp_path / "given.tsv").write_text("".join(f"{line}\n" for line in lines[:40]))
    corpus = load(tmp_path, lines, **{given: str(tmp_path / "given.tsv")})
    assert list(map("\t".join, pairs_of(corpus, given))) == lines[:40]
    assert check_leaks(corpus) == 0
    assert not sentences_of(corpus, "dev") & sentences_of(corpus, "test")


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair in (dev|test) .*: train has too few .*: set data.(dev|test)$"):
        load(tmp_path, ["a dog\tein Hund", "a cat\teine Katze"])


def test_a_dataset_with_train_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = [line.split("\t") for line in make_lines(600)]
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({"translation": {"de": source, "en": target}}) + "\n" for source, target in rows)
    )
    options = {"name": "hub", "source": "de", "target": "en", "longest": 100, "path": str(folder), "config": None}
    options |= {"revision": None, "train": "train", "dev": None, "test": None}
    corpus = load_corpus(options, tmp_path / "cache")
    own = load(tmp_path, ["\t".join(row) for row in rows])
    for split in SPLITS:
        assert pairs_of(corpus, split) == pairs_of(own, split)


def test_pairs_keep_their_ids() -> None:
    def read() -> Iterator[Pair]:
        return (Pair(f"train-{number}", f"text {number}", "x", ("", "")) for number in range(400))

    taken = {split: [pair.id for pair in take(read, split, TAKEN[:1])] for split in SPLITS}
    assert taken["test"] == []
    assert sorted(taken["train"] + taken["dev"]) == sorted(pair.id for pair in read())
    assert taken["dev"]
