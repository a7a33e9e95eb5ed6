"""One file of a latency table: its footer's content, and its rows.

Only the columns and row groups that are asked for are read, and the two that show that rows stand in the folder that
they name; a value that a row group's statistics exclude is not looked for in it. Statistics prove nothing else: PyArrow
can crash on those of a damaged footer.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hat_ray.errors import NotFoundError
from hat_ray.latency.table.parts import compacted_name, is_compacted, partition_values
from hat_ray.latency.table.row import SCHEMA, SCHEMA_VERSION_KEY, why_foreign, why_invalid
from hat_ray.space.architecture import Architecture
from hat_ray.storage.faults import cause
from hat_ray.storage.folder import Folder

_LINEAGE = b"hat_ray.parts"
WHOLE_BYTES = 1 << 23
"""A part of a few thousand rows."""

Lineage = dict[str, int]
"""The written parts that a file holds, in its rows' order, and how many rows of each."""


class PartGoneError(Exception):
    """A part was compacted by another process since it was listed."""


@dataclass(frozen=True)
class PartRows:
    """Rows of one file, and which written part each comes from."""

    table: pa.Table
    written: tuple[str, ...]
    marks: NDArray[np.int64]
    """For each row the index of its written part in `written`."""

    def only(self, where: Mapping[str, object], without: frozenset[str]) -> "PartRows":
        """Keep rows whose columns equal values, and leave written parts out."""
        keep = [pc.fill_null(_equals(self.table, column, value), False) for column, value in where.items()]
        if without:
            left_out = np.array([written in without for written in self.written])
            keep.append(pa.chunked_array([pa.array(~left_out[self.marks])]))
        if not keep:
            return self
        mask = reduce(pc.and_, keep)
        return PartRows(self.table.filter(mask), self.written, self.marks[mask.to_numpy()])


@contextmanager
def _opened(folder: Folder, name: str, content: bytes | None = None) -> Iterator[pq.ParquetFile]:
    try:
        with _source(folder, name, content) as source, pq.ParquetFile(source) as file:
            reason = why_foreign(file.schema_arrow)
            if reason:
                raise ValueError(reason)
            yield file
    except NotFoundError as error:
        raise PartGoneError(name) from error


@contextmanager
def _source(folder: Folder, name: str, content: bytes | None) -> Iterator[pa.NativeFile]:
    """Open a file; a small one of a remote storage is read at once: it would take a request a column."""
    if content is None and (folder.is_local or (folder.size(name) or 0) > WHOLE_BYTES):
        with folder.reading(name) as file:
            yield file
        return
    content = folder.read_bytes(name) if content is None else content
    try:
        yield pa.BufferReader(content)
    except (OSError, pa.ArrowException) as error:  # nothing is read here but memory
        raise folder.damaged(name, cause(error)) from error


def read_lineage(folder: Folder, name: str) -> Lineage:
    """Return a part's content, from its footer."""
    with _opened(folder, name) as file:
        return _lineage(file, name)


def footer(lineage: Lineage) -> dict[bytes, bytes]:
    """Return the footer entry of a compacted part."""
    return {_LINEAGE: "\n".join(f"{name} {rows}" for name, rows in lineage.items()).encode()}


def read_part(
    folder: Folder,
    name: str,
    schema: pa.Schema | None = None,
    where: Mapping[str, object] | None = None,
    without: frozenset[str] = frozenset(),
    content: bytes | None = None,
) -> PartRows:
    """Read one file's columns (default: all that it has, known or not) in the schema's order and types.

    `where` keeps rows whose columns equal values, `without` leaves written parts out; `content` is what was read of the
    file already. Raises PartGoneError when the
    file has gone, one of `scan.UNREADABLE` when its content does not match its name, and a StorageError when it
    could not be read.
    """
    with _opened(folder, name, content) as file:
        return _read(file, name, schema, where or {}, without)


class KeptParts:
    """Parts of a latency table that stay in memory, some of their columns: each file is opened once.

    A part never changes, so its content stays true as long as it is listed. Another process that unpickles
    this reads its files itself.
    """

    def __init__(self, folder: Folder, columns: Iterable[str]) -> None:
        self.folder, self.columns = folder, tuple(columns)
        self._parts: dict[str, dict[str, PartRows]] = defaultdict(dict)
        """By partition and name."""

    def __reduce__(self) -> tuple[type["KeptParts"], tuple[Folder, tuple[str, ...]]]:
        return KeptParts, (self.folder, self.columns)

    def read(self, name: str, schema: pa.Schema, where: Mapping[str, object], without: frozenset[str]) -> PartRows:
        """Read a part as `read_part` does, with a schema whose columns are kept."""
        found = self._part(name).only(where, without)
        return replace(found, table=_fill(found.table, schema))

    def lineage(self, name: str) -> Lineage:
        """Return a part's content."""
        part = self._part(name)
        counts = np.bincount(part.marks, minlength=len(part.written)).tolist()
        return dict(zip(part.written, counts, strict=True))

    def forget_others(self, partition: str, names: Collection[str]) -> None:
        """Drop the parts of a partition that are no longer listed."""
        there = set(names)
        parts = self._parts[partition]
        for name in [name for name in parts if name not in there]:
            del parts[name]

    def _part(self, name: str) -> PartRows:
        parts = self._parts[name.rpartition("/")[0]]
        if name not in parts:
            parts[name] = read_part(self.folder, name, pa.schema([SCHEMA.field(one) for one in self.columns]))
        return parts[name]


