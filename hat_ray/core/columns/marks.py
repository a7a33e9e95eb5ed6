"""Annotations of a dataclass's fields: the columns that they have in a table. Imports no PyArrow (`layout.py` does)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A field's annotation for its column: `Annotated[float, Column("bits a token")]`."""

    meaning: str = ""
    arrow: "pa.DataType | str | None" = None
    """Its Arrow type, or the name of one in `layout.NAMED`; None: the one that the field's type has."""
    to_cell: Callable[[Any], Any] | None = None
    from_cell: Callable[[Any], Any] | None = None
    nullable: bool = False
    """Whether a cell may be null though the field's type does not allow None: `from_cell` then gets the null."""
    name: str = ""
    """The column's whole name; empty: the field's, after the prefixes."""


@dataclass(frozen=True)
class Prefix:
    """Stands before the column names of a field that is a dataclass: `Annotated[DeviceInfo, Prefix("device_")]`."""

    text: str


@dataclass(frozen=True)
class Items:
    """The names of a tuple's columns, one for each item: `Annotated[tuple[float, ...], Items(("a", "b"))]`."""

    names: tuple[str, ...]


Int32 = Annotated[int, Column(arrow="int32")]
