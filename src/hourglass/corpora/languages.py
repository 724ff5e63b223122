"""Language codes, and how to count words in each language."""

import functools
import re

# Languages written without spaces between words (ISO 639): Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan,
# Dzongkha.
UNSPACED = frozenset(
    "zh zho chi cmn lzh yue ja jpn th tha lo lao km khm my mya bur bo bod tib dz dzo".split()  # noqa: SIM905
)


@functools.cache
def base_code(language: str) -> str:
    """Return a language code in lower case, without region or script: zh for zh-TW, jpn for jpn_Jpan."""
    return re.split("[-_]", language.lower())[0]


def is_unspaced(language: str) -> bool:
    """Return whether a language is written without spaces between words."""
    return base_code(language) in UNSPACED


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
