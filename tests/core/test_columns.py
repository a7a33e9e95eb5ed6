"""A dataclass as a table: its schema follows from the fields, rows come back, and another format is one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pyarrow as pa
import pytest

from hat_ray.core.columns import Column, Columns
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


TABLE = Columns(Row, version=2, derived={"short": lambda row: row.name[:1]})
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
