"""The latency table's columns, and rows to and from them.

The schema grows by nullable columns only; `SCHEMA_VERSION` rises when an older reader would misread a newer file.
Readers fill nullable columns that a file lacks with nulls and ignore columns that they do not know.

One row of the latency table: an architecture timed once, with all its circumstances.

A row compares with another only where device and workload are equal. `space_id` tells which search space it was drawn
for; the same architecture drawn for two spaces has the same id in both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.timing.sensors.conditions import Conditions
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import HAT_FEATURES

MEASURED = "measured"
IMPORTED_AVERAGES = "imported, averages only"


@dataclass(frozen=True)
class Canary:
    """How long the fixed architecture took just before and just after a timing, and what follows from it."""

    before_ms: float
    after_ms: float
    drift_correction: float
    """Multiply a latency by it: what dividing each repetition by how slow the canaries around it were does to the
    median."""
    quiet_ms: float | None = None
    """The canary on the quiet device, as far as the session had seen it by then: what the correction brings to."""


@dataclass(frozen=True)
class Circumstances:
    """Where, when and by what a row was made."""

    host: str
    session_id: str
    utc_time: str
    """ISO 8601 with seconds, such as "2026-01-31T12:00:00Z"."""
    library_versions: tuple[tuple[str, str], ...]
    """Sorted pairs of library and version."""
    niceness: int | None = None
    load_average: float | None = None
    """The host's one-minute load average before the timing, the timing's own included."""
    conditions: Conditions = field(default_factory=Conditions)
    """The machine's state around the timing."""


@dataclass(frozen=True)
class Origin:
    """Where a row comes from: our own timing, or a file that was imported."""

    provenance: str = MEASURED
    source: str = ""
    """The imported file's name, or empty."""
    source_row: int | None = None
    """The line in that file, counted from 0 after the header."""


@dataclass(frozen=True)
class LatencyRow:
    """One architecture on one device under one workload."""

    space_id: str
    architecture: Architecture | None
    """None where only averages are known (imported rows)."""
    hat_features: tuple[float, ...]
    """HAT's ten averages, in the order of `HAT_FEATURES`."""
    workload: Workload
    device: DeviceInfo
    encoder: Spread | None
    """None where the runtime does not split its time; likewise `decoder`."""
    decoder: Spread | None
    total: Spread | None
    """Encoder and decoder of the same translation together; None where only averages are known."""
    encoder_samples_ms: tuple[float, ...]
    decoder_samples_ms: tuple[float, ...]
    repetitions: int | None
    warmups: int | None
    disturbed: int | None
    """Repetitions set aside because a canary beside them was slow."""
    relative_error: float | None
    """The relative standard error of the total's median, its drift correction's included; None where only averages are
    known."""
    canary: Canary | None
    circumstances: Circumstances
    origin: Origin = Origin()
    energy: Energy | None = None
    """What one translation took; None where the system does not tell."""
    total_samples_ms: tuple[float, ...] = ()
    """Of a runtime that does not split its time; else the sums of the parts' samples."""
    quantities: tuple[tuple[str, float], ...] = ()
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
        """What two timings of the same thing share: architecture (or line of an import), device and workload."""
        what = self.architecture.id if self.architecture else (self.origin.source, self.origin.source_row)
        return (self.space_id, what, self.device.slug, self.workload)


SCHEMA_VERSION = 2

_TEXT, _INT, _LONG, _REAL = pa.string(), pa.int32(), pa.int64(), pa.float64()
_SAMPLES = pa.list_(pa.float32())


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _spread_fields(part: str) -> list[pa.Field]:
    return [pa.field(f"{part}_{name}_ms", _REAL) for name in ("p10", "p50", "p90", "mean", "std")]


