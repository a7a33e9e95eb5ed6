"""A derivation: the meaning of a sentence, with every sense resolved, before either language expresses it."""

from dataclasses import dataclass
from typing import Literal

from hat_ray.corpus.toy.lexicon import Fixed, Gender, Noun, TargetNoun, TargetVerb, TargetWord, Verb

Determiner = Literal["the", "a", "this", "my", "his", "no", "many", "two", "bare"]
Person = Literal["1s", "1p", "3s", "3p"]
Tense = Literal["present", "past"]


@dataclass(frozen=True)
class Pronoun:
    """`sort` is that of the antecedent; "it" has the gender of its antecedent in the target."""

    person: Person
    gender: Gender
    living: bool
    sort: int


@dataclass(frozen=True)
class Gap:
    """The place in a relative clause from which its head is taken."""

    person: Person
    gender: Gender
    sort: int
    human: bool


@dataclass(frozen=True)
class Quality:
    """An adjective beside a noun, or an adverb made from it."""

    source: str
    target: TargetWord


@dataclass(frozen=True)
class Nominal:
    determiner: Determiner
    qualities: tuple[Quality, ...]
    compound: tuple[Noun, TargetNoun] | None
    noun: Noun
    sense: TargetNoun
    plural: bool
    owner: "NounPhrase | None" = None
    attached: "NounPhrase | None" = None
    """A companion, spoken as "with" after this noun in both languages."""
    relative: "Clause | None" = None


@dataclass(frozen=True)
class Proper:
    name: Fixed


@dataclass(frozen=True)
class Pair:
    first: "NounPhrase"
    second: "NounPhrase"


NounPhrase = Nominal | Proper | Pronoun | Gap | Pair


@dataclass(frozen=True)
class Place:
    """A place, or with a verb of motion a direction."""

    preposition: str
    where: NounPhrase


@dataclass(frozen=True)
class Clause:
    subject: NounPhrase
    verb: Verb
    sense: TargetVerb
    tense: Tense
    helper: str
    """Empty, "have" for the perfect, or a modal."""
    negated: bool
    object: NounPhrase | None = None
    recipient: NounPhrase | None = None
    tool: NounPhrase | None = None
    place: Place | None = None
    manner: Quality | None = None
    time: Fixed | None = None
    time_first: bool = False
    content: "Clause | None" = None
    """The object of saying or thinking: a clause with "that"."""


@dataclass(frozen=True)
class Sentence:
    main: Clause
    link: str = ""
    """Empty, "and" or "but" between equals, or a subordinating conjunction."""
    other: Clause | None = None
    other_first: bool = False


def person_of(phrase: NounPhrase) -> Person:
    """Return the person and number that a verb agrees with."""
    match phrase:
        case Pair():
            return "3p"
        case Pronoun(person=person) | Gap(person=person):
            return person
        case Nominal(plural=True):
            return "3p"
        case _:
            return "3s"
