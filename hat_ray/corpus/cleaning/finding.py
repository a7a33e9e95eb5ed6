"""A stretch of a text whose sides do not belong together, or are not what they should be, in one line."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hat_ray.storage.plain_file import printable

Kind = Literal[
    "shifted",
    "shuffled",
    "swapped",
    "identical",
    "source_side",
    "target_side",
    "source_script",
    "target_script",
    "source_language",
    "target_language",
]
Split = Literal["training", "validation", "test"]

WHAT: Mapping[str, str] = {
    "shuffled": "the sides do not belong together: one is shuffled, or shifted by more than 50 lines",
    "swapped": "the sides are swapped",
    "identical": "both sides are identical",
    "source_side": "the source is in the target's language",
    "target_side": "the target is in the source's language",
    "source_script": "the source is not in its language's script",
    "target_script": "the target is not in its language's script",
    "source_language": "the source is in another language",
    "target_language": "the target is in another language",
}
_SHOWN, _LONGEST, _MOST_LINES = 2, 60, 5


class TextFinding(BaseModel):
    """One fault of a text and its place."""

    model_config = ConfigDict(frozen=True)

    split: Split
    kind: Kind
    source_file: str
    target_file: str
    first: int
    """Number of the first pair within its files, from 1; right to within a window of 100 pairs."""
    last: int
    whole: bool
    """Whether that is all of the two files."""
    detail: str = ""
    """The evidence, in words."""
    lines: int | None = None
    """Of a shift: the number of the target's line less that of its source's."""
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs near its beginning."""

    @property
    def what(self) -> str:
        """The fault, in words."""
        if self.lines is None:
            return WHAT[self.kind]
        lines = f"{abs(self.lines)} line{'s' if abs(self.lines) > 1 else ''}"
        return f"the target stands {lines} {'behind' if self.lines > 0 else 'before'} its source"

    @property
    def place(self) -> str:
        """The pairs and their files, in words."""
        names = " and ".join(filter(None, (self.source_file, self.target_file)))
        pairs = "all pairs" if self.whole else f"pairs {self.first:,} to {self.last:,}"
        return f"{self.split} text, {pairs}" + (f" of {names}" if names else "")

    @property
    def line(self) -> str:
        """The place, the fault, the evidence and the examples, in one line."""
        shown = "; ".join(f"{_short(source)} | {_short(target)}" for source, target in self.examples[:_SHOWN])
        evidence = f" ({self.detail})" if self.detail else ""
        return f"{self.place}: {self.what}{evidence}" + (f"; for example: {shown}" if shown else "")


def finding_lines(findings: Sequence[TextFinding]) -> list[str]:
    """Return a line for each of the first findings, and one for the others."""
    lines = [finding.line for finding in findings[:_MOST_LINES]]
    more = len(findings) - len(lines)
    return [*lines, f"and {more:,} more places of the text: see `findings` of the corpus's summary"] if more else lines


def _short(line: str) -> str:
    return printable(line, _LONGEST)