SCHEMA = pa.schema(
    [
        _required("schema_version", _INT),
        _required("provenance", _TEXT),
        pa.field("source", _TEXT),
        pa.field("source_row", _LONG),
        # the architecture
        _required("space_id", _TEXT),
        pa.field("architecture_id", _TEXT),
        pa.field("architecture_json", _TEXT),
        *(_required(f"hat_{name}", _REAL) for name in HAT_FEATURES),
        # the workload
        *(_required(field.name, _INT) for field in fields(Workload) if field.name != "length_mix"),
        pa.field("length_mix", _TEXT),
        # milliseconds
        _required("latency_ms", _REAL),
        _required("latency_corrected_ms", _REAL),
        *_spread_fields("encoder"),
        *_spread_fields("decoder"),
        *_spread_fields("total"),
        pa.field("encoder_samples_ms", _SAMPLES),
        pa.field("decoder_samples_ms", _SAMPLES),
        pa.field("total_samples_ms", _SAMPLES),
        pa.field("repetitions", _INT),
        pa.field("warmups", _INT),
        pa.field("disturbed", _INT),
        pa.field("relative_error", _REAL),
        pa.field("canary_before_ms", _REAL),
        pa.field("canary_after_ms", _REAL),
        pa.field("drift_correction", _REAL),
        pa.field("canary_quiet_ms", _REAL),
        # the device
        _required("device_slug", _TEXT),
        _required("device_name", _TEXT),
        _required("device_model", _TEXT),
        _required("device_machine", _TEXT),
        _required("device_logical_cores", _INT),
        _required("device_threads", _INT),
        pa.field("device_clock_mhz", _REAL),
        pa.field("device_memory_bytes", _LONG),
        _required("device_isa", pa.list_(_TEXT)),
        _required("device_accelerator", _TEXT),
        pa.field("device_accelerator_memory_bytes", _LONG),
        _required("device_driver", _TEXT),
        _required("device_runtime", _TEXT),
        _required("device_dtype", _TEXT),
        _required("device_quantisation", _TEXT),
        _required("device_os", _TEXT),
        # the circumstances
        _required("host", _TEXT),
        _required("session_id", _TEXT),
        _required("utc_time", _TEXT),
        pa.field("library_versions", pa.map_(_TEXT, _TEXT)),
        pa.field("niceness", _INT),
        pa.field("load_average", _REAL),
        # the machine's state around the timing
        pa.field("cpu_mhz", _REAL),
        pa.field("governor", _TEXT),
        pa.field("temperature_c", _REAL),
        pa.field("throttled", pa.list_(_TEXT)),
        pa.field("other_load_cpus", _REAL),
        pa.field("steal_cpus", _REAL),
        pa.field("peak_resident_bytes", _LONG),
        pa.field("peak_device_bytes", _LONG),
        # one translation
        pa.field("energy_j", _REAL),
        pa.field("energy_source", _TEXT),
        # beside the timing, in processes of their own
        pa.field("quantities", pa.map_(_TEXT, _REAL)),
    ],
    metadata={"hat_ray.table": "latency", "hat_ray.schema_version": str(SCHEMA_VERSION)},
)


def to_table(rows: Iterable[LatencyRow]) -> pa.Table:
    """Lay rows out in columns."""
    return pa.Table.from_pylist([_to_record(row) for row in rows], schema=SCHEMA)


def from_table(table: pa.Table) -> list[LatencyRow]:
    """Read rows back; a missing nullable column reads as null."""
    return [_from_record(record) for record in table.to_pylist()]


def why_foreign(schema: pa.Schema) -> str | None:
    """Return why a file's columns are not a latency table's, or None when they are."""
    version = (schema.metadata or {}).get(b"hat_ray.schema_version", b"").decode(errors="replace")
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


