"""Where the check computes, and the table that it prints."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Place:
    """Where the check computes: on a GPU in full, on a CPU at a size that only shows that it works."""

    device: str
    name: str

    @property
    def full(self) -> bool:
        return self.device == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.full:
            torch.cuda.synchronize()


@dataclass
class Table:
    """Rows of what was measured, printed at the end."""

    place: Place
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, case: str, value: str) -> None:
        self.rows.append((what, case, value))

    def __str__(self) -> str:
        titles = ("figure", "case", "value")
        widths = [max(map(len, column)) for column in zip(titles, *self.rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in self.rows]
        head = "  ".join(title.ljust(width) for title, width in zip(titles, widths, strict=True))
        size = "" if self.place.full else " at tiny size: these figures say nothing"
        return "\n".join([f"GPU check on {self.place.name}, torch {torch.__version__}{size}", head, *lines])
