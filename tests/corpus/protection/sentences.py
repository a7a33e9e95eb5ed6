"""Sentences that hold what a translation must not change, drawn from a seed."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KINDS = ("url", "e-mail", "placeholder", "mark-up", "number", "emoji", "code")

FRAMES = (
    "Visit {} for more information.",
    "See {} and {} before you begin.",
    "Please write to {} if you have a question.",
    "Hello {}, the man with the dog is waiting for you.",
    "A man is looking at {} on his computer.",
    "Two women are talking about {} in front of a shop.",
    "{} is the new page of the team.",
    "The boy in the red shirt says that {} is better than {}.",
    "If you want to play, use {}; if not, use {}.",
    "{}: a child is jumping into the water.",
    "Do you know {}?",
    "The people (see {}) are standing in a line.",
    "A girl wrote {}, {} and {} on the wall.",
    "He paid {} for the bike, and she paid {} for the ball.",
    "My name is {}.",
    "Take the train to {}, then walk to {}.",
    "There are {} here, but only {} there.",
    "The woman sent {} to {}.",
)
WRAPS = (
    "Press {}here{} to see the dogs.",
    "The {}small white dog{} is running through the snow.",
    "{}A man is riding a horse.{}",
    "Two men are sitting {}on a bench{}, and a woman is {}standing{}.",
)
WORDS = (
    "shop",
    "blog",
    "docs",
    "mail",
    "news",
    "team",
    "page",
    "data",
    "user",
    "item",
    "count",
    "total",
    "city",
    "date",
)


@dataclass(frozen=True)
class Sentence:
    """A sentence with what must come through."""

    text: str
    values: tuple[str, ...]
    kind: str
    """What its values are; `mixed` of several kinds."""


def draw_sentences(count: int, seed: int, others: Sequence[str] = ()) -> list[Sentence]:
    """Draw sentences: half of them frames, half `others` with values between their words."""
    chance = random.Random(seed)
    return [_others(chance, others) if others and number % 2 else _framed(chance) for number in range(count)]


def _framed(chance: random.Random) -> Sentence:
    kind = chance.choice((*KINDS, "mixed"))
    frame = chance.choice(WRAPS if kind == "mark-up" else FRAMES)
    return _filled(frame, kind, chance)


def _others(chance: random.Random, others: Sequence[str]) -> Sentence:
    kind = chance.choice((*KINDS, "mixed"))
    words = chance.choice(others).replace("{", "").replace("}", "").split()
    places = sorted(
        chance.sample(range(len(words) + 1), min(len(words), 2 if kind == "mark-up" else chance.choice((1, 1, 2, 3))))
    )
    if kind == "mark-up" and len(places) == 2 and places[0] < places[1] <= len(words):
        inner = "{}" + " ".join(words[places[0] : places[1]]) + "{}"
        return _filled(" ".join([*words[: places[0]], inner, *words[places[1] :]]), kind, chance)
    for place in reversed(places):
        words.insert(place, "{}")
    return _filled(" ".join(words), kind, chance)


def _filled(frame: str, kind: str, chance: random.Random) -> Sentence:
    values: list[str] = []
    open_tags: list[str] = []
    for _ in range(frame.count("{}")):
        own = kind if kind != "mixed" else chance.choice([one for one in KINDS if one != "mark-up"])
        if own == "mark-up":
            tag = f"</{open_tags.pop()}>" if open_tags else _tag(chance, open_tags)
            values.append(tag)
        else:
            values.append(MAKERS[own](chance))
    pieces = frame.split("{}")
    text = pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))
    return Sentence(text, tuple(values), kind)


def _tag(chance: random.Random, open_tags: list[str]) -> str:
    name = chance.choice(("b", "i", "em", "span", "a"))
    open_tags.append(name)
    return f'<a href="{_url(chance)}">' if name == "a" else f"<{name}>"


def _word(chance: random.Random) -> str:
    return chance.choice(WORDS)


def _url(chance: random.Random) -> str:
    place = f"{_word(chance)}.{chance.choice(('example', 'test', 'shop'))}.{chance.choice(('com', 'org', 'de'))}"
    path = "".join(f"/{_word(chance)}" for _ in range(chance.randrange(3)))
    query = f"?{_word(chance)}={chance.randrange(1000)}" if chance.random() < 0.3 else ""
    return f"{chance.choice(('https://', 'http://', 'https://www.'))}{place}{path}{query}"


def _placeholder(chance: random.Random) -> str:
    word = _word(chance)
    forms = ("{%s}", "{{%s}}", "${%s}", "%%(%s)s", "%%{%s}", "{%s:.2f}")
    return chance.choice((*(form % word for form in forms), "%d", "%s", "%1$s", "%2$d", "{0}", "{1}"))


def _number(chance: random.Random) -> str:
    whole = chance.randrange(10, 100_000)
    return chance.choice(
        (
            *(f"{whole}", f"{whole / 100:.2f}", f"{whole % 500 + 1} km", f"{whole % 50 + 1} %", f"${whole % 90 + 1}"),
            *(f"{whole % 90}.{whole % 10} kg", f"{whole % 12 + 10}:{whole % 50 + 10}", f"20{whole % 80 + 10}-11-30"),
            *(f"{whole % 80 + 1} \u00b0C", f"\u20ac {whole % 90 + 1}.99"),
        )
    )


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "url": _url,
    "e-mail": lambda chance: f"{_word(chance)}.{_word(chance)}@{_word(chance)}.example.org",
    "placeholder": _placeholder,
    "number": _number,
    "emoji": lambda chance: chance.choice(
        (
            "\U0001f600",
            "\u2764\ufe0f",
            "\U0001f44d\U0001f3fd",
            "\U0001f1e9\U0001f1ea",
            "\U0001f469\u200d\U0001f4bb",
            "\u2705",
        )
    ),
    "code": lambda chance: f"`{_word(chance)} = {chance.randrange(100)}`",
}


def unharmed(sentence: Sentence, translation: str) -> bool:
    """Report whether every value stands in a translation as often as in its sentence, and no word is glued to it."""
    if any(translation.count(value) != sentence.text.count(value) for value in sentence.values):
        return False
    plain = [value for value in sentence.values if not value.startswith("<")]  # mark-up touches words
    return not any(re.search(rf"\w{re.escape(value)}|{re.escape(value)}\w", translation) for value in plain)
