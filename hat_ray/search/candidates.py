"""Candidates: scored architectures, and the table that keeps them.

Decisions
- Results are appended in small files as they come, so that a killed search loses none; at the end one file takes their
  place. A table is read whole whichever of the two it is found in.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hat_ray.errors import SearchError
from hat_ray.space.architecture import Architecture
from hat_ray.storage import Folder

FILE = "candidates.parquet"
PARTS = "parts"

SCHEMA = pa.schema(
    [
        pa.field("architecture_id", pa.string()),
        pa.field("architecture", pa.string(), metadata={"meaning": "canonical JSON"}),
        pa.field("loss", pa.float64(), metadata={"meaning": "validation loss, bits per token; null: no number"}),
        pa.field("latency_ms", pa.map_(pa.string(), pa.float64()), metadata={"meaning": "predicted, by device"}),
        pa.field("order", pa.int64(), metadata={"meaning": "place in the order of asking"}),
        pa.field("generation", pa.int64()),
        pa.field("origin", pa.string()),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("seconds", pa.float64(), metadata={"meaning": "time that scoring took"}),
    ],
    metadata={"schema_version": "1"},
)


@dataclass(frozen=True)
class Candidate:
    """An architecture with its validation loss and its predicted latency on each device."""

    architecture: Architecture
    loss: float
    """Label-smoothed, bits per token, with inherited weights; infinite where scoring gave no number."""
    latency_ms: Mapping[str, float]
    order: int = 0
    generation: int = 0
    origin: str = "random"
    parents: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class CandidateTable:
    """The candidates of one search in a folder."""

    folder: Folder

    def append(self, candidates: Sequence[Candidate]) -> None:
        """Add candidates; whole or not at all."""
        if candidates:
            self.folder.write_table(f"{PARTS}/part-{uuid.uuid4().hex}.parquet", _to_table(candidates))

    def read(self) -> list[Candidate]:
        """Return every candidate once, in the order of asking."""
        names = [FILE] if self.folder.exists(FILE) else []
        names += [f"{PARTS}/{name}" for name in self.folder.child(PARTS).list() if name.endswith(".parquet")]
        found: dict[Architecture, Candidate] = {}
        for name in names:
            for candidate in _from_table(self.folder.read_table(name), f"{self.folder}/{name}"):
                found.setdefault(candidate.architecture, candidate)
        return sorted(found.values(), key=lambda candidate: candidate.order)

    def compact(self) -> None:
        """Replace the small files by one."""
        self.folder.write_table(FILE, _to_table(self.read()))
        self.folder.delete(PARTS)


def _to_table(candidates: Sequence[Candidate]) -> pa.Table:
    rows = [
        {
            "architecture_id": c.architecture.id,
            "architecture": c.architecture.to_json(),
            "loss": c.loss if math.isfinite(c.loss) else None,
            "latency_ms": list(c.latency_ms.items()),
            "order": c.order,
            "generation": c.generation,
            "origin": c.origin,
            "parents": list(c.parents),
            "seconds": c.seconds,
        }
        for c in candidates
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _from_table(table: pa.Table, source: str) -> list[Candidate]:
    if not table.schema.equals(SCHEMA):
        raise SearchError(f"{source} is not a candidates table of this hat-ray: remove it and search again")
    return [
        Candidate(
            architecture=Architecture.from_json(row["architecture"]),
            loss=math.inf if row["loss"] is None else row["loss"],
            latency_ms=dict(row["latency_ms"]),
            order=row["order"],
            generation=row["generation"],
            origin=row["origin"],
            parents=tuple(row["parents"]),
            seconds=row["seconds"],
        )
        for row in table.to_pylist()
    ]
