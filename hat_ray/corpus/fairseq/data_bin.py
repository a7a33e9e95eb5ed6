"""A folder that fairseq-preprocess made: two dictionaries, and pairs of sides by split.

`dict.en.txt`, `dict.de.txt`, `train.en-de.en.bin`, `train.en-de.en.idx` and so on. As in fairseq, `train1` and so on
continue `train`, and a folder that was made for the other direction serves as well (`train.de-en.en`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hat_ray.corpus.fairseq.binary import TokenSide, open_side
from hat_ray.corpus.fairseq.dictionary import FairseqDictionary, read_dictionary
from hat_ray.corpus.tokens import TokenTable
from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import expanded, printable

_MOST_PARTS = 10_000
_PAIR = re.compile(r"[A-Za-z0-9_.-]+?\.(?P<pair>[^.-]+-[^.-]+)\.[^.]+(\.idx)?")


def language_pair(folder: str, named: str | None) -> tuple[str, str]:
    """Return source and target of a data-bin: those named, such as en-de, or else those of its files' names."""
    place = expanded(folder)
    if named is None:
        found = (_PAIR.fullmatch(path.name) for path in sorted(place.glob("*-*"))) if place.is_dir() else ()
        pairs = {match["pair"] for match in found if match}
        if len(pairs) != 1:
            there = ", ".join(sorted(pairs)) or "no pair"
            raise CorpusError(f"data-bin {folder} must show its languages, its files name {there}: set --languages")
        named = pairs.pop()
    source, dash, target = named.partition("-")
    if not (source and dash and target) or "/" in named:
        raise CorpusError(f"languages are written as en-de, got {printable(named)!r}: name source and target")
    return source, target


@dataclass(frozen=True)
class Split:
    """A split of a data-bin: pairs of sides that follow one another."""

    parts: tuple[tuple[TokenSide, TokenSide], ...]

    def __len__(self) -> int:
        return sum(len(source) for source, _ in self.parts)

    def chunks(self, size: int) -> Iterator[TokenTable]:
        """Yield the pairs in order, `size` at once and fewer at the end of a part."""
        for source, target in self.parts:
            for sides in zip(source.chunks(size), target.chunks(size), strict=True):
                yield TokenTable(*sides)


@dataclass(frozen=True)
class DataBin:
    """A data-bin of one direction."""

    folder: Path
    languages: tuple[str, str]
    """Source and target, as the files name them."""
    source: FairseqDictionary
    target: FairseqDictionary
    """The very dictionary of the source where both have the same symbols in the same order."""

    @classmethod
    def open(cls, folder: str, source_language: str, target_language: str) -> "DataBin":
        """Open a folder; raises CorpusError where a dictionary is missing or is none."""
        place = expanded(folder)
        if not os.path.isdir(place):  # pathlib raises for a name that is too long
            state = "is no folder" if os.path.exists(place) else "does not exist"
            raise CorpusError(f"data-bin {folder} {state}: name the folder that fairseq-preprocess made (--destdir)")
        languages = source_language, target_language
        missing = [name for name in languages if not os.path.exists(place / f"dict.{name}.txt")]
        if missing:
            there = ", ".join(sorted(path.name for path in place.glob("dict.*.txt"))[:5]) or "no dictionary"
            raise CorpusError(
                f"data-bin {folder} must hold dict.{missing[0]}.txt, it holds {there}: set corpus.source_language and "
                "corpus.target_language as its files name them"
            )
        source, target = (read_dictionary(place / f"dict.{name}.txt") for name in languages)
        return cls(place, languages, source, source if source.symbols == target.symbols else target)

    @property
    def dictionary_paths(self) -> tuple[Path, Path]:
        """The files of both dictionaries."""
        first, second = (self.folder / f"dict.{name}.txt" for name in self.languages)
        return first, second

    @property
    def joined(self) -> bool:
        """Whether both sides share one dictionary."""
        return self.source is self.target

    def split(self, name: str) -> Split | None:
        """Return a split; None where the folder has none of this name. Raises CorpusError for unlike sides."""
        parts = []
        for number in range(_MOST_PARTS):
            stem = f"{name}{number or ''}"
            pair = next(filter(None, (self._pair(stem, *names) for names in self._directions)), None)
            if pair is None:
                break
            parts.append(pair)
        return Split(tuple(parts)) if parts else None

    def require(self, name: str, key: str) -> Split:
        """Return a split that must be there; `key` is the setting that names it."""
        found = self.split(name)
        if found is None:
            stem = self._stem(name, *self.languages, self.languages[0]).name
            raise CorpusError(
                f"data-bin {self.folder} must hold the split {key} {name!r}, it lacks {stem}.idx: set {key} to a split "
                "that it has"
            )
        return found

    def files(self, name: str) -> list[Path]:
        """Return the files of a split that are there, in a fixed order."""
        found = []
        for number in range(_MOST_PARTS):
            stems = [self._stem(f"{name}{number or ''}", *names, side) for names in self._directions for side in names]
            there = [path for stem in stems for path in _paths(stem) if os.path.exists(path)]
            if not there:
                break
            found += there
        return found

    @property
    def _directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return self.languages, self.languages[::-1]

    def _stem(self, split: str, first: str, second: str, language: str) -> Path:
        return self.folder / f"{split}.{first}-{second}.{language}"

    def _pair(self, split: str, first: str, second: str) -> tuple[TokenSide, TokenSide] | None:
        stems = [self._stem(split, first, second, language) for language in self.languages]
        source, target = open_side(stems[0], self.source), open_side(stems[1], self.target)
        if source is None and target is None:
            return None
        if source is None or target is None:
            raise CorpusError(f"{stems[source is not None]}.idx does not exist: both sides of a split must be there")
        if len(source) != len(target):
            raise CorpusError(
                f"both sides of a split must have equally many sentences, {stems[0]} has {len(source)} and {stems[1]} "
                f"{len(target)}: make the data-bin anew"
            )
        return source, target


def _paths(stem: Path) -> tuple[Path, Path, Path]:
    return Path(f"{stem}.idx"), Path(f"{stem}.bin"), stem
