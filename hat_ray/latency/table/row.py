"""One row of the latency table, an architecture timed once with its measurement context; and the table's columns.

The columns follow from the fields of `LatencyRow` and of what it holds, in their order (`core/columns/`): a new
column is one new field. The table grows by nullable columns only; `SCHEMA_VERSION` rises when an older reader would
misread a newer file. Readers fill nullable columns that a file lacks with nulls and ignore columns that no field names.

A row compares with another only where device and workload are equal. `space_id` names the search space it was drawn
for; the same architecture drawn for two spaces has the same id in both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.core.columns.layout import VERSION, Columns, Derived
from hat_ray.core.columns.marks import Column, Int32, Items, Prefix
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import HAT_FEATURES

MEASURED = "measured"
IMPORTED_AVERAGES = "imported, averages only"


_SAMPLES = pa.list_(pa.float32())
_QUANTITIES = pa.map_(pa.string(), pa.float64())


def _or_null(value: Sequence[Any]) -> Sequence[Any] | None:
    return value or None


def _text(cell: str | None) -> str:
    return cell or ""


def _floats(cell: list[float] | None) -> tuple[float, ...]:
    return tuple(cell or ())


def _pairs(cell: list[tuple[str, Any]] | None) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in cell or ())


@dataclass(frozen=True)
class Origin:
    """Origin of a row: our own timing, or a file that was imported."""

    provenance: str = MEASURED
    source: Annotated[str, Column(to_cell=_or_null, from_cell=_text, nullable=True)] = ""
    """The imported file's name, or empty."""
    source_row: int | None = None
    """The line in that file, counted from 0 after the header."""


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One architecture on one device under one workload."""

    origin: Origin = Origin()
    space_id: str
    architecture: Annotated[
        Architecture | None,
        Column(
            name="architecture_json", arrow=pa.string(), to_cell=Architecture.to_json, from_cell=Architecture.from_json
        ),
    ]
    """None where only averages are known (imported rows)."""
    hat_features: Annotated[tuple[float, ...], Items(tuple(f"hat_{name}" for name in HAT_FEATURES))]
    """HAT's ten averages, in the order of `HAT_FEATURES`."""
    workload: Workload
    encoder: Annotated[Spread | None, Prefix("encoder_")]
    """None where the runtime does not split its time; likewise `decoder`."""
    decoder: Annotated[Spread | None, Prefix("decoder_")]
    total: Annotated[Spread | None, Prefix("total_")]
    """Encoder and decoder of the same translation together; None where only averages are known."""
    encoder_samples_ms: Annotated[
        tuple[float, ...], Column(arrow=_SAMPLES, to_cell=list, from_cell=_floats, nullable=True)
    ]
    decoder_samples_ms: Annotated[
        tuple[float, ...], Column(arrow=_SAMPLES, to_cell=list, from_cell=_floats, nullable=True)
    ]
    total_samples_ms: Annotated[
        tuple[float, ...], Column(arrow=_SAMPLES, to_cell=_or_null, from_cell=_floats, nullable=True)
    ] = ()
    """Of a runtime that does not split its time; else the sums of the parts' samples."""
    repetitions: Int32 | None
    warmups: Int32 | None
    disturbed: Int32 | None
    """Repetitions set aside because a canary beside them was slow."""
    relative_error: float | None
    """The relative standard error of the total's median, its drift correction's included; None where only averages are
    known."""
    canary: Annotated[Canary | None, Prefix("canary_")]
    device: Annotated[DeviceInfo, Prefix("device_")]
    context: MeasurementContext
    energy: Annotated[Energy | None, Prefix("energy_")] = None
    """Energy of one translation; None where the system does not report it."""
    visits: Int32 | None = None
    """Visits, spread over a session, that the samples are of; None: not timed in visits."""
    quantities: Annotated[
        tuple[tuple[str, float], ...], Column(arrow=_QUANTITIES, to_cell=_or_null, from_cell=_pairs, nullable=True)
    ] = ()
    """Sorted pairs of a quantity's name and its value, of those that were measured in a process of their own."""

    @property
    def latency_ms(self) -> float:
        """The typical time of one translation: the median, or the sum of means where only averages are known."""
        if self.total:
            return self.total.typical_ms
        if self.encoder is None or self.decoder is None:
            raise ValueError("a row needs a total, or an encoder's and a decoder's time")
        return self.encoder.mean_ms + self.decoder.mean_ms

    @property
    def corrected_ms(self) -> float:
        """`latency_ms` with the canary's drift taken out, where a canary was timed."""
        return self.latency_ms * (self.canary.drift_correction if self.canary else 1.0)

    @property
    def key(self) -> tuple[object, ...]:
        """Key that timings of the same thing share: architecture (or line of an import), device and workload."""
        what = self.architecture.id if self.architecture else (self.origin.source, self.origin.source_row)
        return (self.space_id, what, self.device.slug, self.workload)


