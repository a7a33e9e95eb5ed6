"""The script of a language, and the share of a line's letters that are in it.

Decision: the script follows from the language's code (`sr-Latn` names it). Languages that are not listed have none, so
that nothing is left out by a guess. Signs, digits and spaces are of no script and count for nothing.
"""

from collections.abc import Mapping, Sequence

import regex

_LATIN = frozenset(
    (
        *("af", "az", "br", "bs", "ca", "ceb", "cs", "cy", "da", "de", "en", "eo", "es", "et", "eu", "fi", "fil"),
        *("fo", "fr", "fy", "ga", "gd", "gl", "gn", "ha", "hr", "ht", "hu", "id", "ig", "is", "it", "jv", "ku"),
        *("la", "lb", "ln", "lt", "lv", "mg", "mi", "ms", "mt", "nb", "nl", "nn", "no", "oc", "pl", "pt", "qu"),
        *("rn", "ro", "rw", "sk", "sl", "sm", "sn", "so", "sq", "st", "su", "sv", "sw", "tk", "tl", "tn", "to"),
        *("tr", "ts", "uz", "vi", "wo", "xh", "yo", "zu"),
    )
)
_OTHERS: Mapping[str, Sequence[str]] = {
    "Cyrillic": ["be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "tt", "uk"],
    "Arabic": ["ar", "ckb", "fa", "ps", "sd", "ug", "ur"],
    "Devanagari": ["hi", "mr", "ne", "sa"],
    "Han": ["zh", "yue"],
    "Hebrew": ["he", "yi"],
    "Greek": ["el"],
    "Armenian": ["hy"],
    "Georgian": ["ka"],
    "Bengali": ["as", "bn"],
    "Gujarati": ["gu"],
    "Gurmukhi": ["pa"],
    "Oriya": ["or"],
    "Tamil": ["ta"],
    "Telugu": ["te"],
    "Kannada": ["kn"],
    "Malayalam": ["ml"],
    "Sinhala": ["si"],
    "Thai": ["th"],
    "Lao": ["lo"],
    "Myanmar": ["my"],
    "Khmer": ["km"],
    "Ethiopic": ["am", "ti"],
    "Tibetan": ["bo"],
}
_SEVERAL: Mapping[str, Sequence[str]] = {"ja": ("Han", "Hiragana", "Katakana"), "ko": ("Hangul", "Han")}
_CODES: Mapping[str, Sequence[str]] = {
    "Latn": ("Latin",),
    "Cyrl": ("Cyrillic",),
    "Arab": ("Arabic",),
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Deva": ("Devanagari",),
    "Grek": ("Greek",),
    "Hebr": ("Hebrew",),
    "Jpan": _SEVERAL["ja"],
    "Kore": _SEVERAL["ko"],
}
_LETTERS = regex.compile(r"\p{L}")


def scripts_of(language: str) -> tuple[str, ...]:
    """Return the scripts of a language by its code, such as `de`, `zh-Hant` or `pt_BR`; empty for one not listed."""
    first, *more = language.replace("_", "-").split("-")
    for part in more:
        if part.title() in _CODES:
            return tuple(_CODES[part.title()])
    code = first.lower()
    if code in _SEVERAL:
        return tuple(_SEVERAL[code])
    if code in _LATIN:
        return ("Latin",)
    return next(((script,) for script, languages in _OTHERS.items() if code in languages), ())


class Script:
    """The scripts of one language. Pickles."""

    def __init__(self, scripts: Sequence[str]) -> None:
        self._own = regex.compile("[" + "".join(f"\\p{{Script_Extensions={script}}}" for script in scripts) + "]")

    @classmethod
    def of(cls, language: str) -> "Script | None":
        """Return the script of a language by its code; None where it is not known."""
        found = scripts_of(language)
        return cls(found) if found else None

    def share(self, line: str) -> float:
        """Return the share of a line's letters that are in these scripts; 1 for a line without letters."""
        letters = _LETTERS.findall(line)
        return sum(self._own.match(letter) is not None for letter in letters) / len(letters) if letters else 1.0
