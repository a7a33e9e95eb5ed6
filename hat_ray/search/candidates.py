"""Candidates: scored architectures, and the table that keeps them.

Decisions
- Results are appended in small files as they come, so that a killed search loses none; at the end one file takes their
  place. A table is read whole whichever of the two it is found in.
- A loss is worth something elsewhere only beside the SuperTransformer and the validation set that it comes from: each
  row names them by `scored_by`.
- Older tables are read: what they lack is empty.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from hat_ray.core.codec import STAGE_AGAIN, read_rows
from hat_ray.errors import SearchError, SpaceError
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

FILE = "candidates.parquet"
PARTS = "parts"
EARLIER = -1
"""The round of candidates that came from earlier runs."""

_BY_DEVICE = pa.map_(pa.string(), pa.float64())
_BEFORE_VERSION_2 = [
    pa.field("architecture_id", pa.string()),
    pa.field("architecture", pa.string(), metadata={"meaning": "canonical JSON"}),
    pa.field("loss", pa.float64(), metadata={"meaning": "validation loss, bits per token; null: no number"}),
    pa.field("latency_ms", _BY_DEVICE, metadata={"meaning": "predicted, by device: what limits are held against"}),
    pa.field("order", pa.int64(), metadata={"meaning": "place in the order of asking"}),
    pa.field("generation", pa.int64()),
    pa.field("origin", pa.string()),
    pa.field("parents", pa.list_(pa.string())),
    pa.field("seconds", pa.float64(), metadata={"meaning": "time that scoring took"}),
]
_BEFORE_VERSION_3 = [
    *_BEFORE_VERSION_2,
    pa.field("low_ms", _BY_DEVICE, metadata={"meaning": "lower end of the 90 % interval, by device"}),
    pa.field("high_ms", _BY_DEVICE, metadata={"meaning": "upper end of the 90 % interval, by device"}),
    pa.field("measured_ms", _BY_DEVICE, metadata={"meaning": "timed within the search, by device"}),
    pa.field("round", pa.int64(), metadata={"meaning": "measurements of winners before it; -1: an earlier run's"}),
    pa.field("worker", pa.string(), metadata={"meaning": "host and process that scored it"}),
    pa.field("utc_time", pa.string(), metadata={"meaning": "when its loss arrived, ISO 8601"}),
    pa.field("scored_by", pa.string(), metadata={"meaning": "hash of SuperTransformer and validation set"}),
]
SCHEMA = pa.schema(
    [
        *_BEFORE_VERSION_3,
        pa.field("scored_share", pa.float64(), metadata={"meaning": "of the validation set; below 1: loss estimated"}),
        pa.field("loss_error", pa.float64(), metadata={"meaning": "standard error of an estimated loss, bits"}),
        pa.field(
            "loss_at_shares", pa.list_(pa.float64()), metadata={"meaning": "over 1/8, 1/4, 1/2 of the set, if asked"}
        ),
        pa.field(
            "would_stop_at", pa.float64(), metadata={"meaning": "share at which a control would have been stopped"}
        ),
    ],
    metadata={"schema_version": "3"},
)


@dataclass(frozen=True)
class Candidate:
    """An architecture with its validation loss and its predicted latency on each device."""

    architecture: Architecture
    loss: float
    """Label-smoothed, bits per token, with inherited weights; infinite where scoring gave no number."""
    latency_ms: Mapping[str, float]
    """As predicted; with `search.limit_confidence` what it stays below with that probability."""
    order: int = 0
    generation: int = 0
    origin: str = "random"
    parents: tuple[str, ...] = ()
    seconds: float = 0.0
    low_ms: Mapping[str, float] = field(default_factory=dict)
    high_ms: Mapping[str, float] = field(default_factory=dict)
    measured_ms: Mapping[str, float] = field(default_factory=dict)
    """On the devices that timed it within the search."""
    round: int = 0
    worker: str = ""
    utc_time: str = ""
    scored_by: str = ""
    scored_share: float = 1.0
    """Of the validation set; less where scoring was stopped early."""
    loss_error: float = 0.0
    """Standard error of an estimated loss, in bits."""
    loss_at_shares: tuple[float, ...] = ()
    """Losses over the first parts of the validation set, where candidates may be stopped early."""
    would_stop_at: float | None = None
    """The share at which it would have been stopped, had it not been one that is scored whole as a control."""

    @property
    def estimated(self) -> bool:
        """Whether the loss is an estimate: then it never wins, and stands on no frontier."""
        return self.scored_share < 1

    def takes_ms(self, device: str) -> float:
        """Return its milliseconds on a device: as measured, or else as predicted."""
        return self.measured_ms.get(device, self.latency_ms[device])


@dataclass(frozen=True)
class CandidateTable:
    """The candidates of one search in a folder."""

    folder: Folder

    def append(self, candidates: Sequence[Candidate]) -> None:
        """Add candidates; whole or not at all."""
        if candidates:
            self.folder.write_table(f"{PARTS}/part-{uuid.uuid4().hex}.parquet", to_table(candidates))

    def read(self) -> list[Candidate]:
        """Return every candidate once, in the order of asking."""
        names = [FILE] if self.folder.exists(FILE) else []
        names += [f"{PARTS}/{name}" for name in self.folder.child(PARTS).list() if name.endswith(".parquet")]
        found: dict[Architecture, Candidate] = {}
        for name in names:
            for candidate in _from_table(read_rows(self.folder, name), f"{self.folder}/{name}"):
                found.setdefault(candidate.architecture, candidate)
        return sorted(found.values(), key=lambda candidate: candidate.order)

    def compact(self) -> None:
        """Replace the small files by one."""
        self.replace(self.read())

    def replace(self, candidates: Sequence[Candidate]) -> None:
        """Let one file with these candidates take the place of all that there is."""
        self.folder.write_table(FILE, to_table(candidates))
        self.folder.delete(PARTS)


def utc_now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def to_table(candidates: Sequence[Candidate]) -> pa.Table:
    """Return candidates as rows of `SCHEMA`."""
    return pa.Table.from_pylist([_row(candidate) for candidate in candidates], schema=SCHEMA)


def _row(c: Candidate) -> dict[str, Any]:
    return {
        "architecture_id": c.architecture.id,
        "architecture": c.architecture.to_json(),
        "loss": c.loss if math.isfinite(c.loss) else None,
        "latency_ms": list(c.latency_ms.items()),
        "order": c.order,
        "generation": c.generation,
        "origin": c.origin,
        "parents": list(c.parents),
        "seconds": c.seconds,
        "low_ms": list(c.low_ms.items()),
        "high_ms": list(c.high_ms.items()),
        "measured_ms": list(c.measured_ms.items()),
        "round": c.round,
        "worker": c.worker,
        "utc_time": c.utc_time,
        "scored_by": c.scored_by,
        "scored_share": c.scored_share,
        "loss_error": c.loss_error,
        "loss_at_shares": list(c.loss_at_shares),
        "would_stop_at": c.would_stop_at,
    }


def _from_table(table: pa.Table, source: str) -> list[Candidate]:
    there = {name: table.schema.field(name).type for name in table.column_names}
    versions = {"scored_share": list(SCHEMA), "round": _BEFORE_VERSION_3}
    needed = next((columns for name, columns in versions.items() if name in there), _BEFORE_VERSION_2)
    wrong = [column.name for column in needed if there.get(column.name) != column.type]
    if wrong:
        raise SearchError(
            f"{source} is not a candidates table: it lacks {wrong[0]} as {SCHEMA.field(wrong[0]).type}; "
            f"remove it and search again"
        )
    try:
        return [_candidate(row) for row in table.to_pylist()]
    except (SpaceError, TypeError, ValueError, pa.ArrowException) as error:
        raise SearchError(f"{source} is damaged ({' '.join(str(error).split())}): {STAGE_AGAIN}") from error


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        architecture=Architecture.from_json(row["architecture"]),
        loss=math.inf if row["loss"] is None else row["loss"],
        latency_ms=dict(row["latency_ms"]),
        order=row["order"],
        generation=row["generation"],
        origin=row["origin"],
        parents=tuple(row["parents"]),
        seconds=row["seconds"],
        low_ms=dict(row.get("low_ms") or ()),
        high_ms=dict(row.get("high_ms") or ()),
        measured_ms=dict(row.get("measured_ms") or ()),
        round=row.get("round") or 0,
        worker=row.get("worker") or "",
        utc_time=row.get("utc_time") or "",
        scored_by=row.get("scored_by") or "",
        scored_share=row.get("scored_share", 1.0),
        loss_error=row.get("loss_error", 0.0),
        loss_at_shares=tuple(row.get("loss_at_shares") or ()),
        would_stop_at=row.get("would_stop_at"),
    )
