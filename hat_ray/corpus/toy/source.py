"""Speak a derivation in the English-like source language: subject, verb, object; little inflection."""

from hat_ray.corpus.toy.tree import Clause, Gap, Nominal, NounPhrase, Pair, Person, Pronoun, Proper, Sentence, person_of

_SUBJECT = {"1s": "I", "1p": "we", "3p": "they"}
_OBJECT = {"1s": "me", "1p": "us", "3p": "them"}
_HISSING = ("s", "x", "z", "sh", "ch")
_VOWELS = "aeiou"


def speak_source(sentence: Sentence) -> list[str]:
    """Return the tokens of a sentence."""
    main = _clause(sentence.main)
    if sentence.other is None:
        return [*main, "."]
    other = _clause(sentence.other)
    if sentence.other_first:
        return [sentence.link, *other, ",", *main, "."]
    return [*main, *([","] if sentence.link == "but" else []), sentence.link, *other, "."]


def _clause(clause: Clause) -> list[str]:
    front = [clause.time.source, ","] if clause.time and clause.time_first else []
    back = [clause.time.source] if clause.time and not clause.time_first else []
    return [
        *front,
        *_phrase(clause.subject, subject=True),
        *_verb(clause),
        *_objects(clause),
        *([clause.manner.source + "ly"] if clause.manner else []),
        *(["with", *_phrase(clause.tool)] if clause.tool else []),
        *([clause.place.preposition, *_phrase(clause.place.where)] if clause.place else []),
        *back,
        *(["that", *_clause(clause.content)] if clause.content else []),
    ]


def _objects(clause: Clause) -> list[str]:
    if clause.object is None:
        return []
    thing = _phrase(clause.object)
    if clause.recipient is None:
        return thing
    if isinstance(clause.object, Pronoun):
        return [*thing, "to", *_phrase(clause.recipient)]
    return [*_phrase(clause.recipient), *thing]


def _verb(clause: Clause) -> list[str]:
    person, past, verb = person_of(clause.subject), clause.tense == "past", clause.verb
    negation = ["not"] if clause.negated else []
    if clause.helper == "have":
        return ["had" if past else "has" if person == "3s" else "have", *negation, verb.source_past]
    if clause.helper:
        return [_modal(clause.helper, past), *negation, verb.source]
    if negation:
        return ["did" if past else "does" if person == "3s" else "do", *negation, verb.source]
    return [verb.source_past if past else _third(verb.source, person)]


def _modal(helper: str, past: bool) -> str:
    return {"can": "could", "must": "should", "will": "would"}[helper] if past else helper


def _third(stem: str, person: Person) -> str:
    return _add_s(stem) if person == "3s" else stem


def _add_s(stem: str) -> str:
    return stem + ("es" if stem.endswith(_HISSING) else "s")


def _phrase(phrase: NounPhrase, *, subject: bool = False) -> list[str]:
    match phrase:
        case Pronoun():
            return [_pronoun(phrase, subject)]
        case Proper():
            return [phrase.name.source]
        case Pair():
            return [*_phrase(phrase.first, subject=subject), "and", *_phrase(phrase.second, subject=subject)]
        case Nominal():
            return _nominal(phrase)
        case Gap():
            return []


def _pronoun(pronoun: Pronoun, subject: bool) -> str:
    if pronoun.person != "3s":
        return (_SUBJECT if subject else _OBJECT)[pronoun.person]
    if not pronoun.living:
        return "it"
    if pronoun.gender == "m":
        return "he" if subject else "him"
    return "she" if subject else "her"


def _nominal(phrase: Nominal) -> list[str]:
    words = [quality.source for quality in phrase.qualities]
    words += [phrase.compound[0].source] if phrase.compound else []
    words += [_add_s(phrase.noun.source) if phrase.plural else phrase.noun.source]
    words += ["of", *_phrase(phrase.owner)] if phrase.owner is not None else []
    words += ["with", *_phrase(phrase.attached)] if phrase.attached is not None else []
    if phrase.relative is not None:
        words += ["who" if phrase.noun.kind == "person" else "that", *_clause(phrase.relative)]
    return [*_determiner(phrase, words[0]), *words]


def _determiner(phrase: Nominal, following: str) -> list[str]:
    if phrase.determiner == "bare":
        return []
    if phrase.determiner == "a":
        return ["an" if following[0] in _VOWELS else "a"]
    return [phrase.determiner]
