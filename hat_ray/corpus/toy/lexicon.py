"""The lexicon: some 1,080 source stems with gender, inflection class, senses and synonyms.

Everything here is drawn from one fixed seed: the language is always the same, only its sentences follow the user's
seed. A word has one to three senses; what chooses among them differs by part of speech:
- a noun's sense follows the field of the verb that governs it, which may stand far away,
- a transitive verb's sense follows the sort of its object,
- an adjective's sense follows the sort of its noun.
A sense has one target stem, or two synonyms between which speakers choose freely.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Literal, TypeVar

from hat_ray.corpus.toy.draws import SOURCE_SOUND, TARGET_SOUND, Dice, StemGenerator, WeightedChoice

Gender = Literal["m", "f", "n"]
Kind = Literal["person", "animal", "thing", "tool", "place", "idea"]
Plural = Literal["e", "er", "en", "s", ""]
Frame = Literal["alone", "motion", "object", "recipient", "clause"]

SORT = {"person": 0, "animal": 0, "thing": 1, "tool": 1, "place": 2, "idea": 2}
"""The sort that chooses among the senses of verbs and adjectives: living, object, or place and idea."""
FIELDS = 3
"""Number of fields that verbs belong to; they choose among the senses of nouns."""

LANGUAGE_SEED = 20200708  # the day HAT was presented at ACL
AMBIGUOUS = 0.16
SYNONYMS, SYNONYMS_OF_FREQUENT = 0.06, 0.30
FREQUENT = 30
IRREGULAR_VERBS = 40  # shared out over the frames, rounded down
FAVOURITE_OBJECTS = 3
FAVOURITE_QUALITIES = 2
OBJECTS: WeightedChoice[Kind] = WeightedChoice(
    [("thing", 40), ("person", 20), ("animal", 15), ("tool", 8), ("idea", 12), ("place", 5)]
)
"""Objects of transitive verbs."""

NOUNS: dict[Kind, int] = {"person": 150, "animal": 75, "thing": 160, "tool": 55, "place": 70, "idea": 50}
VERBS: dict[Frame, int] = {"alone": 60, "motion": 16, "object": 145, "recipient": 20, "clause": 10}
NUM_ADJECTIVES = 180
NUM_TIMES = 36
NUM_NAMES = 50
_FUNCTION_WORDS = (
    "the a an and of in on by to with who that not did does do has have can must will when but if many two"
)
_PREFIXES = ("ab", "an", "auf", "aus", "ein", "mit", "vor", "zu")


@dataclass(frozen=True)
class TargetNoun:
    """A target noun; its synonyms share gender and plural class, so that a pronoun need not know which was chosen."""

    stems: tuple[str, ...]
    gender: Gender
    plural: Plural


@dataclass(frozen=True)
class TargetVerb:
    stems: tuple[str, ...]
    prefix: str
    """Separable prefix, or empty."""
    past_vowel: str
    """Vowel of the irregular past, or empty for the regular one."""


@dataclass(frozen=True)
class TargetWord:
    stems: tuple[str, ...]


Sense = TypeVar("Sense")


@dataclass(frozen=True)
class Senses(Generic[Sense]):
    """One to three senses, chosen by a number that the context gives."""

    options: tuple[Sense, ...]

    def at(self, chooser: int) -> Sense:
        return self.options[chooser % len(self.options)]


@dataclass(frozen=True)
class Noun:
    source: str
    kind: Kind
    senses: Senses[TargetNoun]
    qualities: tuple["Adjective", ...]
    """Its most frequent adjectives."""


@dataclass(frozen=True)
class Verb:
    source: str
    source_past: str
    frame: Frame
    field: int
    senses: Senses[TargetVerb]
    objects: tuple[Noun, ...]
    """The objects that it mostly takes; none for verbs without."""


@dataclass(frozen=True)
class Adjective:
    source: str
    senses: Senses[TargetWord]


@dataclass(frozen=True)
class Fixed:
    """A word that never changes: a name or an adverb of time."""

    source: str
    target: str
    gender: Gender = "n"


@dataclass(frozen=True)
class Lexicon:
    nouns: dict[Kind, WeightedChoice[Noun]]
    verbs: dict[Frame, WeightedChoice[Verb]]
    adjectives: WeightedChoice[Adjective]
    times: WeightedChoice[Fixed]
    names: WeightedChoice[Fixed]


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Return the language's one lexicon."""
    return _Builder().build()


