"""Rows of a frozen dataclass as an Arrow table and back: the schema follows from the fields, their types and `Column`.

A table holds its format number; one of another format is refused in one line, and so is a table whose columns differ.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from hat_ray.core.codec import STAGE_AGAIN
from hat_ray.errors import DamagedError, FormatError, HatRayError

T = TypeVar("T")
VERSION = "schema_version"
"""The key of a schema's metadata that holds the format number."""
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True)
class Column:
    """What a field's annotation says of its column: `Annotated[float, Column("bits a token")]`."""

    meaning: str = ""
    arrow: pa.DataType | None = None
    """Its Arrow type; None: the one that the field's type has."""
    to_cell: Callable[[Any], Any] | None = None
    from_cell: Callable[[Any], Any] | None = None
    nullable: bool = False
    """Whether a cell may be null; so may the cell of every field whose type allows None."""


class Columns(Generic[T]):
    """How rows of one dataclass stand in a table; `derived` columns come first, are computed and not read back."""

    def __init__(self, kind: type[T], version: int, derived: Mapping[str, Callable[[T], str]] | None = None) -> None:
        self.version = version
        self._kind, self._derived = kind, dict(derived or {})
        hints = get_type_hints(kind, include_extras=True)
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        self._columns = {name: _column(hints[name], f"{kind.__name__}.{name}") for name in names}
        written = [
            pa.field(name, one.arrow, metadata={"meaning": one.meaning} if one.meaning else None)
            for name, one in self._columns.items()
        ]
        head = [pa.field(name, pa.string()) for name in self._derived]
        self.schema = pa.schema([*head, *written], metadata={VERSION: str(version)})

    def to_table(self, rows: Sequence[T]) -> pa.Table:
        """Lay rows out in columns."""
        arrays = [[of(row) for row in rows] for of in self._derived.values()]
        for name, column in self._columns.items():
            values = [getattr(row, name) for row in rows]
            arrays.append(values if column.to_cell is None else list(map(column.to_cell, values)))
        typed = [pa.array(values, one.type) for values, one in zip(arrays, self.schema, strict=True)]
        return pa.Table.from_arrays(typed, schema=self.schema)

    def from_table(self, table: pa.Table, source: str, remedy: str = STAGE_AGAIN) -> list[T]:
        """Read rows back; raises FormatError for a table of another format, and DamagedError for any other fault."""
        self._check(table.schema, source, remedy)
        try:
            cells = [self._cells(table[name], name, column) for name, column in self._columns.items()]
            return [self._kind(*row) for row in zip(*cells, strict=True)]
        except (HatRayError, TypeError, ValueError, pa.ArrowException) as error:
            raise DamagedError(f"{source} is damaged ({' '.join(str(error).split())}): {remedy}") from error

    @staticmethod
    def _cells(values: pa.ChunkedArray, name: str, column: Column) -> list[Any]:
        if values.null_count and not column.nullable:
            raise ValueError(f"column {name} must not have nulls")
        cells: list[Any] = values.to_pylist()
        return cells if column.from_cell is None else list(map(column.from_cell, cells))

    def _check(self, schema: pa.Schema, source: str, remedy: str) -> None:
        found = (schema.metadata or {}).get(VERSION.encode(), b"").decode(errors="replace")
        if found != str(self.version):
            held = f"has format {found}" if found else "names no format"
            raise FormatError(f"{source} {held}, this hat-ray reads format {self.version}: {remedy}")
        for column in self.schema:
            index = schema.get_field_index(column.name)
            if index < 0 or not schema.field(index).type.equals(column.type):
                got = "is missing" if index < 0 else f"is {schema.field(index).type}"
                raise DamagedError(f"{source}: column {column.name} must be {column.type}, it {got}: {remedy}")


def _column(hint: Any, place: str) -> Column:
    """Return a field's column with nothing left open."""
    said = Column()
    if get_origin(hint) is Annotated:
        said = next((one for one in hint.__metadata__ if isinstance(one, Column)), said)
        hint = hint.__origin__
    optional = get_origin(hint) in _UNIONS and type(None) in get_args(hint)
    if optional:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    arrow, to_cell, from_cell = said.arrow, said.to_cell, said.from_cell
    if arrow is None:
        arrow, usual_to, usual_from = _usual(hint, place)
        to_cell, from_cell = to_cell or usual_to, from_cell or usual_from
    return Column(said.meaning, arrow, to_cell, from_cell, said.nullable or optional)


def _usual(hint: Any, place: str) -> tuple[pa.DataType, Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """Return the Arrow type of a field's type, and what turns a value into a cell and back."""
    if hint in _ARROW:
        return _ARROW[hint], None, None
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis and inner[0] in _ARROW:
        return pa.list_(_ARROW[inner[0]]), list, tuple
    if isinstance(origin, type) and issubclass(origin, Mapping) and all(one in _ARROW for one in inner):
        return pa.map_(_ARROW[inner[0]], _ARROW[inner[1]]), _items, dict
    raise TypeError(f"{place}: no column is known for the type {hint}; name it with Column(arrow=...)")


def _items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return list(value.items())
