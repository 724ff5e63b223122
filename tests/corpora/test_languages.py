"""Language codes: one notion of a word, and nothing that falls to a default unseen."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.config.options import Config
from hourglass.corpora.corpus import load_corpus
from hourglass.corpora.languages import check_code, check_script, count_words, is_unspaced, word_spans, words_of
from hourglass.errors import UserError

CHINESE = ["跑房人水我树们。", "地天跑我吃。", "看们子树。"]
JAPANESE = ["今日はとても良い天気ですね。", "私は学生です。"]
THAI = ["สุนัขวิ่งข้ามแม่น้ำ", "แมวนอนอยู่ที่บ้าน"]
ENGLISH = ["the dog runs over the river", "a cat sleeps"]


@given(st.text(), st.sampled_from(["de", "zh", "th", "ja-Latn"]))
def test_words_counts_and_spans_agree(text: str, language: str) -> None:
    words = words_of(text, language)
    assert count_words(text, language) == len(words)
    assert [text[begin:end] for begin, end in word_spans(text, language)] == words
    assert "".join(words) == "".join(text.split())


@pytest.mark.parametrize("code", "gan wuu nan zh-Hant cmn ja jpn_Jpan th lo KM my bo dz shn vi-Hani".split())  # noqa: SIM905
def test_languages_of_scripts_without_spaces(code: str) -> None:
    assert is_unspaced(code)


@pytest.mark.parametrize("code", "en zh-Latn ja_Latn ko vi tibetan zxx qaa ber simple".split())  # noqa: SIM905
def test_languages_with_spaces(code: str) -> None:
    assert not is_unspaced(code)


@pytest.mark.parametrize(
    ("code", "instead"),
    [
        ("cn", "a country, not a language: set data.target=zh; wuu and yue are spoken there, too"),
        ("jp", "a country, not a language: set data.target=ja"),
        ("DK", "a country, not a language: set data.target=da"),
        ("cz", "a country, not a language: set data.target=cs"),
        ("german", "a name, not a language code: set data.target=de"),
        ("Chinese", "a name, not a language code: set data.target=zh"),
    ],
)
def test_countries_and_names_are_refused(code: str, instead: str) -> None:
    with pytest.raises(UserError, match=f"data.target={code}: {instead}"):
        check_code(code, "data.target")


@pytest.mark.parametrize(
    "code",
    "de deu ger zho_Hans pt_br en-US zxx und mul qaa gan tok nb no iw src tgt simple a".split(),  # noqa: SIM905
)
def test_languages_and_names_of_other_things_are_not(code: str) -> None:
    check_code(code, "data.target")


@pytest.mark.parametrize(
    ("code", "texts", "instead"),
    [
        ("en", CHINESE, "zh"),
        ("simple", CHINESE, "zh"),
        ("zxx", JAPANESE, "ja"),
        ("ko", JAPANESE, "ja"),
        ("de", THAI, "th"),
        ("zh-Latn", CHINESE, "zh"),
        (
            "en",
            [
                "\uff6c\uff70\uff84\uff9e\uff8a\uff9e\uff72\uff78\uff83\uff9e\uff7d",
                "\uff83\uff9a\uff8b\uff9e\uff90\uff8f\uff7d",
            ],
            "ja",
        ),  # Half-width katakana.
        ("en", ["キョウハ", "ガッコウニイキマス"], "ja"),
    ],
)
def test_a_text_without_spaces_is_refused_where_its_language_has_them(
    code: str, texts: list[str], instead: str
) -> None:
    with pytest.raises(
        UserError, match=f"data.target={code}: its text is written without spaces.*data.target={instead},"
    ):
        check_script(texts, code, "data.target")


# The Unicode Standard, code charts: consonants of each script.
@pytest.mark.parametrize(
    ("first", "instead"),
    [
        *(("\u1950", "tdd"), ("\u1980", "khb"), ("\u1a20", "nod"), ("\uaa80", "blt"), ("\U00011700", "aho")),
        *(("\u0e94", "lo"), ("\u1780", "km"), ("\u1000", "my"), ("\u0f40", "bo"), ("\u0e01", "th")),
        *(("\u3041", "ja"), ("\u4e00", "zh"), ("\u3105", "zh"), ("\U00020000", "zh")),
    ],
)
def test_text_of_every_script_without_spaces_is_refused_in_english(first: str, instead: str) -> None:
    """The code that is suggested counts each letter as a word."""
    letters = "".join(chr(ord(first) + number) for number in range(7))
    with pytest.raises(UserError, match=f"written without spaces.*data.target={instead},"):
        check_script([letters, letters[::-1]], "en", "data.target")
    assert check_script([letters, letters[::-1]], instead, "data.target") is None
    assert count_words(letters, instead) == len(letters)
    # As words of the same letters, it is a text with spaces.
    assert check_script([" ".join(letters)] * 3, "en", "data.target") is None


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("zh", CHINESE),
        ("ain", ["アイヌ イタㇰ アニ ク=イェ", "ピㇼカ ワ"]),
        ("gan", CHINESE),
        ("ja", JAPANESE),
        ("th", THAI),
        ("en", [*ENGLISH, "he said 你好"]),
        ("zh", ["我们 today", "Windows 10 的 设置 页面。"]),
        ("xx-Hani", CHINESE),
        ("en", ["一 二 三 四 五", "水"]),  # Cut into words before.
        ("ko", ["나는 학교에 간다", "우리는 집에 있다"]),
        ("en", []),
        ("en", ["... 12 !"]),
    ],
)
def test_other_texts_are_as_their_language_says(code: str, texts: list[str]) -> None:
    assert check_script(texts, code, "data.source") is None


def test_what_is_doubtful_is_said() -> None:
    assert "not a code that CLDR knows" in str(check_script(ENGLISH, "simple", "data.source"))
    warning = check_script(["ni hao", "wo shi xuesheng"], "zh", "data.source")
    assert "every character counts as a word" in str(warning)
    assert "zh-Latn" in str(warning)


def test_a_corpus_is_checked_against_its_languages_from_the_cache_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "dev", "test"):
        lines = (f"{split} {i}\t{split} {i} {text}\n" for i, text in enumerate(CHINESE * 3))
        (tmp_path / f"{split}.tsv").write_text("".join(lines))
    files = {split: str(tmp_path / f"{split}.tsv") for split in ("train", "dev", "test")}
    options: Config = {"name": "text", "source": "en", "longest": 100, **files}
    for _ in range(2):
        with pytest.raises(UserError, match=r"^data.target=fr: its text is written without spaces"):
            load_corpus({**options, "target": "fr"}, tmp_path / "cache")
        with caplog.at_level("WARNING"):
            caplog.clear()
            load_corpus({**options, "source": "nothing", "target": "zh"}, tmp_path / "cache")
        assert "data.source=nothing: not a code that CLDR knows" in caplog.text
    with pytest.raises(UserError, match=r"^data.source=False: YAML reads no as false"):
        load_corpus({**options, "source": False, "target": "zh"}, tmp_path / "cache")
    with pytest.raises(UserError, match=r"^data.target=cn: a country"):
        load_corpus({**options, "target": "cn"}, tmp_path / "cache")
