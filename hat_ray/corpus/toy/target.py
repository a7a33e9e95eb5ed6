"""Speak a derivation in the German-like target language.

Word order: the finite verb second, or last in a subordinate clause; participle, infinitive and separable prefix at the
end; pronoun objects, time, recipient, tool, object, "nicht", manner, place between. A tool ("with" and a tool noun)
belongs to the verb and comes before the object; a companion ("with" and any other noun) stays behind its noun.
Free variation, drawn from its own stream: synonyms, and a late adverb of time that comes first.
"""

from typing import Literal

from hat_ray.corpus.toy import inflect
from hat_ray.corpus.toy.draws import Dice
from hat_ray.corpus.toy.inflect import Case, Slot
from hat_ray.corpus.toy.tree import Clause, Gap, Nominal, NounPhrase, Pair, Place, Pronoun, Proper, Sentence, person_of

Order = Literal["second", "first", "last"]
"""Position of the finite verb."""

SECOND_SYNONYM = 0.4
FRONTING = 0.25

_PREPOSITIONS = {"in": "in", "on": "auf", "behind": "hinter", "under": "unter", "near": "neben"}
_LINKS = {"and": ("und",), "but": ("aber",), "because": ("weil", "da"), "if": ("falls",), "although": ("obwohl",)}
_CONTRACTIONS = {("in", "dem"): "im", ("in", "das"): "ins"}


def speak_target(sentence: Sentence, variation: Dice) -> list[str]:
    """Return the tokens of a sentence."""
    return _Speaker(variation).sentence(sentence)


class _Speaker:
    def __init__(self, variation: Dice) -> None:
        self._variation = variation

    def sentence(self, sentence: Sentence) -> list[str]:
        if sentence.other is None:
            return [*self._clause(sentence.main, "second"), "."]
        link = self._link(sentence)
        if sentence.other_first:
            return [*link, *self._clause(sentence.other, "last"), ",", *self._clause(sentence.main, "first"), "."]
        main = self._clause(sentence.main, "second")
        if sentence.link in ("and", "but"):
            comma = [","] if sentence.link == "but" else []
            return [*main, *comma, *link, *self._clause(sentence.other, "second"), "."]
        return [*main, ",", *link, *self._clause(sentence.other, "last"), "."]

    def _link(self, sentence: Sentence) -> list[str]:
        if sentence.link == "when":
            past = sentence.other is not None and sentence.other.tense == "past"
            return ["als" if past else "wenn"]
        return [self._choose(_LINKS[sentence.link])]

    def _clause(self, clause: Clause, order: Order) -> list[str]:
        subject = self._phrase(clause.subject, "nom")
        finite, rest = self._verb(clause)
        content = [",", "dass", *self._clause(clause.content, "last"), ","] if clause.content else []
        if order == "last":
            # A separable prefix stays with a finite verb that comes last.
            joined = [rest[0] + finite] if rest and not clause.helper else [*rest, finite]
            return [*subject, *self._middle(clause, with_time=True), *joined, *content]
        time_first = order == "second" and self._time_first(clause)
        middle = self._middle(clause, with_time=not time_first)
        if time_first and clause.time:
            return [clause.time.target, finite, *subject, *middle, *rest, *content]
        head = [finite, *subject] if order == "first" else [*subject, finite]
        return [*head, *middle, *rest, *content]

    def _time_first(self, clause: Clause) -> bool:
        return clause.time is not None and (clause.time_first or self._variation.chance(FRONTING))

    def _verb(self, clause: Clause) -> tuple[str, list[str]]:
        """Return the finite verb, and the words at the clause's end."""
        sense, person = clause.sense, person_of(clause.subject)
        stem = self._choose(sense.stems)
        if not clause.helper:
            finite = inflect.finite_form(stem, sense.past_vowel, clause.tense, person)
            return finite, [sense.prefix] if sense.prefix else []
        helper = "be" if clause.helper == "have" and clause.verb.frame == "motion" else clause.helper
        if clause.helper == "have":
            end = sense.prefix + inflect.participle(stem, sense.past_vowel)
        else:
            end = sense.prefix + inflect.infinitive(stem)
        return inflect.helper_form(helper, clause.tense, person), [end]

    def _middle(self, clause: Clause, *, with_time: bool) -> list[str]:
        pronoun = isinstance(clause.object, Pronoun)
        thing = self._phrase(clause.object, "acc") if clause.object else []
        return [
            *(thing if pronoun else []),
            *([clause.time.target] if clause.time and with_time else []),
            *(self._phrase(clause.recipient, "dat") if clause.recipient else []),
            *(["mit", *self._phrase(clause.tool, "dat")] if clause.tool else []),
            *([] if pronoun else thing),
            *(["nicht"] if clause.negated else []),
            *([self._choose(clause.manner.target.stems)] if clause.manner else []),
            *(self._place(clause.place, clause.verb.frame == "motion") if clause.place else []),
        ]

    def _place(self, place: Place, motion: bool) -> list[str]:
        """A place takes the dative, a direction the accusative."""
        first = _PREPOSITIONS[place.preposition]
        words = self._phrase(place.where, "acc" if motion else "dat")
        contracted = _CONTRACTIONS.get((first, words[0]))
        return [contracted, *words[1:]] if contracted else [first, *words]

    def _phrase(self, phrase: NounPhrase, case: Case) -> list[str]:
        match phrase:
            case Pronoun():
                return [inflect.pronoun_form(phrase, case)]
            case Proper():
                return [phrase.name.target]
            case Pair():
                return [*self._phrase(phrase.first, case), "und", *self._phrase(phrase.second, case)]
            case Nominal():
                return self._nominal(phrase, case)
            case Gap():
                return []

    def _nominal(self, phrase: Nominal, case: Case) -> list[str]:
        slot: Slot = "pl" if phrase.plural else phrase.sense.gender
        determiner = inflect.determiner_form(phrase.determiner, slot, case)
        words = [determiner] if determiner else []
        for quality in phrase.qualities:
            words.append(inflect.adjective_form(self._choose(quality.target.stems), phrase.determiner, slot, case))
        words.append(self._noun(phrase, slot, case))
        words += self._phrase(phrase.owner, "gen") if phrase.owner is not None else []
        words += ["mit", *self._phrase(phrase.attached, "dat")] if phrase.attached is not None else []
        return words + (self._relative(phrase, phrase.relative) if phrase.relative is not None else [])

    def _noun(self, phrase: Nominal, slot: Slot, case: Case) -> str:
        stem = self._choose(phrase.sense.stems)
        if phrase.compound is not None:
            modifier = phrase.compound[1]
            stem = inflect.compound_form(self._choose(modifier.stems), modifier.plural, stem)
        return inflect.noun_form(stem, phrase.sense.plural, slot, case).capitalize()

    def _relative(self, head: Nominal, clause: Clause) -> list[str]:
        case: Case = "acc" if isinstance(clause.object, Gap) else "nom"
        pronoun = inflect.relative_form(head.sense.gender, person_of(head), case)
        return [",", pronoun, *self._clause(clause, "last"), ","]

    def _choose(self, stems: tuple[str, ...]) -> str:
        """Choose between synonyms; one draw even where there is no choice, so that streams stay in step."""
        second = self._variation.chance(SECOND_SYNONYM)
        return stems[1] if second and len(stems) > 1 else stems[0]