def _to_record(row: LatencyRow) -> dict[str, Any]:
    architecture, canary, origin, circumstances = row.architecture, row.canary, row.origin, row.circumstances
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "provenance": origin.provenance,
        "source": origin.source or None,
        "source_row": origin.source_row,
        "space_id": row.space_id,
        "architecture_id": architecture.id if architecture else None,
        "architecture_json": architecture.to_json() if architecture else None,
        **{f"hat_{name}": value for name, value in zip(HAT_FEATURES, row.hat_features, strict=True)},
        **{field.name: getattr(row.workload, field.name) for field in fields(Workload)},
        "latency_ms": row.latency_ms,
        "latency_corrected_ms": row.corrected_ms,
        "encoder_samples_ms": list(row.encoder_samples_ms),
        "decoder_samples_ms": list(row.decoder_samples_ms),
        "total_samples_ms": list(row.total_samples_ms) or None,
        "repetitions": row.repetitions,
        "warmups": row.warmups,
        "disturbed": row.disturbed,
        "relative_error": row.relative_error,
        "canary_before_ms": canary.before_ms if canary else None,
        "canary_after_ms": canary.after_ms if canary else None,
        "drift_correction": canary.drift_correction if canary else None,
        "canary_quiet_ms": canary.quiet_ms if canary else None,
        "device_slug": row.device.slug,
        **{f"device_{field.name}": getattr(row.device, field.name) for field in fields(DeviceInfo)},
        "host": circumstances.host,
        "session_id": circumstances.session_id,
        "utc_time": circumstances.utc_time,
        "library_versions": list(circumstances.library_versions),
        "niceness": circumstances.niceness,
        "load_average": circumstances.load_average,
        **{field.name: getattr(circumstances.conditions, field.name) for field in fields(Conditions)},
        "energy_j": row.energy.joules if row.energy else None,
        "energy_source": row.energy.source if row.energy else None,
        "quantities": list(row.quantities) or None,
    }
    for part, value in (("encoder", row.encoder), ("decoder", row.decoder), ("total", row.total)):
        record |= {f"{part}_{field.name}": getattr(value, field.name) for field in fields(Spread)} if value else {}
    return record


def _from_record(record: Mapping[str, Any]) -> LatencyRow:
    text = record.get("architecture_json")
    device: dict[str, Any] = {field.name: record.get(f"device_{field.name}") for field in fields(DeviceInfo)}
    device["isa"] = tuple(record["device_isa"])
    workload: dict[str, Any] = {field.name: record.get(field.name) for field in fields(Workload)}
    return LatencyRow(
        space_id=record["space_id"],
        architecture=Architecture.from_json(text) if text else None,
        hat_features=tuple(record[f"hat_{name}"] for name in HAT_FEATURES),
        workload=Workload(**workload),
        device=DeviceInfo(**device),
        encoder=_spread(record, "encoder"),
        decoder=_spread(record, "decoder"),
        total=_spread(record, "total"),
        encoder_samples_ms=tuple(record.get("encoder_samples_ms") or ()),
        decoder_samples_ms=tuple(record.get("decoder_samples_ms") or ()),
        repetitions=record.get("repetitions"),
        warmups=record.get("warmups"),
        disturbed=record.get("disturbed"),
        relative_error=record.get("relative_error"),
        canary=_canary(record),
        circumstances=Circumstances(
            host=record["host"],
            session_id=record["session_id"],
            utc_time=record["utc_time"],
            library_versions=tuple((name, version) for name, version in record.get("library_versions") or ()),
            niceness=record.get("niceness"),
            load_average=record.get("load_average"),
            conditions=_conditions(record),
        ),
        origin=Origin(record["provenance"], record.get("source") or "", record.get("source_row")),
        energy=_energy(record),
        total_samples_ms=tuple(record.get("total_samples_ms") or ()),
        quantities=tuple((name, value) for name, value in record.get("quantities") or ()),
    )


def _spread(record: Mapping[str, Any], part: str) -> Spread | None:
    p10, p50, p90, mean, std = (record.get(f"{part}_{name}_ms") for name in ("p10", "p50", "p90", "mean", "std"))
    return None if mean is None or std is None else Spread(p10, p50, p90, mean, std)


def _conditions(record: Mapping[str, Any]) -> Conditions:
    told = {field.name: record.get(field.name) for field in fields(Conditions)}
    reasons = told["throttled"]
    return Conditions(**told | {"throttled": None if reasons is None else tuple(reasons)})


def _energy(record: Mapping[str, Any]) -> Energy | None:
    joules = record.get("energy_j")
    return None if joules is None else Energy(joules, record.get("energy_source") or "")


def _canary(record: Mapping[str, Any]) -> Canary | None:
    before, after, factor = (record.get(name) for name in ("canary_before_ms", "canary_after_ms", "drift_correction"))
    if before is None or after is None or factor is None:
        return None
    return Canary(before, after, factor, record.get("canary_quiet_ms"))
