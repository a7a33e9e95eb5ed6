"""Training text whose targets a teacher wrote (sequence-level distillation; Kim & Rush, EMNLP 2016).

Decisions
- Translations are kept in blocks of `BLOCK_LINES` source lines, each in a file that is named by its lines: text that
  grows, or is prepared with other settings, finds the blocks that it has.
- Pairs that validation takes, and pairs without a side, keep their own targets.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hat_ray.core.codec import read
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import PairSource, PartUse
from hat_ray.storage.folder import Folder

BLOCK_LINES = 1_000


@dataclass(frozen=True)
class Block:
    """Content of a block's file."""

    targets: tuple[str, ...]
    core_seconds: float
    """Time of one core that the translation took."""


@dataclass(frozen=True)
class Taught:
    """Translations of a whole training text."""

    folder: Folder
    identity: str
    """Hash of the teacher and of its beam search."""
    origin: str
    """The teacher, in words."""
    sentences: int
    empty: int
    """Lines without a translation, empty ones included; their pairs are left out."""
    core_seconds: float


@dataclass(frozen=True)
class TaughtPairs:
    """The pairs of a source with a teacher's targets. Pickles."""

    source: PairSource
    folder: Folder
    starts: tuple[int, ...]
    """The first row of each part."""
    valid_every: int

    @property
    def num_parts(self) -> int:
        return self.source.num_parts

    @property
    def uses(self) -> tuple[PartUse, ...]:
        """How each part of the source is trained on."""
        return self.source.uses

    def names(self, part: int) -> tuple[str, str]:
        """Return the paths of the source's files."""
        return self.source.names(part)

    def chunks(self, part: int) -> Iterator[ParallelText]:
        """Yield a part in the source's chunks."""
        row = self.starts[part]
        for text in self.source.chunks(part):
            taught = [line for lines in blocks(text.source) for line in read_block(self.folder, lines).targets]
            numbers = range(row + 1, row + 1 + len(text))
            rows = zip(numbers, text.source, text.target, taught, strict=True)
            yield ParallelText(text.source, [self._target(*one) for one in rows])
            row += len(text)

    def _target(self, number: int, source: str, target: str, taught: str) -> str:
        """HAT counts lines from 1: with `valid_every` 23, the 23rd, 46th, ... pair is for validation."""
        held = self.valid_every and number % self.valid_every == 0
        return target if held or not (source and target) else taught


def taught_pairs(source: PairSource, taught: Taught, valid_every: int) -> TaughtPairs:
    """Return a text's pairs with their teacher's targets."""
    starts, row = [], 0
    for part in range(source.num_parts):
        starts.append(row)
        row += sum(map(len, source.chunks(part)))
    return TaughtPairs(source, taught.folder, tuple(starts), valid_every)


def blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the blocks of a chunk's source lines."""
    for first in range(0, len(lines), BLOCK_LINES):
        yield lines[first : first + BLOCK_LINES]


def block_name(lines: Sequence[str]) -> str:
    """Return the name of a block's file."""
    return f"{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:32]}.json"


def read_block(folder: Folder, lines: Sequence[str]) -> Block:
    """Read the translations of a block; raise DamagedError where they are not whole."""
    name = block_name(lines)
    block = read(folder, name, Block, "delete the file and run the stage again")
    if len(block.targets) != len(lines):
        raise folder.damaged(name, f"{len(block.targets)} translations of {len(lines)} lines")
    return block
