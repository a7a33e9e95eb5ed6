"""Draw derivations. Probabilities stand here together; they were tuned to the aims that tests/corpus/toy measures."""

from hat_ray.corpus.toy.draws import Dice, WeightedChoice
from hat_ray.corpus.toy.lexicon import OBJECTS, SORT, Adjective, Frame, Gender, Kind, Lexicon, Noun, Verb
from hat_ray.corpus.toy.tree import (
    Clause,
    Determiner,
    Gap,
    Nominal,
    NounPhrase,
    Pair,
    Person,
    Place,
    Pronoun,
    Proper,
    Quality,
    Sentence,
    Tense,
    person_of,
)

MAX_DEPTH = 3

_FRAMES: WeightedChoice[Frame] = WeightedChoice(
    [("object", 52), ("alone", 14), ("motion", 10), ("recipient", 12), ("clause", 8)]
)
_INNER_FRAMES: WeightedChoice[Frame] = WeightedChoice([("object", 60), ("alone", 25), ("motion", 15)])
_SUBJECTS: WeightedChoice[Kind] = WeightedChoice([("person", 75), ("animal", 20), ("thing", 5)])
_FAVOURITE_OBJECT = 0.7
_FAVOURITE_QUALITY = 0.6
_DETERMINERS: WeightedChoice[Determiner] = WeightedChoice(
    [("the", 60), ("a", 22), ("this", 6), ("my", 6), ("his", 5), ("no", 2), ("many", 4), ("two", 3), ("bare", 4)]
)
_PERSONS: WeightedChoice[tuple[Person, Gender]] = WeightedChoice(
    [(("1s", "m"), 25), (("1p", "m"), 15), (("3s", "m"), 25), (("3s", "f"), 20), (("3p", "m"), 15)]
)
_PREPOSITIONS = WeightedChoice.zipf(("in", "on", "behind", "under", "near"), 2)
_HELPERS = WeightedChoice([("", 76), ("have", 10), ("can", 5), ("must", 4), ("will", 5)])
_LINKS = WeightedChoice([("", 62), ("and", 12), ("but", 5), ("because", 8), ("when", 7), ("if", 3), ("although", 3)])
_ALWAYS_PLURAL = ("many", "two", "bare")
_NEVER_PLURAL = ("a", "this")


