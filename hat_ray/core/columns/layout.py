"""Rows of a frozen dataclass as an Arrow table and back: the schema follows from the fields, their types and `Column`.

A field that holds a dataclass has a column for each of that one's fields, its names after a `Prefix`. Columns that are
computed from a row are `Derived`. So a new column is one new field.

A table holds its format number; `from_table` refuses one of another format in one line, and one whose columns differ.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from hat_ray.core.codec import STAGE_AGAIN
from hat_ray.core.columns.marks import Column, Items, Prefix
from hat_ray.errors import DamagedError, FormatError, HatRayError

T = TypeVar("T")
VERSION = "schema_version"
"""The key of a schema's metadata that holds the format number."""
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
NAMED = {"int32": pa.int32(), "map<string, string>": pa.map_(pa.string(), pa.string())}
"""Arrow types that annotations name, in modules that import no PyArrow."""
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True)
class Derived(Generic[T]):
    """A column that is computed from a row and not read back. It stands before the column `before`, or first."""

    name: str
    of: Callable[[T], Any]
    arrow: pa.DataType = _ARROW[str]
    nullable: bool = False
    before: str = ""


class Columns(Generic[T]):
    """The layout of a dataclass's rows in a table."""

    def __init__(
        self,
        kind: type[T],
        version: int,
        derived: Sequence[Derived[T]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`metadata` is the schema's; None: its format number alone."""
        self.version = version
        self._row, self._derived = _Record(kind, "", optional=False), derived
        columns = self._row.columns()
        first = columns[0].name
        for one in derived:
            place = [column.name for column in columns].index(one.before or first)
            columns.insert(place, pa.field(one.name, one.arrow, one.nullable))
        self.schema = pa.schema(columns, metadata={VERSION: str(version)} if metadata is None else metadata)

    def to_table(self, rows: Iterable[T]) -> pa.Table:
        """Lay rows out in columns."""
        rows = list(rows)
        names = [column.name for column in self._row.columns()]
        cells = dict(zip(names, self._row.cells(rows), strict=True))
        cells |= {one.name: [one.of(row) for row in rows] for one in self._derived}
        arrays = [pa.array(cells[column.name], column.type) for column in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def rows(self, table: pa.Table) -> list[T]:
        """Read rows back. A nullable column that is missing reads as null; columns that no field names are ignored."""
        return self._row.values(table, optional=False)

    def from_table(self, table: pa.Table, source: str, remedy: str = STAGE_AGAIN) -> list[T]:
        """Read rows back; raises FormatError for a table of another format, and DamagedError for any other fault."""
        self._check(table.schema, source, remedy)
        try:
            return self.rows(table)
        except (HatRayError, TypeError, ValueError, pa.ArrowException) as error:
            raise DamagedError(f"{source} is damaged ({' '.join(str(error).split())}): {remedy}") from error

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


class _Part(Protocol):
    """One field of a dataclass: one or several columns."""

    required: bool
    """Whether no value of it is None."""

    def columns(self, optional: bool = False) -> list[pa.Field]:
        """Return its columns; all nullable where the dataclass around it is `optional`."""

    def cells(self, values: Sequence[Any]) -> list[list[Any]]:
        """Return the cells of each column; a value is None where there is no dataclass around it."""

    def values(self, table: pa.Table, *, optional: bool) -> list[Any]:
        """Read its values back."""


class _Cell:
    """A field with one column."""

    def __init__(self, name: str, column: Column, *, optional: bool) -> None:
        self._name, self._column = name, column
        self.required = not (optional or column.nullable)
        self._reads_null = column.nullable and not optional

    def columns(self, optional: bool = False) -> list[pa.Field]:
        metadata = {"meaning": self._column.meaning} if self._column.meaning else None
        arrow = self._column.arrow
        arrow = NAMED[arrow] if isinstance(arrow, str) else arrow
        return [pa.field(self._name, arrow, optional or not self.required, metadata)]

    def cells(self, values: Sequence[Any]) -> list[list[Any]]:
        to = self._column.to_cell
        return [list(values) if to is None else [None if value is None else to(value) for value in values]]

    def values(self, table: pa.Table, *, optional: bool) -> list[Any]:
        there = self._name in table.column_names
        cells: list[Any] = table[self._name].to_pylist() if there else [None] * table.num_rows
        if self.required and not optional and (not there or table[self._name].null_count):
            raise ValueError(f"column {self._name} {'must not have nulls' if there else 'is missing'}")
        read = self._column.from_cell
        if read is None:
            return cells
        return [None if cell is None and not self._reads_null else read(cell) for cell in cells]


class _Tuple:
    """A field that is a tuple with a column for each item."""

    def __init__(self, items: Sequence[_Part]) -> None:
        self._items, self.required = items, True

    def columns(self, optional: bool = False) -> list[pa.Field]:
        return [column for item in self._items for column in item.columns(optional)]

    def cells(self, values: Sequence[Any]) -> list[list[Any]]:
        for value in values:
            if value is not None and len(value) != len(self._items):
                raise ValueError(f"{len(self._items)} values must have a column each, got {len(value)}")
        return [
            cells
            for i, item in enumerate(self._items)
            for cells in item.cells([None if value is None else value[i] for value in values])
        ]

    def values(self, table: pa.Table, *, optional: bool) -> list[Any]:
        return list(zip(*(item.values(table, optional=optional) for item in self._items), strict=True))


class _Record:
    """A dataclass: the row itself, or a field that holds one. It is None where a required cell of it is null."""

    def __init__(self, kind: type[Any], prefix: str, *, optional: bool) -> None:
        self._kind, self.required = kind, not optional
        hints = get_type_hints(kind, include_extras=True)
        self._parts = {
            one.name: _part(hints[one.name], prefix, one.name, f"{kind.__name__}.{one.name}") for one in fields(kind)
        }

    def columns(self, optional: bool = False) -> list[pa.Field]:
        return [column for part in self._parts.values() for column in part.columns(optional or not self.required)]

    def cells(self, values: Sequence[Any]) -> list[list[Any]]:
        return [
            cells
            for name, part in self._parts.items()
            for cells in part.cells([None if value is None else getattr(value, name) for value in values])
        ]

    def values(self, table: pa.Table, *, optional: bool) -> list[Any]:
        optional = optional or not self.required
        read = {name: part.values(table, optional=optional) for name, part in self._parts.items()}
        needed = [read[name] for name, part in self._parts.items() if part.required] if optional else []
        absent = [None in cells for cells in zip(*needed, strict=True)] if needed else [False] * table.num_rows
        rows = zip(*read.values(), strict=True)
        return [
            None if no else self._kind(**dict(zip(read, row, strict=True)))
            for no, row in zip(absent, rows, strict=True)
        ]


def _part(hint: Any, prefix: str, name: str, place: str) -> _Part:
    """Return a field's columns with nothing left open."""
    said: list[Any] = []
    optional = False
    while get_origin(hint) in (Annotated, *_UNIONS):
        if get_origin(hint) is Annotated:
            said += hint.__metadata__
            hint = hint.__origin__
        else:
            inner = [one for one in get_args(hint) if one is not type(None)]
            if len(inner) > 1:
                break
            optional, (hint,) = True, inner
    column = next((one for one in said if isinstance(one, Column)), Column())
    items = next((one for one in said if isinstance(one, Items)), None)
    if items is not None:
        return _Tuple([_part(get_args(hint)[0], "", one, place) for one in items.names])
    if column.arrow is None and isinstance(hint, type) and is_dataclass(hint):
        return _Record(
            hint, prefix + next((one.text for one in said if isinstance(one, Prefix)), ""), optional=optional
        )
    if column.arrow is None:
        arrow, to_cell, from_cell = _usual(hint, place)
        to_cell, from_cell = column.to_cell or to_cell, column.from_cell or from_cell
        column = Column(column.meaning, arrow, to_cell, from_cell, column.nullable, column.name)
    return _Cell(column.name or prefix + name, column, optional=optional)


def _usual(hint: Any, place: str) -> tuple[pa.DataType, Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """Return the Arrow type of a field's type, and what turns a value into a cell and back."""
    if hint in _ARROW:
        return _ARROW[hint], None, None
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis and inner[0] in _ARROW:
        return pa.list_(_ARROW[inner[0]]), list, tuple
    if isinstance(origin, type) and issubclass(origin, Mapping) and all(one in _ARROW for one in inner):
        return pa.map_(_ARROW[inner[0]], _ARROW[inner[1]]), _pairs, dict
    raise TypeError(f"{place}: no column is known for the type {hint}; name it with Column(arrow=...)")


def _pairs(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return list(value.items())
