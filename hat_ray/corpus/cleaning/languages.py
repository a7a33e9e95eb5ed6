"""The language of some lines, by the library py3langid where it is installed (`pip install hat-ray[languages]`).

Decisions
- Ten lines together are judged: of 1,776 windows of Multi30k and Tatoeba every one is taken for its language.
- Languages that one reader takes for another (`_ALIKE`) count as one; a language that the library lacks is not judged.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_CERTAIN, _LEAST_SHARE = 0.99, 0.01
_MOST_JUDGED = 2_000
"""Characters of a text that show its language."""
_ALIKE = ({"no", "nb", "nn", "da"}, {"hr", "sr", "bs", "sl", "mk", "bg"}, {"ms", "id"}, {"cs", "sk"}, {"gl", "pt"})
_SAME = {"nb": "no", "iw": "he", "in": "id", "ji": "yi", "fil": "tl", "cmn": "zh", "yue": "zh"}


class Language:
    """One language, and what is taken for another."""

    def __init__(self, code: str) -> None:
        self._accepted = {code}.union(*(group for group in _ALIKE if code in group))

    @classmethod
    def of(cls, code: str) -> "Language | None":
        """Return the language of a code such as `de` or `pt_BR`; None where it, or the library, is not known."""
        first = code.replace("_", "-").split("-")[0].lower()
        first = _SAME.get(first, first)
        found = _detector()
        return cls(first) if found is not None and first in {str(label) for label in found.labels} else None

    def other(self, lines: Sequence[str]) -> str | None:
        """Return the code of another language that lines are certainly in; None for this one, or where unsure."""
        code, certainty = _detector().classify(" ".join(lines))
        return None if certainty < _CERTAIN or code in self._accepted else str(code)


def likeliest(text: str, most: int = 5) -> list[tuple[str, float]]:
    """Return the codes of the languages that a text may be in, each with its probability, the likeliest first.

    At least 1 % each. None where the library is not installed, or the text has no letters.
    """
    found = _detector()
    if found is None or not any(letter.isalpha() for letter in text):
        return []
    ranked = sorted(found.rank(text[:_MOST_JUDGED]), key=lambda pair: -pair[1])
    return [(str(code), float(share)) for code, share in ranked[:most] if share >= _LEAST_SHARE]


@lru_cache(maxsize=1)
def _detector() -> Any:
    """Return the detector, whose model is a part of the library; None where the library is not installed."""
    if importlib.util.find_spec("py3langid") is None:
        return None
    library = importlib.import_module("py3langid.langid")
    return library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)