class Deriver:
    """Draws sentences from one stream."""

    def __init__(self, words: Lexicon, dice: Dice) -> None:
        self._words = words
        self._dice = dice

    def sentence(self) -> Sentence:
        link = _LINKS.draw(self._dice)
        main = self._clause(_FRAMES.draw(self._dice), depth=0, short=bool(link))
        if not link:
            return Sentence(main)
        other = self._clause(_INNER_FRAMES.draw(self._dice), depth=1, short=True, antecedent=main.object)
        first = link in ("because", "when", "if", "although") and self._dice.chance(0.3)
        return Sentence(main, link, other, other_first=first and not _has_it(other))

    def _clause(
        self,
        frame: Frame,
        depth: int,
        *,
        short: bool = False,
        antecedent: NounPhrase | None = None,
        gap: Gap | None = None,
    ) -> Clause:
        """Draw a clause; with a gap, either its subject or its object is missing."""
        chance = self._dice.chance
        verb = self._words.verbs[frame].draw(self._dice)
        gap_is_object = gap is not None and frame == "object" and chance(0.35)
        subject = gap if gap is not None and not gap_is_object else self._subject(verb, depth, antecedent)
        thing = gap if gap_is_object else self._object(verb, depth, antecedent)
        extra = 0.4 if short or depth else 1.0
        manner = self._manner() if chance(0.12 * extra) else None
        time = self._words.times.draw(self._dice) if chance(0.45 * extra) else None
        return Clause(
            subject,
            verb,
            verb.senses.at(_sort_of(thing)),
            self._tense(),
            _HELPERS.draw(self._dice) if not depth or chance(0.4) else "",
            chance(0.06 * extra),
            object=thing,
            recipient=self._phrase("person", verb, depth + 1) if frame == "recipient" else None,
            tool=self._tool(verb, depth, extra) if frame == "object" else None,
            place=self._place(verb, depth, extra),
            manner=manner,
            time=time,
            time_first=time is not None and depth == 0 and chance(0.4),
            content=self._clause(_INNER_FRAMES.draw(self._dice), depth + 1, short=True) if frame == "clause" else None,
        )

    def _subject(self, verb: Verb, depth: int, antecedent: NounPhrase | None) -> NounPhrase:
        if antecedent is not None and self._dice.chance(0.3) and (pronoun := _refer(antecedent)):
            return pronoun
        if self._dice.chance(0.22):
            person, gender = _PERSONS.draw(self._dice)
            return Pronoun(person, gender, living=True, sort=0)
        if self._dice.chance(0.12):
            return Proper(self._words.names.draw(self._dice))
        return self._phrase(_SUBJECTS.draw(self._dice), verb, depth, pair=0.05)

    def _object(self, verb: Verb, depth: int, antecedent: NounPhrase | None) -> NounPhrase | None:
        if verb.frame not in ("object", "recipient"):
            return None
        if antecedent is not None and self._dice.chance(0.3) and (pronoun := _refer(antecedent)):
            return pronoun
        if self._dice.chance(0.08):
            person, gender = _PERSONS.draw(self._dice)
            return Pronoun(person, gender, living=True, sort=0)
        if self._dice.chance(_FAVOURITE_OBJECT):
            return self._phrase(self._dice.pick(verb.objects), verb, depth, companion=0.06)
        kind = "thing" if verb.frame == "recipient" else OBJECTS.draw(self._dice)
        return self._phrase(kind, verb, depth, pair=0.04, companion=0.06)

    def _tool(self, verb: Verb, depth: int, extra: float) -> NounPhrase | None:
        return self._phrase("tool", verb, depth + 2) if self._dice.chance(0.10 * extra) else None

    def _place(self, verb: Verb, depth: int, extra: float) -> Place | None:
        if verb.frame == "clause" or not (verb.frame == "motion" or self._dice.chance(0.3 * extra)):
            return None
        return Place(_PREPOSITIONS.draw(self._dice), self._phrase("place", verb, depth + 1))

    def _phrase(
        self, what: Kind | Noun, verb: Verb, depth: int, *, pair: float = 0.0, companion: float = 0.0
    ) -> NounPhrase:
        """Draw a noun phrase; the deeper it stands, the plainer it is."""
        dice = self._dice
        if dice.chance(pair):
            return Pair(self._phrase(what, verb, depth + 2), self._phrase(what, verb, depth + 2))
        noun = what if isinstance(what, Noun) else self._words.nouns[what].draw(dice)
        kind = noun.kind
        sense = noun.senses.at(verb.field)
        determiner = _DETERMINERS.draw(dice)
        plural = determiner in _ALWAYS_PLURAL or (determiner not in _NEVER_PLURAL and dice.chance(0.2))
        modifier = self._words.nouns[dice.pick(("thing", "animal", "place"))].draw(dice) if dice.chance(0.015) else None
        gap = Gap("3p" if plural else "3s", sense.gender, SORT[kind], human=kind == "person")
        deeper = depth < MAX_DEPTH
        return Nominal(
            determiner,
            self._qualities(noun),
            (modifier, modifier.senses.at(verb.field)) if modifier else None,
            noun,
            sense,
            plural,
            owner=self._phrase("person", verb, depth + 2) if deeper and dice.chance(0.06) else None,
            attached=self._companion(verb, depth) if deeper and dice.chance(companion) else None,
            relative=self._clause(_INNER_FRAMES.draw(dice), depth + 2, gap=gap)
            if deeper and dice.chance(0.07)
            else None,
        )

    def _companion(self, verb: Verb, depth: int) -> NounPhrase:
        return self._phrase(self._dice.pick(("animal", "thing")), verb, depth + 2)

    def _qualities(self, noun: Noun) -> tuple[Quality, ...]:
        adjectives = [self._adjective(noun) for _ in range(self._dice.chance(0.32) + self._dice.chance(0.03))]
        return tuple(Quality(adjective.source, adjective.senses.at(SORT[noun.kind])) for adjective in adjectives)

    def _adjective(self, noun: Noun) -> Adjective:
        favourite = self._dice.chance(_FAVOURITE_QUALITY)
        return self._dice.pick(noun.qualities) if favourite else self._words.adjectives.draw(self._dice)

    def _manner(self) -> Quality:
        adjective = self._words.adjectives.draw(self._dice)
        return Quality(adjective.source, adjective.senses.at(0))

    def _tense(self) -> Tense:
        return "past" if self._dice.chance(0.4) else "present"


def _sort_of(phrase: NounPhrase | None) -> int:
    """Return the property that chooses the sense of the verb whose object this is."""
    match phrase:
        case Nominal(noun=noun):
            return SORT[noun.kind]
        case Pronoun(sort=sort) | Gap(sort=sort):
            return sort
        case Pair(first=first):
            return _sort_of(first)
        case _:
            return 0


def _refer(antecedent: NounPhrase) -> Pronoun | None:
    """Return the pronoun for an earlier noun phrase; None where nothing refers to it unmistakably."""
    if not isinstance(antecedent, Nominal):
        return None
    human = antecedent.noun.kind == "person"
    return Pronoun(person_of(antecedent), antecedent.sense.gender, living=human, sort=SORT[antecedent.noun.kind])


def _has_it(clause: Clause) -> bool:
    """Whether a clause refers back, so that it may not come first."""
    return any(isinstance(phrase, Pronoun) and phrase.person[0] == "3" for phrase in (clause.subject, clause.object))
