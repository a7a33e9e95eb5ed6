"""The measured part of a latency row. Imports neither PyTorch nor PyArrow."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from hat_ray.core.columns.marks import Column, Int32
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.sensors.machine_state import MachineState
from hat_ray.latency.timing.statistics import Spread


def _pairs(cell: list[tuple[str, Any]] | None) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in cell or ())


@dataclass(frozen=True)
class Canary:
    """The fixed architecture's milliseconds just before and just after a timing, and the correction that follows."""

    before_ms: float
    after_ms: float
    drift_correction: Annotated[float, Column(name="drift_correction")]
    """Multiply a latency by it: what dividing each repetition by how slow the canaries around it were does to the
    median."""
    quiet_ms: float | None = None
    """The canary's time on the quiet device, as the session knew it by then: the level of the correction."""


@dataclass(frozen=True)
class MeasurementContext:
    """Place, time and software of a measurement."""

    host: str
    session_id: str
    utc_time: str
    """ISO 8601 with seconds, such as "2026-01-31T12:00:00Z"."""
    library_versions: Annotated[
        tuple[tuple[str, str], ...],
        Column(arrow="map<string, string>", to_cell=list, from_cell=_pairs, nullable=True),
    ]
    """Sorted pairs of library and version."""
    niceness: Int32 | None = None
    load_average: float | None = None
    """The host's one-minute load average before the timing, the timing's own included."""
    machine_state: MachineState = field(default_factory=MachineState)
    """The machine's state around the timing."""


def context_now(session_id: str, versions: Mapping[str, str]) -> MeasurementContext:
    """Return the circumstances of a measurement that begins; `versions` are those of the libraries beside Python."""
    return MeasurementContext(
        host=platform.node(),
        session_id=session_id,
        utc_time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        library_versions=tuple(sorted({**versions, "python": platform.python_version()}.items())),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


@dataclass(frozen=True)
class Record:
    """The measured part of a latency row; each field is that of the same name in `LatencyRow`."""

    encoder: Spread | None
    decoder: Spread | None
    total: Spread
    encoder_samples_ms: tuple[float, ...]
    decoder_samples_ms: tuple[float, ...]
    total_samples_ms: tuple[float, ...]
    repetitions: int
    warmups: int
    disturbed: int
    relative_error: float
    canary: Canary | None
    context: MeasurementContext
    energy: Energy | None
    visits: int | None
