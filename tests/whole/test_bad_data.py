"""Bad data: any bytes in a corpus or in an input to translate give the right result or an error of one clear line.

What is right is said a second time here, as plainly as possible: by splitting bytes and comparing letter by letter.
"""

import codecs
import gzip
import io
import random
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from helpers import (
    character_vocabularies,
    checkpoint_content,
    compose_config,
    plain_search,
    run_script_bytes,
    tiny_model,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import translate as command_line
from hourglass.corpora.corpus import check_leaks, load_corpus
from hourglass.corpora.recipe import SPLITS
from hourglass.data.pieces import EOS
from hourglass.data.tokenizer import Tokenizer, Vocabularies
from hourglass.decoding import translate as translate_module
from hourglass.decoding.search import Hypothesis, SearchSettings
from hourglass.decoding.translate import translate
from hourglass.errors import UserError
from hourglass.models.seq2seq import Seq2Seq
from hourglass.training.saving import WholeFiles

# All white space by Python's definition, which is also this project's.
SPACE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
LIMIT = 100  # data.longest
ODD = [
    "",
    " ",
    "\u00a0\u3000",
    "Hund",
    "hund!",
    "\ufeffa mark within",
    "\ufeff",
    "a\u2028b\u0085c\x0bd\x0ce\x1cf\u2029g",
    "an old\rMac",
    "\r",
    "שלום עולם",
    "\u202eabc\u202c \u2067אבג\u2069",
    "e\u0301\u0302\u0303\u0327" * 4,
    "\u0301",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \U0001f44d\U0001f3fd",
    "\u200b",
    "<s> </s> <pad> <unk>",
    "\u2581",
    "\x01\x1b[31m\x7f\x9b",
    "\ue000\U0010ffff\ufffe",
    "𓀀 ꙮ ᚠ ༀ",
    "ﬁ ① Ⅷ İ ß",
    "w" * 100_000,
    "w " * 50_000,
    "\u0430" * 2_001,
]
LETTERS = st.characters(codec="utf-8", exclude_characters="\n\t\0")
TEXT = st.text(LETTERS, max_size=8) | st.sampled_from(ODD)
NO_UTF8 = [
    b"\xff",
    b"\xc3",
    b"\xe2\x80",  # cut short
    b"\xc0\x80",
    b"\xe0\x80\xaf",  # overlong
    b"\xed\xa0\x80",
    b"\xed\xb0\x80",  # halves of a surrogate pair
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"a\x80",
    "ä".encode("latin-1"),
]
DEFECTS = ["bytes", "nul", "columns", "uneven", "no bytes", "cut gz", "carriage returns", "line end within"]


# Each example is a whole list, and the model is slow.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


# ---- Corpora ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """A split as one TSV file or two aligned files: names, and bytes before compression."""

    contents: dict[str, bytes]
    cut: bool  # the last file is a .gz file without its end


@st.composite
def splits(draw: Any, split: str, other_lines: list[tuple[str, str]]) -> Files:
    """Draw the files of a split, with some lines of another split, and perhaps one defect."""
    defect = draw(st.none() | st.none() | st.none() | st.sampled_from(DEFECTS))
    filled = TEXT if split == "train" else TEXT.filter(lambda text: re.fullmatch(SPACE, text) is None and text != "")
    lines = draw(st.lists(st.tuples(filled, filled), min_size=1, max_size=6))
    lines += draw(st.lists(st.sampled_from(other_lines), max_size=3)) if other_lines else []
    other_lines += lines
    tsv = draw(st.booleans())
    ends = draw(st.lists(st.sampled_from(["\n", "\r\n"]), min_size=len(lines), max_size=len(lines)))
    ends[-1] = draw(st.sampled_from(["\n", "\r\n", ""]))
    if defect == "columns":
        lines[0] = (lines[0][0], lines[0][1] + draw(st.sampled_from(["\t", "\tc"])))
    if defect == "line end within":
        lines[-1] = (lines[-1][0] + "\n", lines[-1][1])
    sides = ["".join(line[side] + end for line, end in zip(lines, ends, strict=True)) for side in (0, 1)]
    if tsv:
        sides = ["".join("\t".join(line) + end for line, end in zip(lines, ends, strict=True))]
    if defect == "carriage returns":
        sides = [re.sub("\r?\n", "\r", side) for side in sides]
    contents = [side.encode() for side in sides]
    if draw(st.booleans()):
        contents[0] = codecs.BOM_UTF8 + contents[0]
    last = contents[-1]
    if defect == "bytes":
        place = draw(st.integers(0, min(20, len(last))))
        contents[-1] = last[:place] + draw(st.sampled_from(NO_UTF8)) + last[place:]
    if defect == "nul":
        contents[-1] = b"a\0" + last
    if defect == "uneven":
        contents[-1] = last.rstrip(b"\r\n") + b"\none more" + (b"\tc" if tsv else b"")
    if defect == "no bytes":
        contents[-1] = b""
    names = [f"{split}.tsv"] if tsv else [f"{split}.de", f"{split}.en"]
    zipped = defect == "cut gz" or draw(st.booleans())
    names[-1] += ".gz" if zipped else ""
    return Files(dict(zip(names, contents, strict=True)), cut=defect == "cut gz")


@st.composite
def corpora(draw: Any) -> dict[str, Files]:
    lines: list[tuple[str, str]] = []
    return {split: draw(splits(split, lines)) for split in ("test", "dev", "train")}


@dataclass
class Expected:
    """The result that the documentation promises for the files."""

    rows: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=lambda: {"leak": 0, "empty": 0, "too long": 0})
    refusals: list[str] = field(default_factory=list)  # possible starts of the message


