"""What the rest of hat-ray sees of a vocabulary.

Decisions
- The special ids are those of fairseq, and of HAT, in every vocabulary: BOS 0, PAD 1, EOS 2, UNK 3. All other entries
  follow in the order of their foreign ids.
- A foreign vocabulary that lacks a special token gets an entry for it, which stands for no text. `order` says -1 for
  it, by which an importer of weights knows that its row must never be chosen.
- Text goes in and comes out as people write it. What sub-words need before and after, such as Moses' tokenisation, is a
  part of `encode` and `decode`.
"""

from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """Text to token ids and back. Pickles, and is kept as files."""

    @property
    def kind(self) -> str:
        """Name of the kind, under which its files are opened."""

    @property
    def order(self) -> tuple[int, ...]:
        """The foreign id of each of our ids, `MISSING` where the foreign vocabulary has none."""

    def __len__(self) -> int:
        """Return the number of entries, special ones included."""

    def pieces(self) -> list[str]:
        """Return the text of every entry, in the order of our ids."""

    def encode(self, line: str) -> list[int]:
        """Return the tokens of a line with EOS at the end, without BOS."""

    def encode_lines(self, lines: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """Return `encode` of many lines at once."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; BOS, PAD and EOS are dropped."""

    def files(self) -> dict[str, bytes]:
        """Return the files that it is opened from again, by plain name."""