SCHEMA_VERSION = 2

_DERIVED = (
    Derived[LatencyRow](VERSION, lambda row: SCHEMA_VERSION, pa.int32()),
    Derived[LatencyRow](
        "architecture_id",
        lambda row: row.architecture.id if row.architecture else None,
        nullable=True,
        before="architecture_json",
    ),
    Derived[LatencyRow]("latency_ms", lambda row: row.latency_ms, pa.float64(), before="encoder_p10_ms"),
    Derived[LatencyRow]("latency_corrected_ms", lambda row: row.corrected_ms, pa.float64(), before="encoder_p10_ms"),
    Derived[LatencyRow]("device_slug", lambda row: row.device.slug, before="device_name"),
)
SCHEMA_VERSION_KEY = b"hat_ray.schema_version"
_METADATA = {"hat_ray.table": "latency", SCHEMA_VERSION_KEY.decode(): str(SCHEMA_VERSION)}
_TABLE = Columns(LatencyRow, SCHEMA_VERSION, _DERIVED, _METADATA)
SCHEMA = _TABLE.schema


def to_table(rows: Iterable[LatencyRow]) -> pa.Table:
    """Lay rows out in columns."""
    return _TABLE.to_table(rows)


def from_table(table: pa.Table) -> list[LatencyRow]:
    """Read rows back; a missing nullable column reads as null."""
    return _TABLE.rows(table)


def why_foreign(schema: pa.Schema) -> str | None:
    """Return why a file's columns are not a latency table's, or None when they are."""
    version = (schema.metadata or {}).get(SCHEMA_VERSION_KEY, b"").decode(errors="replace")
    if not version.isdigit():
        return "it is not a latency table of hat-ray"
    if int(version) > SCHEMA_VERSION:
        return f"its schema version {version} is newer than this hat-ray's {SCHEMA_VERSION}"
    for column in SCHEMA:
        index = schema.get_field_index(column.name)
        if index < 0:
            if not column.nullable:
                return f"column {column.name} is missing"
        elif not schema.field(index).type.equals(column.type):
            return f"column {column.name} must be {column.type}, got {schema.field(index).type}"
    return None


def why_invalid(table: pa.Table) -> str | None:
    """Return which rule a file's values break, or None: what is required must be there."""
    for name in table.column_names:
        index = SCHEMA.get_field_index(name)
        if index >= 0 and not SCHEMA.field(index).nullable and table.column(name).null_count:
            return f"column {name} must not have nulls"
    if {"total_mean_ms", "encoder_mean_ms", "decoder_mean_ms"} <= set(table.column_names):
        parts = pc.and_(pc.is_valid(table["encoder_mean_ms"]), pc.is_valid(table["decoder_mean_ms"]))
        if not pc.all(pc.or_(pc.is_valid(table["total_mean_ms"]), parts), min_count=0).as_py():
            return "a row must have total_mean_ms, or encoder_mean_ms and decoder_mean_ms"
    return None
