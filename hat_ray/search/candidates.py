"""Candidates: scored architectures, and the table that keeps them.

Decisions
- Results are appended in small files as they come, so that a killed search loses none; at the end one file takes their
  place. A table is read whole whichever of the two it is found in.
- A loss is worth something elsewhere only beside the SuperTransformer and the validation set that it comes from: each
  row names them by `scored_by`.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import pyarrow as pa

from hat_ray.core.codec import Loss, read_rows
from hat_ray.core.columns.layout import Columns, Derived
from hat_ray.core.columns.marks import Column
from hat_ray.latency.quantities import LATENCY
from hat_ray.space.architecture import Architecture
from hat_ray.space.json_field import ArchitectureField
from hat_ray.storage.folder import Folder

FILE = "candidates.parquet"
PARTS = "parts"
EARLIER = -1
"""The round of candidates that came from earlier runs."""

ByDevice = Mapping[str, float]
ByQuantity = Mapping[str, Mapping[str, float]]
"""By device, then by quantity."""
_NESTED = pa.map_(pa.string(), pa.map_(pa.string(), pa.float64()))


def _to_items(values: ByQuantity) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(device, list(of_device.items())) for device, of_device in values.items()]


def _from_items(items: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> ByQuantity:
    return {device: dict(of_device) for device, of_device in items}


def _to_null(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _from_null(loss: float | None) -> float:
    return math.inf if loss is None else loss


@dataclass(frozen=True)
class Candidate:
    """An architecture with its validation loss and its predicted latency on each device: one row of the table."""

    architecture: Annotated[
        ArchitectureField, Column("canonical JSON", pa.string(), Architecture.to_json, Architecture.from_json)
    ]
    loss_bits: Annotated[
        Loss,
        Column("validation loss, bits per token; null: no number", None, _to_null, _from_null, nullable=True),
    ]
    """Label-smoothed, bits per token, with inherited weights; infinite where scoring gave no number."""
    latency_ms: Annotated[ByDevice, Column("predicted, by device: what limits are held against")]
    """As predicted; with `search.limit_confidence` what it stays below with that probability."""
    order: Annotated[int, Column("place in the order of asking")] = 0
    generation: int = 0
    origin: str = "random"
    parents: tuple[str, ...] = ()
    seconds: Annotated[float, Column("time that scoring took")] = 0.0
    low_ms: Annotated[ByDevice, Column("lower end of the 90 % interval, by device")] = field(default_factory=dict)
    high_ms: Annotated[ByDevice, Column("upper end of the 90 % interval, by device")] = field(default_factory=dict)
    measured_ms: Annotated[ByDevice, Column("timed within the search, by device")] = field(default_factory=dict)
    quantities: Annotated[
        ByQuantity,
        Column("what limits bound beside the latency, predicted, by device and name", _NESTED, _to_items, _from_items),
    ] = field(default_factory=dict)
    """As `latency_ms`: with `search.limit_confidence` what they stay below with that probability."""
    measured_quantities: Annotated[
        ByQuantity, Column("the same, measured within the search", _NESTED, _to_items, _from_items)
    ] = field(default_factory=dict)
    round: Annotated[int, Column("measurements of winners before it; -1: an earlier run's")] = 0
    worker: Annotated[str, Column("host and process that scored it")] = ""
    utc_time: Annotated[str, Column("when its loss arrived, ISO 8601")] = ""
    scored_by: Annotated[str, Column("hash of SuperTransformer and validation set")] = ""
    scored_share: Annotated[float, Column("of the validation set; below 1: loss estimated")] = 1.0
    """Of the validation set; less where scoring was stopped early."""
    loss_error_bits: Annotated[float, Column("standard error of an estimated loss, bits")] = 0.0
    loss_at_shares: Annotated[tuple[float, ...], Column("over 1/8, 1/4, 1/2 of the set, if asked")] = ()
    """Losses over the first parts of the validation set, where candidates may be stopped early."""
    would_stop_at: Annotated[float | None, Column("share at which a control would have been stopped")] = None
    """The share at which it would have been stopped, had it not been one that is scored whole as a control."""

    @property
    def estimated(self) -> bool:
        """Whether the loss is an estimate: then it never wins, and stands on no frontier."""
        return self.scored_share < 1

    def takes_ms(self, device: str) -> float:
        """Return its milliseconds on a device: as measured, or else as predicted."""
        return self.measured_ms.get(device, self.latency_ms[device])

    def predicted(self, device: str) -> dict[str, float]:
        """Return its predicted quantities on a device by name."""
        return {LATENCY: self.latency_ms[device], **self.quantities.get(device, {})}

    def known(self, device: str) -> dict[str, float]:
        """Return its quantities on a device by name: as measured, or else as predicted."""
        return {**self.predicted(device), LATENCY: self.takes_ms(device), **self.measured_quantities.get(device, {})}


TABLE = Columns(Candidate, version=5, derived=[Derived("architecture_id", lambda one: one.architecture.id)])
"""The columns of `candidates.parquet`."""


@dataclass(frozen=True)
class CandidateTable:
    """The candidates of one search in a folder."""

    folder: Folder

    def append(self, candidates: Sequence[Candidate]) -> None:
        """Add candidates; whole or not at all."""
        if candidates:
            self.folder.write_table(f"{PARTS}/part-{uuid.uuid4().hex}.parquet", TABLE.to_table(candidates))

    def read(self) -> list[Candidate]:
        """Return every candidate once, in the order of asking."""
        names = [FILE] if self.folder.exists(FILE) else []
        names += [f"{PARTS}/{name}" for name in self.folder.child(PARTS).list() if name.endswith(".parquet")]
        found: dict[Architecture, Candidate] = {}
        for name in names:
            for candidate in TABLE.from_table(read_rows(self.folder, name), f"{self.folder}/{name}"):
                found.setdefault(candidate.architecture, candidate)
        return sorted(found.values(), key=lambda candidate: candidate.order)

    def compact(self) -> None:
        """Replace the small files by one."""
        self.replace(self.read())

    def replace(self, candidates: Sequence[Candidate]) -> None:
        """Let one file with these candidates take the place of all that there is."""
        self.folder.write_table(FILE, TABLE.to_table(candidates))
        self.folder.delete(PARTS)


def utc_now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
