"""Languages: codes, and what a word is in each."""

import functools
import re

# Languages written without spaces between words (ISO 639): Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan,
# Dzongkha.
UNSPACED = frozenset(
    "zh zho chi cmn lzh yue ja jpn th tha lo lao km khm my mya bur bo bod tib dz dzo".split()  # noqa: SIM905
)


@functools.cache
def base_code(language: str) -> str:
    """Return a language code in small letters, without region or script (zh-TW, jpn_Jpan)."""
    return re.split("[-_]", language.lower())[0]


def is_unspaced(language: str) -> bool:
    """Say whether a language is written without spaces between words."""
    return base_code(language) in UNSPACED


def count_words(text: str, language: str) -> int:
    """Count the words between spaces, or in a script written without spaces the characters that are no space."""
    words = text.split()
    return sum(map(len, words)) if is_unspaced(language) else len(words)
