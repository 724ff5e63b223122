"""Language codes, and what a word is in each language."""

import functools
import re
from collections import Counter
from collections.abc import Iterable

import regex
from babel.core import Locale, get_global

from hourglass.errors import UserError

_HAN = frozenset({"Hans", "Hant", "Hani", "Hanb"})
# Scripts of languages that are written without spaces between words (ISO 15924), with the scripts of their characters:
# those of line breaking classes ID and SA (The Unicode Standard, annex 14) that are so, and Tibetan, which has a mark
# between syllables. Katakana alone is not one, as Ainu has spaces.
_UNSPACED = {
    **dict.fromkeys(_HAN, ("Hani", "Bopo")),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Hrkt": ("Hira", "Kana"),
    **{
        script: (script,)
        for script in ("Hira", "Thai", "Laoo", "Khmr", "Mymr", "Lana", "Tale", "Talu", "Tavt", "Ahom", "Tibt")
    },
}
# A letter of each of them, with those that scripts share, such as the long vowel mark of both kana.
_LETTERS = {
    script: regex.compile(rf"(?V1)[\p{{L}}&&\p{{scx={script}}}]")
    for script in dict.fromkeys(script for scripts in _UNSPACED.values() for script in scripts)
}
_LETTER = regex.compile(f"(?V1){'|'.join(letter.pattern.removeprefix('(?V1)') for letter in _LETTERS.values())}")

# Codes of ISO 639 that are no language of the Common Locale Data Repository (CLDR): no linguistic content, several
# languages, undetermined, uncoded. qaa to qtz are for private use.
_OTHER = re.compile("zxx|mul|und|mis|q[a-t][a-z]")


@functools.cache
def _parse(language: str) -> tuple[str, str | None]:
    """Return the language of a code in its usual spelling and the script that it names or, if known, usually has.

    zho-TW and zh-TW: zh, Hans; jpn_Latn: ja, Latn.
    """
    base, *others = re.split("[-_]", language.lower())
    base = str(get_global("language_aliases").get(base, base)).split("_")[0]
    named = next((part.title() for part in others if len(part) == 4 and part.isalpha()), None)
    likely = get_global("likely_subtags").get(base)
    return base, named or (str(likely).split("_")[1] if likely else None)


def language_of(language: str) -> str:
    """Return the language of a code in its usual spelling, without country and script."""
    return _parse(language)[0]


def is_unspaced(language: str) -> bool:
    """Return whether a language is written without spaces between words; one that is not known is written with them."""
    return _parse(language)[1] in _UNSPACED


def is_known(language: str) -> bool:
    """Return whether a code is one of ISO 639, as far as CLDR knows it."""
    base, _ = _parse(language)
    return base in get_global("likely_subtags") or bool(_OTHER.fullmatch(base))


def is_han(language: str) -> bool:
    """Return whether a language is written in Chinese characters alone."""
    return _parse(language)[1] in _HAN


def is_japanese(language: str) -> bool:
    """Return whether a language is Japanese in its own script."""
    return _parse(language)[0] == "ja" and is_unspaced(language)


def words_of(text: str, language: str) -> list[str]:
    """Return the words between white space, or for a language written without spaces the characters but white space."""
    words = text.split()
    return list("".join(words)) if is_unspaced(language) else words


def count_words(text: str, language: str) -> int:
    """Return the number of words of `words_of`."""
    words = text.split()
    return sum(map(len, words)) if is_unspaced(language) else len(words)


def word_spans(text: str, language: str) -> list[tuple[int, int]]:
    """Return where each word of `words_of` begins and ends, in characters."""
    return [match.span() for match in re.finditer(r"\S" if is_unspaced(language) else r"\S+", text)]


def check_code(language: str, option: str) -> None:
    """Refuse a country, or the name of a language, in place of a language code.

    Raises:
        UserError: it is one; the message has the code.
    """
    if is_known(language):
        return
    base = language.lower()
    spoken = [str(code) for code in get_global("territory_languages").get(base.upper(), ())][:3]
    if spoken:
        others = f"; {' and '.join(spoken[1:])} are spoken there, too" if len(spoken) > 1 else ""
        raise UserError(
            f"{option}={language}: a country, not a language: set {option}={spoken[0]}{others} (two files of a split "
            "end in the codes of their languages)"
        )
    names = {name.lower(): code for code, name in Locale("en").languages.items()}
    if code := names.get(base):
        raise UserError(f"{option}={language}: a name, not a language code: set {option}={code}")


@functools.cache
def _script_of(character: str) -> str:
    """Return the script of a letter of `_LETTER`."""
    return next(script for script, letter in _LETTERS.items() if letter.match(character))


def check_script(texts: Iterable[str], language: str, option: str) -> str | None:
    """Check a language against the script of its texts, as its words are counted and scores are computed by it.

    Args:
        texts: sentences.
        language: their code.
        option: that set it, for messages.

    Returns:
        A warning, or None.

    Raises:
        UserError: the texts are written without spaces, and the language is not, as far as is known.
    """
    letters = spaced = runs = sentences = 0
    scripts: Counter[str] = Counter()
    for text in texts:
        own = 0
        for word in text.split():
            unspaced = [_script_of(character) for character in _LETTER.findall(word)]
            spaced += sum(map(str.isalpha, word)) - len(unspaced)
            own += len(unspaced)
            runs += bool(unspaced)
            scripts.update(unspaced)
        letters += own
        sentences += own > 0
    if not is_unspaced(language):
        # Phrases may be separated, and a sentence of a few letters may be one word of a language with spaces.
        whole = runs <= 1.05 * sentences and letters >= 3 * sentences
        if letters > spaced and (whole or letters >= 6 * runs):
            script = "Jpan" if "Hira" in scripts else scripts.most_common(1)[0][0]
            code = str(get_global("likely_subtags")[f"und_{script}"]).split("_")[0]
            raise UserError(
                f"{option}={language}: its text is written without spaces, and {language} is not, as far as is known, "
                f"so that BLEU would take each sentence for one word: set {option}={code}, or the code of another "
                "language or script (two files of a split end in the codes of their languages)"
            )
        if not is_known(language):
            return f"{option}={language}: not a code that CLDR knows: its words are those between spaces"
    elif spaced > 4 * letters:
        return (
            f"{option}={language}: most letters of its text are of scripts with spaces between words, and every "
            f"character counts as a word: set {option} to the language of the text, or to one with its script "
            f"({_parse(language)[0]}-Latn)"
        )
    return None
