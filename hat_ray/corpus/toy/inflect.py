"""Inflection of the German-like target: four cases, three genders, strong, mixed and weak adjectives."""

from typing import Literal

from hat_ray.corpus.toy.lexicon import Gender, Plural
from hat_ray.corpus.toy.tree import Determiner, Person, Pronoun, Tense

Case = Literal["nom", "acc", "dat", "gen"]
Slot = Literal["m", "f", "n", "pl"]
"""The gender of a singular noun, or the plural, where gender does not show."""

_CASES: tuple[Case, ...] = ("nom", "acc", "dat", "gen")


def _table(**rows: str) -> dict[tuple[str, Case], str]:
    """Read rows of four endings; a hyphen is the empty ending."""
    return {
        (slot, case): "" if ending == "-" else ending
        for slot, row in rows.items()
        for case, ending in zip(_CASES, row.split(), strict=True)
    }


_ARTICLE = _table(m="der den dem des", f="die die der der", n="das das dem des", pl="die die den der")
_DER_WORD = _table(m="er en em es", f="e e er er", n="es es em es", pl="e e en er")
_EIN_WORD = _table(m="- en em es", f="e e er er", n="- - em es", pl="e e en er")
_STRONG = _table(m="er en em en", f="e e er er", n="es es em en", pl="e e en er")
_MIXED = _table(m="er en en en", f="e e en en", n="es es en en", pl="en en en en")
_WEAK = _table(m="e en en en", f="e e en en", n="e e en en", pl="en en en en")
_PRONOUN = _table(m="er ihn ihm -", f="sie sie ihr -", n="es es ihm -", pl="sie sie ihnen -")
_FIRST = {
    "1s": {"nom": "ich", "acc": "mich", "dat": "mir"},
    "1p": {"nom": "wir", "acc": "uns", "dat": "uns"},
}
_EIN_STEMS = {"a": "ein", "no": "kein", "my": "mein", "his": "sein"}
_UMLAUT = {"a": "ä", "o": "ö", "u": "ü"}


def determiner_form(determiner: Determiner, slot: Slot, case: Case) -> str:
    """Return the determiner, or an empty string where there is none."""
    if determiner == "the":
        return _ARTICLE[slot, case]
    if determiner == "this":
        return "dies" + _DER_WORD[slot, case]
    if determiner in _EIN_STEMS:
        return _EIN_STEMS[determiner] + _EIN_WORD[slot, case]
    return {"many": "viel" + _STRONG[slot, case], "two": "zwei", "bare": ""}[determiner]


def adjective_form(stem: str, determiner: Determiner, slot: Slot, case: Case) -> str:
    if determiner in ("the", "this"):
        return stem + _WEAK[slot, case]
    return stem + (_MIXED if determiner in _EIN_STEMS else _STRONG)[slot, case]


def noun_form(stem: str, plural_class: Plural, slot: Slot, case: Case) -> str:
    """Return a noun in lower case."""
    if slot != "pl":
        if case == "gen" and slot in ("m", "n"):
            return stem + ("es" if stem.endswith(("s", "z", "sch", "ft", "cht")) else "s")
        return stem
    plural = _plural(stem, plural_class)
    return plural + ("n" if case == "dat" and not plural.endswith(("n", "s")) else "")


def _plural(stem: str, plural_class: Plural) -> str:
    match plural_class:
        case "er":
            return umlaut(stem) + ("" if stem.endswith("er") else "er")
        case "en":
            return stem + ("n" if stem.endswith(("el", "er")) else "en")
        case "s":
            return stem + "s"
        case _:
            return stem + ("" if stem.endswith(("el", "er")) else "e")


def compound_form(modifier: str, plural_class: Plural, head: str) -> str:
    """Join two noun stems with the linking element of the first."""
    link = {"er": "er", "en": "en", "e": "s", "s": "", "": ""}[plural_class]
    return modifier + link + head


def umlaut(stem: str) -> str:
    """Change the last vowel that can change."""
    for place in range(len(stem) - 1, -1, -1):
        if stem[place] in _UMLAUT:
            return stem[:place] + _UMLAUT[stem[place]] + stem[place + 1 :]
    return stem


def pronoun_form(pronoun: Pronoun, case: Case) -> str:
    if pronoun.person in ("1s", "1p"):
        return _FIRST[pronoun.person][case]
    return _PRONOUN["pl" if pronoun.person == "3p" else pronoun.gender, case]


def relative_form(gender: Gender, person: Person, case: Case) -> str:
    return _ARTICLE["pl" if person == "3p" else gender, case]


def infinitive(stem: str) -> str:
    return stem + "en"


def finite_form(stem: str, past_vowel: str, tense: Tense, person: Person) -> str:
    linking = "e" if stem.endswith(("t", "d")) else ""
    plural = person in ("1p", "3p")
    if tense == "present":
        return stem + ("en" if plural else "e" if person == "1s" else linking + "t")
    if past_vowel:
        return _with_vowel(stem, past_vowel) + ("en" if plural else "")
    return stem + linking + ("ten" if plural else "te")


def participle(stem: str, past_vowel: str) -> str:
    if past_vowel:
        return "ge" + _with_vowel(stem, past_vowel) + "en"
    return "ge" + stem + ("et" if stem.endswith(("t", "d")) else "t")


def _with_vowel(stem: str, vowel: str) -> str:
    """Replace the stem's vowels."""
    places = [place for place, letter in enumerate(stem) if letter in "aeiou"]
    return stem[: places[0]] + vowel + stem[places[-1] + 1 :]


_HELPERS = {
    ("have", "present"): ("habe", "haben", "hat"),
    ("have", "past"): ("hatte", "hatten", "hatte"),
    ("be", "present"): ("bin", "sind", "ist"),
    ("be", "past"): ("war", "waren", "war"),
    ("can", "present"): ("kann", "können", "kann"),
    ("can", "past"): ("konnte", "konnten", "konnte"),
    ("must", "present"): ("muss", "müssen", "muss"),
    ("must", "past"): ("sollte", "sollten", "sollte"),
    ("will", "present"): ("werde", "werden", "wird"),
    ("will", "past"): ("würde", "würden", "würde"),
}


def helper_form(helper: str, tense: Tense, person: Person) -> str:
    first, plural, third = _HELPERS[helper, tense]
    return plural if person in ("1p", "3p") else first if person == "1s" else third