def require_architectures(table: pa.Table) -> None:
    """Raise SpaceError when a row cannot be made: all else that a row needs, `read_part` has looked at."""
    for text in table.column("architecture_json").unique().to_pylist():
        if text is not None:
            Architecture.from_json(text)


def _read(
    file: pq.ParquetFile,
    name: str,
    schema: pa.Schema | None,
    where: Mapping[str, object],
    without: frozenset[str],
) -> PartRows:
    lineage = _lineage(file, name)
    groups = [i for i in range(file.metadata.num_row_groups) if _may_hold(file.metadata.row_group(i), where)]
    wanted = None if schema is None else [*schema.names, *where, *_expected(name)]
    table = file.read_row_groups(groups, columns=wanted, use_threads=False)  # files are read in parallel
    reason = _why_contradictory(file, table) or why_invalid(table) or _why_misplaced(table, name)
    if reason:
        raise ValueError(reason)
    found = PartRows(table, tuple(lineage), _marks(file, lineage, groups)).only(where, without)
    return found if schema is None else replace(found, table=_fill(found.table, schema))


def _lineage(file: pq.ParquetFile, name: str) -> Lineage:
    base = name.rpartition("/")[2]
    text = (file.metadata.metadata or {}).get(_LINEAGE)
    if not is_compacted(base):
        return {base: file.metadata.num_rows}
    lines = [line.split(" ") for line in (text or b"").decode().splitlines()]
    lineage = {written: int(rows) for written, rows in lines}
    if len(lineage) < 2 or sum(lineage.values()) != file.metadata.num_rows or compacted_name(lineage) != base:
        raise ValueError("it does not hold the parts that its name and footer promise")
    return lineage


def _marks(file: pq.ParquetFile, lineage: Lineage, groups: list[int]) -> NDArray[np.int64]:
    """Return for each row of the row groups the index of its written part."""
    marks = np.repeat(np.arange(len(lineage)), list(lineage.values()))
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    if len(groups) == len(sizes):
        return marks
    starts = np.cumsum([0, *sizes])
    return np.concatenate([marks[starts[i] : starts[i + 1]] for i in groups]) if groups else marks[:0]


def _statistics(group: pq.RowGroupMetaData, column: str) -> tuple[object, object, int] | None:
    """Return a column's smallest and largest value and its nulls in a row group; None where the file does not hold
    them."""
    for i in range(group.num_columns):
        chunk = group.column(i)
        if chunk.path_in_schema == column:
            told = chunk.statistics if chunk.is_stats_set else None
            return (told.min, told.max, told.null_count) if told and told.has_min_max and told.has_null_count else None
    return None


def _may_hold(group: pq.RowGroupMetaData, where: Mapping[str, object]) -> bool:
    """Return whether a row group can hold rows whose columns equal these values."""
    for column, value in where.items():
        told = _statistics(group, column) if value is not None else None
        if told and not told[0] <= value <= told[1]:  # type: ignore[operator]
            return False
    return True


def _equals(table: pa.Table, column: str, value: object) -> pa.ChunkedArray:
    if column not in table.column_names:  # an older file: its values are null
        return pa.chunked_array([pa.repeat(value is None, len(table))])
    return table.column(column).is_null() if value is None else pc.equal(table.column(column), value)


def _expected(name: str) -> dict[str, str]:
    return dict(zip(("space_id", "device_slug"), partition_values(name), strict=True))


def _why_contradictory(file: pq.ParquetFile, table: pa.Table) -> str | None:
    """A footer holds the version twice, for Arrow and for any reader of Parquet; PyArrow takes one or the other."""
    checked, read = ((schema.metadata or {}).get(SCHEMA_VERSION_KEY) for schema in (file.schema_arrow, table.schema))
    return None if checked == read else f"its footer holds two schema versions, {checked!r} and {read!r}"


def _why_misplaced(table: pa.Table, name: str) -> str | None:
    for column, value in _expected(name).items():
        found = set(table.column(column).unique().to_pylist()) if column in table.column_names else set()
        if found - {value}:
            return f"its {column} must be {value} as its folder says, got {sorted(found - {value})[0]}"
    return None


def _fill(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a part's columns into the schema's order; missing ones are null."""
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
