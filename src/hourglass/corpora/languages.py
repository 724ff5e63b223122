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


def count_words(text: str, language: str) -> int:
    """Count the words between spaces, or for a language written without spaces the characters except spaces."""
    words = text.split()
    return sum(map(len, words)) if is_unspaced(language) else len(words)
