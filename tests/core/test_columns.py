"""A dataclass as a table: its schema follows from the fields, rows come back, and another format is one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pyarrow as pa
import pytest

from hat_ray.core.columns.layout import Columns, Derived
from hat_ray.core.columns.marks import Column, Int32, Items, Prefix
from hat_ray.errors import DamagedError, FormatError


@dataclass(frozen=True)
class Row:
    name: str
    size: Annotated[float, Column("bits a token")]
    kind: Annotated[complex, Column("as text", pa.string(), str, complex)]
    by_device: Mapping[str, float] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    stopped_at: Annotated[float | None, Column("share")] = None
    whole: bool = True


TABLE = Columns(Row, version=2, derived=[Derived("short", lambda row: row.name[:1])])
ROWS = [Row("one", 1.5, 1 + 2j, {"a": 1.0}, ("x", "y"), None, False), Row("two", 2.5, 0j, {}, (), 0.5)]


def without(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


def test_the_schema_follows_from_the_fields_and_rows_come_back():
    assert TABLE.schema.names == ["short", "name", "size", "kind", "by_device", "parents", "stopped_at", "whole"]
    assert TABLE.schema.field("by_device").type == pa.map_(pa.string(), pa.float64())
    assert TABLE.schema.field("parents").type == pa.list_(pa.string())
    assert TABLE.schema.field("size").metadata == {b"meaning": b"bits a token"}
    table = TABLE.to_table(ROWS)
    assert table.schema.equals(TABLE.schema, check_metadata=True)
    assert table["short"].to_pylist() == ["o", "t"]
    assert TABLE.from_table(table, "rows.parquet") == ROWS
    assert TABLE.from_table(TABLE.to_table([]), "rows.parquet") == []


def test_a_type_without_a_column_is_refused_where_the_table_is_made():
    @dataclass(frozen=True)
    class Wrong:
        value: complex

    with pytest.raises(TypeError, match=r"Wrong\.value: no column is known for the type .*complex"):
        Columns(Wrong, version=1)


def refused(table: pa.Table) -> str:
    with pytest.raises(DamagedError) as error:
        TABLE.from_table(table, "rows.parquet", "make it again")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(": make it again")
    return str(error.value)


def test_another_format_and_other_columns_are_one_line():
    table = TABLE.to_table(ROWS)
    with pytest.raises(FormatError, match=r"rows\.parquet has format 1, this hat-ray reads format 2"):
        TABLE.from_table(table.replace_schema_metadata({"schema_version": "1"}), "rows.parquet")
    assert "names no format" in refused(table.replace_schema_metadata(None))
    assert "column size must be double, it is missing" in refused(without(table, "size"))
    whole = table.set_column(2, "size", pa.array([1, 2])).replace_schema_metadata({"schema_version": "2"})
    assert "column size must be double, it is int64" in refused(whole)
    cut = table.set_column(1, pa.field("name", pa.string()), pa.array(["one", None]))
    assert "column name must not have nulls" in refused(cut)
    bad = table.set_column(3, TABLE.schema.field("kind"), pa.array(["no number", "1"]))
    assert "rows.parquet is damaged (complex() arg is a malformed string)" in refused(bad)


@dataclass(frozen=True)
class Times:
    mean: float
    best: float | None = None
    exact: Annotated[bool, Column(name="sure")] = True


@dataclass(frozen=True)
class State:
    load: float | None = None


@dataclass(frozen=True)
class Place:
    host: str
    state: State = field(default_factory=State)


@dataclass(frozen=True, kw_only=True)
class Timed:
    averages: Annotated[tuple[float, ...], Items(("avg_a", "avg_b"))]
    times: Annotated[Times | None, Prefix("t_")]
    place: Annotated[Place, Prefix("at_")]
    count: Int32 | None = None
    note: Annotated[str, Column(to_cell=lambda text: text or None, from_cell=lambda cell: cell or "", nullable=True)]


NESTED = Columns(Timed, 1, [Derived("double", lambda row: 2 * row.averages[0], pa.float64(), before="t_mean")])
TIMED = [
    Timed(averages=(1.0, 2.0), times=Times(3.0, None, False), place=Place("h", State(0.5)), count=4, note="x"),
    Timed(averages=(5.0, 6.0), times=None, place=Place("g"), note=""),
]


def test_nested_dataclasses_have_columns_with_their_prefix() -> None:
    named = [(one.name, one.nullable) for one in NESTED.schema]
    required = [("avg_a", False), ("avg_b", False), ("double", False)]
    optional = [("t_mean", True), ("t_best", True), ("sure", True)]
    assert named == [*required, *optional, ("at_host", False), ("at_load", True), ("count", True), ("note", True)]
    assert NESTED.schema.field("count").type == pa.int32()
    table = NESTED.to_table(TIMED)
    assert table.to_pylist()[1] == dict.fromkeys(NESTED.schema.names) | {
        "avg_a": 5.0,
        "avg_b": 6.0,
        "double": 10.0,
        "at_host": "g",
    }
    assert NESTED.rows(table) == TIMED
    assert NESTED.rows(table.slice(1)) == TIMED[1:]


def test_missing_nullable_columns_read_as_null_and_unknown_ones_are_ignored() -> None:
    table = NESTED.to_table(TIMED[:1]).append_column("new", pa.array([1]))
    assert NESTED.rows(table.drop_columns(["t_best", "count", "note", "double", "at_load"])) == [
        Timed(averages=(1.0, 2.0), times=Times(3.0, None, False), place=Place("h"), note="")
    ]
    assert NESTED.rows(table.drop_columns(["t_mean"]))[0].times is None
    with pytest.raises(ValueError, match="column at_host is missing"):
        NESTED.rows(table.drop_columns(["at_host"]))


def test_a_tuple_must_have_a_value_for_each_column() -> None:
    with pytest.raises(ValueError, match="2 values must have a column each, got 3"):
        NESTED.to_table([Timed(averages=(1.0, 2.0, 3.0), times=None, place=Place("h"), note="")])
