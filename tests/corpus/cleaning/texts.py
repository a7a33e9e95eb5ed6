"""Parallel texts of several scripts, and what can go wrong with one."""

import gzip
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.toy.generate import generate

Lines = list[str]
Fault = Callable[[Lines, Lines, int, int], tuple[Lines, Lines]]

CYRILLIC = dict(zip("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопкрстувъыьз", strict=True))
ARABIC = dict(zip("abcdefghijklmnopqrstuvwxyz", "ابتثجحخدذرزسشصضطظعغفقكلمنه", strict=True))


@lru_cache(maxsize=1)
def toy(pairs: int = 4_000) -> tuple[Lines, Lines]:
    text = generate(ToyConfig(train_pairs=pairs, valid_pairs=1, test_pairs=1, seed=3))["train"]
    return list(text.source), list(text.target)


def in_script(line: str, script: str) -> str:
    """The line's letters in another script; Han without spaces: one or two characters a word, always the same."""
    if script == "han":
        words = [random.Random(word) for word in line.lower().split()]
        return "".join(chr(0x4E00 + word.randrange(3_000)) * word.choice((1, 1, 2)) for word in words) + "。"
    letters = CYRILLIC if script == "cyrillic" else ARABIC
    return "".join(letters.get(letter, letter) for letter in line.lower())


def real(shared: Path, name: str, split: str, languages: tuple[str, str] = ("en", "de")) -> tuple[Lines, Lines]:
    folder = shared / "corpora" / name
    texts = (
        gzip.decompress((folder / f"{split}.{language}.gz").read_bytes()).decode("utf-8") for language in languages
    )
    source, target = ([line.strip() for line in text.removesuffix("\n").split("\n")] for text in texts)
    return source, target


def shifted(source: Lines, target: Lines, first: int, end: int) -> tuple[Lines, Lines]:
    return source, [*target[:first], target[end - 1], *target[first : end - 1], *target[end:]]


def shuffled(source: Lines, target: Lines, first: int, end: int) -> tuple[Lines, Lines]:
    mixed = target[first:end]
    random.Random(7).shuffle(mixed)
    return source, [*target[:first], *mixed, *target[end:]]


def swapped(source: Lines, target: Lines, first: int, end: int) -> tuple[Lines, Lines]:
    return (
        [*source[:first], *target[first:end], *source[end:]],
        [*target[:first], *source[first:end], *target[end:]],
    )


def copied(source: Lines, target: Lines, first: int, end: int) -> tuple[Lines, Lines]:
    return source, [*target[:first], *source[first:end], *target[end:]]