def naive_lines(name: str, content: bytes, refusals: list[str]) -> list[str]:
    """Split at line feeds only, and record all defects."""
    if not content:
        refusals.append(f"{name}: the file is empty")
    parts = content.split(b"\n")
    if parts[-1] == b"":
        parts.pop()
    lines = []
    if parts and parts[0][:3] == codecs.BOM_UTF8:
        parts[0] = parts[0][3:]
    for number, part in enumerate(parts, 1):
        try:
            line = part.decode()
        except UnicodeDecodeError:
            refusals.append(f"{name}:{number}: not UTF-8")
            line = "?"
        if "\0" in line:
            refusals.append(f"{name}:{number}: a NUL character")
        if b"\n" not in content and "\r" in line.rstrip("\r"):
            refusals.append(f"{name}:{number}: lines end in a carriage return alone")
        lines.append(line[:-1] if line.endswith("\r") else line)
    return lines


def bare(text: str) -> str:
    """Return the letters, marks and numbers of a text, by which sentences are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = [
        c for c in folded if unicodedata.category(c) not in ("Cc", "Cf") and unicodedata.category(c)[0] not in "PSZ"
    ]
    return "".join(kept) or folded


def expect(files: dict[str, Files], folder: Path) -> Expected:
    expected = Expected()
    held_out: set[str] = set()
    for split in ("test", "dev", "train"):
        names = {str(folder / name): content for name, content in files[split].contents.items()}
        sides = [naive_lines(name, content, expected.refusals) for name, content in names.items()]
        if files[split].cut:
            expected.refusals.append(f"{list(names)[-1]}:")
        if len(sides) == 2 and len(sides[0]) != len(sides[1]):
            expected.refusals.append(f"{next(iter(names))} has {len(sides[0])} lines and ")
        pairs = [line.split("\t") for line in sides[0]] if len(sides) == 1 else list(zip(*sides, strict=False))
        rows, seen = [], set()
        for number, pair in enumerate(pairs, 1):
            if len(pair) != 2:
                expected.refusals.append(f"{next(iter(names))}:{number}: {len(pair)} column")
                continue
            source, target = (re.sub(SPACE, " ", side).strip(" ") for side in pair)
            if not source or not target:
                expected.dropped["empty"] += 1
                if split != "train":
                    expected.refusals += [f"{name}:{number}: an empty side" for name in names]
                continue
            words, letters = (max(map(size, (source, target))) for size in (lambda text: text.count(" ") + 1, len))
            if split == "train" and (words > LIMIT or letters > 20 * LIMIT):
                expected.dropped["too long"] += 1
                continue
            if split == "train" and not held_out.isdisjoint({bare(source), bare(target)}):
                expected.dropped["leak"] += 1
                continue
            seen |= {bare(source), bare(target)}
            rows.append((f"{split}-{number}", source, target))
        held_out |= seen
        expected.rows[split] = rows
    if not expected.rows["train"]:
        expected.refusals.append("data.name=text: no pair in train")
    return expected


def write(files: Files, folder: Path) -> str:
    """Write the files of a split and return their path for the settings."""
    for name, content in files.contents.items():
        packed = gzip.compress(content) if name.endswith(".gz") else content
        last = name == list(files.contents)[-1]
        (folder / name).write_bytes(packed[:-9] if files.cut and last else packed)
    first = next(iter(files.contents))
    return str(folder / first) if first.startswith(("train.tsv", "dev.tsv", "test.tsv")) else str(folder / first)[:-3]


def check_corpus(files: dict[str, Files], options: dict[str, Any]) -> bool:
    """Check that the files give the expected corpus, or are refused for one of their defects."""
    folder = Path(tempfile.mkdtemp())
    try:
        paths = {split: write(files[split], folder) for split in files}
        expected = expect(files, folder)
        try:
            corpus = load_corpus({**options, **paths}, folder / "cache")
        except UserError as refusal:
            message = str(refusal)
            assert any(message.startswith(start) for start in expected.refusals), (message, expected.refusals)
            assert "\n" not in message
            assert not list(folder.glob("cache/*/*")), "nothing half-written"
            return False
        assert not expected.refusals
        for split in SPLITS:
            rows = corpus.splits[split]
            pairs = list(zip(rows["id"], rows["source"], rows["target"], strict=True))
            assert pairs == expected.rows[split], "pairs in order, unchanged but for white space"
        assert corpus.facts.dropped == expected.dropped
        lines = {split: len(naive_lines("", next(iter(files[split].contents.values())), [])) for split in SPLITS}
        kept = corpus.facts.pairs
        assert kept == {**lines, "train": lines["train"] - sum(expected.dropped.values())}, "counts add up"
        held_out = {bare(side) for split in ("dev", "test") for row in expected.rows[split] for side in row[1:]}
        for _, *pair in expected.rows["train"]:
            assert held_out.isdisjoint(map(bare, pair))
        assert check_leaks(corpus) == 0
        return True
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def text_options() -> dict[str, Any]:
    options = compose_config("data=text", "data.source=de", "data.target=en")["data"]
    assert options["longest"] == LIMIT
    return options


@pytest.mark.parametrize("examples", [30, pytest.param(120, marks=(pytest.mark.slow, pytest.mark.more))])
def test_any_files_become_the_expected_corpus_or_are_refused_by_line(
    examples: int, text_options: dict[str, Any]
) -> None:
    outcomes: list[bool] = []

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(corpora())
    def check(files: dict[str, Files]) -> None:
        outcomes.append(check_corpus(files, text_options))

    check()
    assert min(outcomes.count(True), outcomes.count(False)) > examples / 10, "both kinds of outcome were seen"


def plain_files(**contents: str | bytes) -> dict[str, Files]:
    """Return three TSV files, some of which the test replaces."""
    texts = {"train": "Hund\tdog\n", "dev": "Katze\tcat\n", "test": "Haus\thouse\n", **contents}
    raw = {split: text.encode() if isinstance(text, str) else text for split, text in texts.items()}
    return {split: Files({f"{split}.tsv": content}, cut=False) for split, content in raw.items()}


@pytest.mark.parametrize(
    ("files", "good"),
    [
        (plain_files(), True),
        (plain_files(test="Hund\tdog\n"), False),  # the test set is the training set
        (plain_files(test="Katze\tcat\n"), True),  # and the dev set
        (plain_files(train="a\tb\n\t\n" + "w" * 100_000 + "\tx\n"), True),
        (plain_files(test="w" * 100_000 + "\t" + "w " * 50_000 + "\n"), True),
        (plain_files(dev=" \u00a0\t\u3000\n"), False),
        (plain_files(train="\n\n \n"), False),
        (plain_files(dev=""), False),
        (plain_files(dev=codecs.BOM_UTF8), False),
        (plain_files(train="a\tb\rc\td\r"), False),
        (plain_files(train="a\rb\tc\n"), True),
        (plain_files(train="a\tb".encode("utf-16")), False),
        (plain_files(train="a\tb\n".encode("utf-16-le")), False),
        (plain_files(train="a\tb\nc\n"), False),
        (plain_files(train="a\tb\nc\td\te\n"), False),
        *[(plain_files(train=b"a\tb\nc" + wrong + b"\td\n"), False) for wrong in NO_UTF8],
    ],
)
def test_files_of_every_fault(files: dict[str, Files], good: bool, text_options: dict[str, Any]) -> None:
    assert check_corpus(files, text_options) == good


ROW = '{"translation": {"de": "Hund", "en": "dog"}}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"translation": {"de": "a\\u0000b", "en": "b"}}', r"{path} train row 2: a NUL character: remove it"),
        ('{"translation": null}', r"{path} train row 2: translation is not of the form {{de: ..., en: ...}}"),
        ('{"translation": {"de": "a\\ud800", "en": "b"}}', r"{path}: cannot be loaded (JSON parse error"),
        ('{"translation": {"de": ["a"], "en": "b"}}', r"data.source=de: {path} train row 2 is not text"),
        ("no JSON", r"{path}: cannot be loaded (JSON parse error"),
    ],
)
def test_a_bad_row_of_a_dataset_is_refused(
    row: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    path = tmp_path / "rows"
    path.mkdir()
    for name in ("train", "validation", "test"):
        (path / f"{name}.jsonl").write_text(f"{ROW}\n{row}\n" if name == "train" else f"{ROW}\n")
    options = compose_config("data=hub", f"data.path={path}", "data.source=de", "data.target=en")["data"]
    with pytest.raises(UserError) as refused:
        load_corpus(options, tmp_path / "cache")
    assert str(refused.value).startswith(message.format(path=path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rows", [{"translation": ["Hund"]}, {"translation": [{"de": 3, "en": "dog"}]}])
def test_rows_that_are_no_text_are_refused(rows: dict[str, Any], tmp_path: Path) -> None:
    from hourglass.corpora.hub import read_rows

    with pytest.raises(UserError, match=r"somewhere train row 1(: translation is not of the form| is not text)"):
        list(read_rows(datasets.Dataset.from_dict(rows), "somewhere", "train", "de", "en", column="translation"))


# ---- Translating -----------------------------------------------------------------------------------------------------

KNOWN = ["der kleine Hund schläft .", "a small dog sleeps", "שלום עולם", "привет мир", "s0 s1 s2"]


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Vocabularies:
    """Return vocabularies of single characters and all bytes, with which a model can write any text."""
    return character_vocabularies(KNOWN, tmp_path_factory.mktemp("cache"), size=330, byte_fallback=True)


@pytest.fixture(scope="module")
def model(vocabularies: Vocabularies) -> Seq2Seq:
    """Return a model of random weights whose output depends on its input and has many line ends."""
    model = tiny_model(vocabulary=vocabularies.source.size, spread=0.9)
    pieces = vocabularies.source.pieces(range(vocabularies.source.size))
    with torch.no_grad():
        model.output.bias[[pieces.index(f"<0x{byte:02X}>") for byte in b"\t\n\r\x1b\x1e\x7f"]] += 2
    return model


def search_settings(beam: int) -> SearchSettings:
    return plain_search(beam, output_extra=4, output_most=12, batch_tokens=4000)


def is_one_clean_line(text: str) -> bool:
    """Return whether a text is one line by any definition, and one field of a TSV file."""
    text.encode("utf-8")
    return len(text.splitlines()) <= 1 and not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text)


LINES = st.lists(
    st.text(LETTERS, max_size=15) | st.sampled_from([odd for odd in ODD if len(odd) < 10_000]) | st.sampled_from(KNOWN),
    min_size=64,
    max_size=64,
)


@pytest.mark.parametrize("examples", [6, pytest.param(40, marks=(pytest.mark.slow, pytest.mark.more))])
def test_any_lines_are_translated_one_for_one_in_order(
    examples: int, vocabularies: Vocabularies, model: Seq2Seq
) -> None:
    """Translate each list twice, the second time shuffled: the output must have the order of the input."""
    seen: dict[str, str] = {}
    translated = 0

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=SLOW)
    @given(LINES, st.randoms(use_true_random=False), st.sampled_from([1, 2]))
    def check(lines: list[str], draw: random.Random, beam: int) -> None:
        nonlocal translated
        translations = list(translate(model, vocabularies, lines, search_settings(beam)))
        assert len(translations) == len(lines)
        assert all(map(is_one_clean_line, translations))
        order = draw.sample(range(len(lines)), len(lines))
        again = list(translate(model, vocabularies, [lines[i] for i in order], search_settings(beam)))
        assert again == [translations[i] for i in order]
        assert all(translations[i] == "" for i, line in enumerate(lines) if not line.strip())
        translated += len(lines)
        if beam == 1:
            for line, text in zip(lines, translations, strict=True):
                assert seen.setdefault(" ".join(line.split()), text) == text, "whatever stands beside it"

    check()
    assert translated >= 60 * examples
    assert examples < 160 or translated >= 10_000
    assert len(set(seen.values())) > len(seen) / 2, "what is written hangs on what is read"


def test_whatever_a_model_writes_is_one_clean_line(
    vocabularies: Vocabularies, model: Seq2Seq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the model write each of the odd texts, with all kinds of line ends and bytes that are not UTF-8."""
    texts = [odd for odd in [*ODD, "a\nb\r\nc", "\n", "a\tb", "\x85\u2028"] if len(odd) < 10_000]
    written = vocabularies.target.encode(texts)
    pieces = vocabularies.target.pieces(range(vocabularies.target.size))
    written += [[pieces.index(f"<0x{byte:02X}>") for byte in wrong] for wrong in NO_UTF8]

    def write(_: Sequence[Seq2Seq], source: torch.Tensor, *given: Any, **options: Any) -> list[list[Hypothesis]]:
        return [[Hypothesis(written[int(row[0]) - EOS - 1], 0.0, 0.0, True)] for row in source]

    monkeypatch.setattr(translate_module, "n_best", write)
    monkeypatch.setattr(Tokenizer, "encode", lambda self, lines: [[EOS + 1 + int(line)] for line in lines])
    lines = map(str, range(len(written)))
    translations = list(translate(model, vocabularies, lines, search_settings(1)))
    assert len(translations) == len(written)
    assert all(map(is_one_clean_line, translations)), [ascii(text) for text in translations]
    assert translations[texts.index("a\nb\r\nc")] == "a b c"


