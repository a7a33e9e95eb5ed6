"""One table, shown alike on the page, in the terminal and in Markdown.

A cell is plain text, or a `Cell` whose style, notes and links the page and, as far as it can, the terminal show. The
first column names the rows; the first `text_columns` are aligned as text, the others as numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.table import Table as TerminalTable
from rich.text import Text

from hat_ray.search.selection import Kind

Style: TypeAlias = Literal["plain", "strong", "code", "setting"]


@dataclass(frozen=True)
class Note:
    """A small line below a cell's text; its tone is the page's style of a kept or a missed limit."""

    text: str
    tone: Literal["", "kept", "missed"] = ""


@dataclass(frozen=True)
class Cell:
    """A cell with more than plain text."""

    text: str
    notes: tuple[Note, ...] = ()
    style: Style = "plain"
    kind: Kind | None = None
    """Show the mark of this kind of model before the text."""
    architecture: str | None = None
    """The id of an architecture, shown below the text as a link to its drawing."""

    @classmethod
    def of(cls, text: str) -> "Cell":
        """Return text as a cell; what follows a line break is a note."""
        first, _, second = text.partition("\n")
        return cls(first, (Note(second),) if second else ())

    @property
    def lines(self) -> str:
        """Return the text and its notes, a line each."""
        return "\n".join([self.text, *(note.text for note in self.notes)])


AnyCell: TypeAlias = str | Cell
Facts: TypeAlias = Mapping[str, AnyCell]
"""Names and values."""


@dataclass(frozen=True)
class Table:
    """A table with its caption; a column's name or a plain cell may have a second line."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[AnyCell]]
    text_columns: int = 1

    @property
    def names(self) -> list[str]:
        """Return the columns' names on one line each."""
        return [" ".join(name.split("\n")) for name in self.columns]

    @property
    def cells(self) -> list[list[Cell]]:
        """Return all rows as cells."""
        return [[cell if isinstance(cell, Cell) else Cell.of(cell) for cell in row] for row in self.rows]

    def terminal(self, title: str) -> TerminalTable:
        """Return the table for the terminal."""
        made = TerminalTable(
            title=Text(title, style="bold"), title_justify="left", show_edge=False, pad_edge=False, box=None
        )
        for index, name in enumerate(self.columns):
            made.add_column(Text(name), justify="left" if index < self.text_columns else "right", no_wrap=True)
        for row in self.cells:  # `Text`, because rich reads [brackets] in plain strings
            made.add_row(*[Text(cell.lines, style="bold" if cell.style == "strong" else "") for cell in row])
        return made

    def markdown(self) -> str:
        """Return the table in Markdown."""
        sides = ["---" if index < self.text_columns else "---:" for index in range(len(self.columns))]
        rows = [[cell.lines for cell in row] for row in self.cells]
        lines = [self.names, sides, *rows]
        return "".join(f"| {' | '.join(_markdown(cell) for cell in line)} |\n" for line in lines)


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