class _Builder:
    """Coins the words, the frequent ones first: they are the short ones."""

    def __init__(self) -> None:
        self._dice = Dice(LANGUAGE_SEED, "lexicon")
        self._source = StemGenerator(SOURCE_SOUND, Dice(LANGUAGE_SEED, "source stems"), _FUNCTION_WORDS.split())
        self._target = StemGenerator(TARGET_SOUND, Dice(LANGUAGE_SEED, "target stems"), ())

    def build(self) -> Lexicon:
        self._adjectives = WeightedChoice.zipf([self._adjective(rank) for rank in range(NUM_ADJECTIVES)], 2)
        self._nouns = {
            kind: WeightedChoice.zipf([self._noun(kind, r) for r in range(n)], 2) for kind, n in NOUNS.items()
        }
        return Lexicon(
            nouns=self._nouns,
            verbs={
                frame: WeightedChoice.zipf([self._verb(frame, r) for r in range(n)], 3) for frame, n in VERBS.items()
            },
            adjectives=self._adjectives,
            times=WeightedChoice.zipf([self._time(rank) for rank in range(NUM_TIMES)], 2),
            names=WeightedChoice.zipf([self._name() for _ in range(NUM_NAMES)], 2),
        )

    def _noun(self, kind: Kind, rank: int) -> Noun:
        long = self._is_long(rank)
        senses = tuple(self._target_noun(kind, rank) for _ in range(self._num_senses()))
        qualities = tuple(self._adjectives.draw(self._dice) for _ in range(FAVOURITE_QUALITIES))
        return Noun(self._source.coin(long=long), kind, Senses(senses), qualities)

    def _target_noun(self, kind: Kind, rank: int) -> TargetNoun:
        genders: Sequence[Gender] = ("m", "m", "f") if kind in {"person", "animal"} else ("m", "f", "n")
        gender = self._dice.pick(genders)
        plurals: dict[Gender, Sequence[Plural]] = {
            "m": ("e", "e", "e", "er", ""),
            "f": ("en", "en", "en", "en", "s"),
            "n": ("er", "er", "e", "s", ""),
        }
        return TargetNoun(self._stems(rank, long=self._is_long(rank)), gender, self._dice.pick(plurals[gender]))

    def _verb(self, frame: Frame, rank: int) -> Verb:
        irregular = rank < IRREGULAR_VERBS * VERBS[frame] // sum(VERBS.values())
        stem = self._source.coin(long=rank >= VERBS[frame] // 2)
        past = _change_vowel(stem, "o") if irregular else _add_ed(stem)
        count = self._num_senses() if frame == "object" else 1
        senses = tuple(self._target_verb(irregular, rank) for _ in range(count))
        return Verb(stem, past, frame, self._dice.below(FIELDS), Senses(senses), self._objects(frame))

    def _objects(self, frame: Frame) -> tuple[Noun, ...]:
        if frame not in ("object", "recipient"):
            return ()
        kinds = [OBJECTS.draw(self._dice) if frame == "object" else "thing" for _ in range(FAVOURITE_OBJECTS)]
        return tuple(self._nouns[kind].draw(self._dice) for kind in kinds)

    def _target_verb(self, irregular: bool, rank: int) -> TargetVerb:
        prefix = self._dice.pick(_PREFIXES) if self._dice.chance(0.25) else ""
        return TargetVerb(self._stems(rank, long=False), prefix, self._dice.pick(("a", "o", "u")) if irregular else "")

    def _adjective(self, rank: int) -> Adjective:
        long = self._is_long(rank)
        senses = tuple(TargetWord(self._stems(rank, long=long)) for _ in range(self._num_senses()))
        return Adjective(self._source.coin(long=long), Senses(senses))

    def _time(self, rank: int) -> Fixed:
        long = self._is_long(rank)
        return Fixed(self._source.coin(long=long), self._target.coin(long=long) + "s")

    def _name(self) -> Fixed:
        stem = self._source.coin(long=True)
        gender = self._dice.pick(("m", "f"))
        return Fixed(stem.capitalize(), _respell(stem).capitalize(), "m" if gender == "m" else "f")

    def _stems(self, rank: int, *, long: bool) -> tuple[str, ...]:
        count = 1 + self._dice.chance(SYNONYMS_OF_FREQUENT if rank < FREQUENT else SYNONYMS)
        return tuple(self._target.coin(long=long) for _ in range(count))

    def _num_senses(self) -> int:
        return 1 if not self._dice.chance(AMBIGUOUS) else 2 + self._dice.chance(0.3)

    def _is_long(self, rank: int) -> bool:
        return self._dice.chance(0.2 if rank < FREQUENT else 0.7)


def _change_vowel(stem: str, vowel: str) -> str:
    """Replace the first run of vowels."""
    first = next(place for place, letter in enumerate(stem) if letter in "aeiou")
    last = first
    while stem[last] in "aeiou":
        last += 1
    return stem[:first] + (vowel if stem[first:last] != vowel else "e") + stem[last:]


def _add_ed(stem: str) -> str:
    return stem + ("d" if stem.endswith("e") else "ed")


def _respell(name: str) -> str:
    """Spell a source name as the target writes it."""
    for source, target in (
        ("ch", "tsch"),
        ("ck", "k"),
        ("c", "k"),
        ("sh", "sch"),
        ("oo", "u"),
        ("ee", "ie"),
        ("wh", "w"),
    ):
        name = name.replace(source, target)
    return name