@pytest.mark.more
@pytest.mark.slow
def test_long_lines_are_translated_among_short_ones(vocabularies: Vocabularies, model: Seq2Seq) -> None:
    lines = ["s0", "\U0001f600" * 25_000, "s1", "w " * 50_000, "s0", ""]
    translations = list(translate(model, vocabularies, lines, search_settings(1)))
    assert len(translations) == len(lines)
    assert translations[0] == translations[4] != translations[2]
    assert translations[1]
    assert all(map(is_one_clean_line, translations))


@pytest.fixture(scope="module")
def run(vocabularies: Vocabularies, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with a checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("run")
    content = checkpoint_content(vocabularies)
    WholeFiles().save_checkpoint(content, folder / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(content["hourglass"]["config"]))
    return folder


def command(run: Path, text: bytes) -> subprocess.CompletedProcess[bytes]:
    return run_script_bytes("src/translate.py", f"run={run}", "search=greedy", "search.output_most=9", stdin=text)


@pytest.mark.slow
def test_the_command_writes_one_line_for_each_of_a_nasty_file(run: Path) -> None:
    """A byte-order mark, all kinds of line ends and white space, a line of 100,000 characters, no final line end."""
    short = [odd for odd in ODD if odd != "w " * 50_000]
    text = b"".join(line.encode() + end for line in short for end in (b"\n", b"\r\n")) + "שלום".encode()
    done = command(run, codecs.BOM_UTF8 + text)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode().split("\n")
    assert out.pop() == ""
    assert len(out) == 2 * len(short) + 1
    assert all(map(is_one_clean_line, out))
    for i, line in enumerate(short):
        assert out[2 * i] == out[2 * i + 1], "the kind of line end says nothing"
        assert line.strip() or out[2 * i] == ""
    assert sum(line != "" for line in out) > len(out) / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", None),
        (b"s0\n\ns1 \0\n", b"error: standard input:3: a NUL character: remove it"),
    ],
)
def test_the_command_on_no_text(run: Path, text: bytes, message: bytes | None) -> None:
    done = command(run, text)
    assert done.stdout == b""
    assert (done.returncode == 0) == (message is None)
    assert b"Traceback" not in done.stderr
    assert message is None or any(line.startswith(message) for line in re.split(rb"[\r\n]", done.stderr))


@pytest.mark.parametrize("wrong", NO_UTF8)
def test_input_that_is_no_utf8_is_refused_by_line(wrong: bytes) -> None:
    lines = command_line.decode_lines(io.BytesIO(b"s0\r\ns1" + wrong + b"s2\ns3"))
    assert next(lines) == "s0"
    with pytest.raises(UserError, match=r"^standard input:2: not UTF-8 \(byte \d of the line\): convert [^\n]*$"):
        next(lines)


def test_input_of_an_old_mac_is_not_taken_for_one_line() -> None:
    with pytest.raises(UserError, match=r"^standard input:1: lines end in a carriage return alone: convert "):
        list(command_line.decode_lines(io.BytesIO(b"s0\rs1\r")))
    assert list(command_line.decode_lines(io.BytesIO(b"s0\rs1\n"))) == ["s0\rs1"]
    assert list(command_line.decode_lines(io.BytesIO(b"s0\r"))) == ["s0"]
