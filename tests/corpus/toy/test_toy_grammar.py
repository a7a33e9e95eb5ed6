"""Both speakers on derivations made by hand: each test is one phenomenon of the language."""

import pytest

from hat_ray.corpus.toy.draws import Dice, WeightedChoice
from hat_ray.corpus.toy.generate import write
from hat_ray.corpus.toy.inflect import adjective_form, compound_form, finite_form, noun_form, participle
from hat_ray.corpus.toy.lexicon import (
    Fixed,
    Gender,
    Kind,
    Noun,
    Plural,
    Senses,
    TargetNoun,
    TargetVerb,
    TargetWord,
    Verb,
)
from hat_ray.corpus.toy.source import speak_source
from hat_ray.corpus.toy.target import speak_target
from hat_ray.corpus.toy.tree import Clause, Gap, Nominal, Place, Pronoun, Quality, Sentence


def noun(source: str, target: str, gender: Gender, plural: Plural, kind: Kind = "thing") -> Noun:
    return Noun(source, kind, Senses((TargetNoun((target,), gender, plural),)), ())


def the(word: Noun, **settings: object) -> Nominal:
    values = {"determiner": "the", "qualities": (), "compound": None, "plural": False, **settings}
    return Nominal(noun=word, sense=word.senses.at(0), **values)  # type: ignore[arg-type]


def clause(subject: object, verb: Verb, **settings: object) -> Clause:
    values = {"tense": "present", "helper": "", "negated": False, **settings}
    return Clause(subject, verb, verb.senses.at(0), **values)  # type: ignore[arg-type]


MAN = noun("man", "mann", "m", "er", "person")
WOMAN = noun("woman", "frau", "f", "en", "person")
BOOK = noun("book", "buch", "n", "er")
HAMMER = noun("hammer", "hammer", "m", "", "tool")
HOUSE = noun("house", "haus", "n", "er", "place")
READ = Verb("read", "read", "object", 0, Senses((TargetVerb(("les",), "vor", "a"),)), ())
PLAY = Verb("play", "played", "object", 0, Senses((TargetVerb(("spiel",), "", ""),)), ())
GO = Verb("go", "went", "motion", 0, Senses((TargetVerb(("geh",), "", "i"),)), ())
OLD = Quality("old", TargetWord(("alt",)))
TODAY = Fixed("today", "heute")


def spoken(sentence: Sentence) -> tuple[str, str]:
    return write(speak_source(sentence)), write(speak_target(sentence, Dice(5, "test")))


@pytest.mark.parametrize(
    ("sentence", "source", "target"),
    [
        (
            Sentence(clause(the(MAN), READ, object=the(BOOK, qualities=(OLD,)))),
            "The man reads the old book.",
            "Der Mann lest das alte Buch vor.",
        ),
        (
            Sentence(clause(the(MAN), READ, object=the(BOOK), time=TODAY, time_first=True)),
            "Today, the man reads the book.",
            "Heute lest der Mann das Buch vor.",
        ),
        (
            Sentence(clause(the(MAN), READ, object=the(BOOK), helper="have", negated=True)),
            "The man has not read the book.",
            "Der Mann hat das Buch nicht vorgelasen.",
        ),
        (
            Sentence(clause(the(MAN, plural=True), PLAY), "because", clause(the(WOMAN), READ, object=the(BOOK))),
            "The mans play because the woman reads the book.",
            "Die Männer spielen, weil die Frau das Buch vorlest.",
        ),
        (
            Sentence(
                clause(the(MAN), PLAY, object=the(BOOK)),
                "when",
                clause(the(WOMAN), READ, object=Pronoun("3s", "n", living=False, sort=1), tense="past"),
                other_first=True,
            ),
            "When the woman read it, the man plays the book.",
            "Als die Frau es vorlas, spielt der Mann das Buch.",
        ),
        (
            Sentence(clause(the(MAN), PLAY, object=the(WOMAN, attached=the(BOOK)), tool=the(HAMMER))),
            "The man plays the woman with the book with the hammer.",
            "Der Mann spielt mit dem Hammer die Frau mit dem Buch.",
        ),
        (
            Sentence(clause(the(MAN, owner=the(WOMAN)), GO, place=Place("in", the(HOUSE)), helper="have")),
            "The man of the woman has went in the house.",
            "Der Mann der Frau ist ins Haus gegihen.",
        ),
        (
            Sentence(clause(the(MAN), PLAY, place=Place("in", the(HOUSE)))),
            "The man plays in the house.",
            "Der Mann spielt im Haus.",
        ),
        (
            Sentence(
                clause(
                    the(MAN, plural=True, relative=clause(Gap("3p", "m", 0, True), PLAY, object=the(WOMAN))),
                    READ,
                    object=the(BOOK, relative=clause(the(WOMAN), PLAY, object=Gap("3s", "n", 1, False))),
                )
            ),
            "The mans who play the woman read the book that the woman plays.",
            "Die Männer, die die Frau spielen, lesen das Buch, das die Frau spielt, vor.",
        ),
    ],
)
def test_a_derivation_is_spoken_in_both_languages(sentence: Sentence, source: str, target: str) -> None:
    assert spoken(sentence) == (source, target)


def test_a_late_adverb_of_time_comes_first_now_and_then() -> None:
    sentence = Sentence(clause(the(MAN), PLAY, object=the(BOOK), time=TODAY))
    told = {write(speak_target(sentence, Dice(seed, "test"))) for seed in range(60)}
    assert told == {"Der Mann spielt heute das Buch.", "Heute spielt der Mann das Buch."}


def test_adjectives_are_strong_mixed_or_weak() -> None:
    assert adjective_form("alt", "the", "m", "nom") == "alte"
    assert adjective_form("alt", "a", "m", "nom") == "alter"
    assert adjective_form("alt", "bare", "pl", "dat") == "alten"
    assert adjective_form("alt", "two", "pl", "nom") == "alte"


def test_nouns_and_verbs_inflect_by_class() -> None:
    assert noun_form("buch", "er", "pl", "dat") == "büchern"
    assert noun_form("frau", "en", "pl", "nom") == "frauen"
    assert noun_form("hammer", "", "pl", "dat") == "hammern"
    assert noun_form("haus", "er", "n", "gen") == "hauses"
    assert compound_form("kind", "er", "buch") == "kinderbuch"
    assert finite_form("arbeit", "", "past", "3s") == "arbeitete"
    assert participle("spiel", "") == "gespielt"


def test_an_urn_draws_by_weight_and_dice_by_seed() -> None:
    choice = WeightedChoice([("often", 9), ("rarely", 1)])
    drawn = [choice.draw(Dice(seed, "urn")) for seed in range(400)]
    assert 0.8 < drawn.count("often") / len(drawn) < 0.97
    assert [Dice(1, "x").below(10**6) for _ in range(2)] == [Dice(1, "x").below(10**6)] * 2
    assert Dice(1, "x").below(10**6) != Dice(1, "y").below(10**6)
