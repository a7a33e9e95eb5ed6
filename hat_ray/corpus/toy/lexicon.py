"""The lexicon: some 1,450 source stems with gender, inflection class, senses and synonyms.

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

from hat_ray.corpus.toy.coin import SOURCE_SOUND, TARGET_SOUND, Mint
from hat_ray.corpus.toy.dice import Dice, Urn

Gender = Literal["m", "f", "n"]
Kind = Literal["person", "animal", "thing", "tool", "place", "idea"]
Plural = Literal["e", "er", "en", "s", ""]
Frame = Literal["alone", "motion", "object", "recipient", "clause"]

SORT = {"person": 0, "animal": 0, "thing": 1, "tool": 1, "place": 2, "idea": 2}
"""The sort that chooses among the senses of verbs and adjectives: living, object, or place and idea."""
FIELDS = 3
"""Number of fields that verbs belong to; they choose among the senses of nouns."""

LANGUAGE_SEED = 20200708  # the day HAT was presented at ACL
AMBIGUOUS = 0.13
SYNONYMS = 0.10
IRREGULAR_VERBS = 40

NOUNS: dict[Kind, int] = {"person": 190, "animal": 90, "thing": 190, "tool": 70, "place": 90, "idea": 60}
VERBS: dict[Frame, int] = {"alone": 70, "motion": 20, "object": 170, "recipient": 25, "clause": 12}
NUM_ADJECTIVES = 220
NUM_TIMES = 40
NUM_NAMES = 60
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


@dataclass(frozen=True)
class Verb:
    source: str
    source_past: str
    frame: Frame
    field: int
    senses: Senses[TargetVerb]


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
    nouns: dict[Kind, Urn[Noun]]
    verbs: dict[Frame, Urn[Verb]]
    adjectives: Urn[Adjective]
    times: Urn[Fixed]
    names: Urn[Fixed]

    @property
    def num_stems(self) -> int:
        urns: list[Urn[Noun] | Urn[Verb]] = [*self.nouns.values(), *self.verbs.values()]
        return sum(len(urn.items) for urn in urns) + sum(
            len(urn) for urn in (self.adjectives.items, self.times.items, self.names.items)
        )


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Return the language's one lexicon."""
    return _Builder().build()


class _Builder:
    """Coins the words, the frequent ones first: they are the short ones."""

    def __init__(self) -> None:
        self._dice = Dice(LANGUAGE_SEED, "lexicon")
        self._source = Mint(SOURCE_SOUND, Dice(LANGUAGE_SEED, "source stems"), _FUNCTION_WORDS.split())
        self._target = Mint(TARGET_SOUND, Dice(LANGUAGE_SEED, "target stems"), ())

    def build(self) -> Lexicon:
        return Lexicon(
            nouns={kind: Urn.zipf([self._noun(kind, r) for r in range(n)], 4) for kind, n in NOUNS.items()},
            verbs={frame: Urn.zipf([self._verb(frame, r) for r in range(n)], 3) for frame, n in VERBS.items()},
            adjectives=Urn.zipf([self._adjective(rank) for rank in range(NUM_ADJECTIVES)], 4),
            times=Urn.zipf([self._time(rank) for rank in range(NUM_TIMES)], 3),
            names=Urn.zipf([self._name() for _ in range(NUM_NAMES)], 4),
        )

    def _noun(self, kind: Kind, rank: int) -> Noun:
        long = self._is_long(rank)
        senses = tuple(self._target_noun(kind, long) for _ in range(self._num_senses()))
        return Noun(self._source.coin(long=long), kind, Senses(senses))

    def _target_noun(self, kind: Kind, long: bool) -> TargetNoun:
        genders: Sequence[Gender] = ("m", "m", "f") if kind in {"person", "animal"} else ("m", "f", "n")
        gender = self._dice.pick(genders)
        plurals: dict[Gender, Sequence[Plural]] = {
            "m": ("e", "e", "e", "er", ""),
            "f": ("en", "en", "en", "en", "s"),
            "n": ("er", "er", "e", "s", ""),
        }
        return TargetNoun(self._stems(long), gender, self._dice.pick(plurals[gender]))

    def _verb(self, frame: Frame, rank: int) -> Verb:
        irregular = rank < IRREGULAR_VERBS * VERBS[frame] // sum(VERBS.values())
        stem = self._source.coin(long=rank >= VERBS[frame] // 2)
        past = _change_vowel(stem, "o") if irregular else _add_ed(stem)
        count = self._num_senses() if frame == "object" else 1
        senses = tuple(self._target_verb(irregular) for _ in range(count))
        return Verb(stem, past, frame, self._dice.below(FIELDS), Senses(senses))

    def _target_verb(self, irregular: bool) -> TargetVerb:
        prefix = self._dice.pick(_PREFIXES) if self._dice.chance(0.25) else ""
        return TargetVerb(self._stems(long=False), prefix, self._dice.pick(("a", "o", "u")) if irregular else "")

    def _adjective(self, rank: int) -> Adjective:
        long = self._is_long(rank)
        senses = tuple(TargetWord(self._stems(long)) for _ in range(self._num_senses()))
        return Adjective(self._source.coin(long=long), Senses(senses))

    def _time(self, rank: int) -> Fixed:
        long = self._is_long(rank)
        return Fixed(self._source.coin(long=long), self._target.coin(long=long) + "s")

    def _name(self) -> Fixed:
        stem = self._source.coin(long=True)
        gender = self._dice.pick(("m", "f"))
        return Fixed(stem.capitalize(), _respell(stem).capitalize(), "m" if gender == "m" else "f")

    def _stems(self, long: bool) -> tuple[str, ...]:
        count = 2 if self._dice.chance(SYNONYMS) else 1
        return tuple(self._target.coin(long=long) for _ in range(count))

    def _num_senses(self) -> int:
        return 1 if not self._dice.chance(AMBIGUOUS) else 2 + self._dice.chance(0.3)

    def _is_long(self, rank: int) -> bool:
        return self._dice.chance(0.2 if rank < 30 else 0.7)


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
