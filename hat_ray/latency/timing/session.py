"""Time architectures on the machine that this process runs on, into the latency table. No Ray here.

The life of a session: the device is known, the canary (the space's smallest architecture) is built and watched for a
while; then each architecture is built and timed with canaries between its repetitions; rows are written in small parts
as they come. When the device turns out to be quieter than known, earlier architectures are timed again;
what found no undisturbed moment is timed again when the others are done, for as long as that finds undisturbed ones.
What the table already holds for the same device and workload is skipped, so a session that was killed resumes where
its last part ended. Where a row lacks a quantity that is measured in a process of its own, only that is measured: the
row is written once more, with it.
"""

import logging
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import hat_ray
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.quantity_rows import COLUMN, RowQuantities, measured_names, missing_names
from hat_ray.latency.table.row import LatencyRow, MeasurementContext
from hat_ray.latency.table.table import scan_table, write_rows, written_rows
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.process import collected
from hat_ray.latency.timing.protocol import Timing, ready, time_architecture
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.sensors.machine_state import Sensors, advice
from hat_ray.latency.timing.workload import random_model, translation
from hat_ray.model.protocol import Engine
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import hat_features

logger = logging.getLogger(__name__)

_MOST_TRIES = 3
"""Repeated timings, at most, of an architecture that finds no undisturbed moment."""
_IN_VAIN = 3
"""Tries in a row without an undisturbed moment, after which the other architectures come first."""


@dataclass(frozen=True)
class SessionSummary:
    """Outcome of one session."""

    timed: int
    skipped: int
    """Architectures that the table already had."""
    seconds: float
    completed: int = 0
    """Architectures that the table already had, and of which quantities were measured."""
    advice: tuple[str, ...] = ()
    """Disturbances with a remedy: one line each, each kind once a session."""

    def plus(self, other: "SessionSummary", advice: tuple[str, ...]) -> "SessionSummary":
        """Return both together."""
        return SessionSummary(
            self.timed + other.timed,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
            self.completed + other.completed,
            advice,
        )

    def since(self, before: "SessionSummary") -> "SessionSummary":
        """Return what came after an earlier summary of the same session."""
        return SessionSummary(
            self.timed - before.timed,
            self.skipped - before.skipped,
            self.seconds - before.seconds,
            self.completed - before.completed,
            self.advice[len(before.advice) :],
        )


@dataclass(frozen=True)
class Step:
    """Progress of a session."""

    done: int
    """Architectures that are over, those that the table already had included."""
    figures: Mapping[str, float]


@dataclass
class TimingSession:
    """One device at work: keeps the canary's model and history between calls.

    `root` stands for the root of the file system that the sensors are in.
    """

    job: TimingJob
    device: DeviceInfo
    root: Path = Path("/")

    def __post_init__(self) -> None:
        config = self.job.config
        for name in ("threads", "runtime", "dtype"):
            wanted, found = getattr(config, name), getattr(self.device, name)
            if wanted != found:
                raise LatencyError(f"the device must use latency.{name} {wanted}, got {found}")
        self._canary_model = self._build(self.job.space.smallest())
        self._watch = CanaryMonitor(
            translation(self._canary_model, self.job.protocol.workload), config.canary_tolerance
        )
        self._levels_ms: dict[Architecture, float] = {}
        self._disturbed: dict[Architecture, float] = {}
        """Drift corrections of the architectures that have not yet been timed in an undisturbed moment."""
        self._tries: Counter[Architecture] = Counter()
        self._calibrated = False
        self._missing = missing_quantities(self.job, self.device)
        self._rows: dict[Architecture, LatencyRow] = {}
        """The table's rows, read where some of them lack quantities."""
        self._quantities = RowQuantities(self.job.quantities_of(self.device.slug), self.job.profile(self.device))
        self._sensors = Sensors(config.threads, on_gpu=self.device.torch_device == "cuda", root=self.root)
        self._advice: dict[str, str] = {}
        self.summary = SessionSummary(0, 0, 0.0)
        """Outcome of all calls until now."""

    def run(self, architectures: Sequence[Architecture], progress: Progress = no_progress) -> SessionSummary:
        """Time architectures one after another; rows are on disk when this returns, also after an interrupt."""
        before = self.summary
        for step in self.steps(architectures):
            progress(step.done, len(architectures), step.figures)
        return self.summary.since(before)

    def steps(self, architectures: Sequence[Architecture], within_s: float = math.inf) -> Iterator[Step]:
        """Time architectures one after another, and yield after each; begin nothing new after `within_s` seconds."""
        started = flushed = time.monotonic()
        todo = [a for a in dict.fromkeys(architectures) if self._missing.get(a.id, [""])]
        skipped = len(architectures) - len(todo)
        known = sum(architecture.id in self._missing for architecture in todo)
        if len(todo) > known:
            self._quantities.require_recorded()
        pending: list[LatencyRow] = []
        timed = completed = 0
        try:
            with collected():
                for done, architecture in enumerate(todo, skipped + 1):
                    if time.monotonic() - started > within_s:
                        break
                    if architecture.id in self._missing:
                        row = self._complete(architecture)
                        completed += 1
                    else:
                        row = self.time(architecture)
                        timed += 1
                    if row != self._rows.get(architecture):  # equal: its missing quantities could not be measured
                        pending.append(row)
                    if time.monotonic() - flushed >= self.job.config.flush_s:
                        self._write(pending)
                        flushed = time.monotonic()
                    yield Step(done, {"latency_ms": row.latency_ms, "error": row.relative_error or 0.0})
                else:
                    pending += [self.time(one) for one in self._levels_ms if self._was_misjudged(one)]
                    pending += self._repeat_disturbed(most=len(architectures))
        finally:
            self._write(pending)
            spent = SessionSummary(timed, skipped + completed, time.monotonic() - started, completed)
            self.summary = self.summary.plus(spent, tuple(self._advice.values()))

    def look_again(self) -> None:
        """See what the table holds by now: another node of this device may have timed some of what comes."""
        self._missing, self._rows = missing_quantities(self.job, self.device), {}

    def _complete(self, architecture: Architecture) -> LatencyRow:
        """Return the table's row of an architecture with the quantities that no row of it knows yet."""
        if architecture not in self._rows:
            where = _wanted(self.job)
            self._rows = written_rows(self.job.table_root, self.job.spaces, self.device.slug, where)
        return self._quantities.completed(self._rows[architecture], self._missing[architecture.id])

    def time(self, architecture: Architecture) -> LatencyRow:
        """Time one architecture with canaries between its repetitions; write nothing."""
        if not self.job.beyond_space:
            self.job.space.require(architecture)
        return self.time_model(architecture, lambda: self._build(architecture))

    def time_model(self, architecture: Architecture, build: Callable[[], Engine]) -> LatencyRow:
        """Time a model of an architecture, which may lie outside the job's space; write nothing."""
        with ready(self._canary_model, self.device.threads):
            if not self._calibrated:
                self._watch.calibrate(self.job.config.calibration_s)
                self._calibrated = True
            context = _context(self.job.session_id, self.device.runtime)
            model = build()
            self._sensors.start()
            timing = time_architecture(model, self.job.protocol, self._watch, self._sensors.meter)
            machine_state = self._sensors.stop()
        self._levels_ms[architecture] = self._watch.level_ms
        self._note_disturbance(architecture, timing)
        self._advise(advice(machine_state))
        row = self._row(architecture, timing, replace(context, machine_state=machine_state))
        return self._quantities.added(row)

    def _advise(self, lines: dict[str, str]) -> None:
        """Log advice, each kind once."""
        for kind, line in lines.items():
            if kind not in self._advice:
                logger.warning(line)
            self._advice.setdefault(kind, line)

    def _repeat_disturbed(self, most: int) -> Iterator[LatencyRow]:
        """Time again what found no undisturbed moment yet; yield the rows that came out less disturbed than those
        before.

        `most` timings, since the fleet counts on a bounded time. Once a few in a row were in vain
        too, the rest waits until the session's next architectures are done: a disturbance may last for minutes. Each
        is tried `_MOST_TRIES` times in all.
        """
        timed = in_vain = 0
        while todo := [one for one in self._disturbed if self._tries[one] < _MOST_TRIES]:
            for architecture in todo:
                if timed == most or in_vain == _IN_VAIN:
                    return
                self._tries[architecture] += 1
                before = self._disturbed[architecture]
                row = self.time(architecture)
                undisturbed = architecture not in self._disturbed
                if undisturbed or self._disturbed[architecture] > before:
                    yield row
                timed, in_vain = timed + 1, 0 if undisturbed else in_vain + 1

    def _note_disturbance(self, architecture: Architecture, timing: Timing) -> None:
        """Remember an architecture that was timed without an undisturbed moment: only its correction makes it
        comparable."""
        if timing.undisturbed or timing.canary is None:
            self._disturbed.pop(architecture, None)
        else:  # the least correction of all tries: the one whose row counts
            correction = timing.canary.drift_correction
            self._disturbed[architecture] = max(correction, self._disturbed.get(architecture, 0.0))

    def _was_misjudged(self, architecture: Architecture) -> bool:
        """Return whether the device turned out to be quieter than known when this was timed."""
        return self._levels_ms[architecture] > self._watch.level_ms * (1 + self.job.config.canary_tolerance)

    def _build(self, architecture: Architecture) -> Engine:
        """Build a SubTransformer with random weights on its runtime: their values do not matter for speed."""
        model = random_model(architecture, self.job.model_config, self.job.protocol.workload)
        device = self.device
        return load_engine(model, device.runtime, RuntimeSettings(device.dtype, device.torch_device, device.threads))

    def _row(self, architecture: Architecture, timing: Timing, context: MeasurementContext) -> LatencyRow:
        return LatencyRow(
            space_id=self.job.space.id,
            architecture=architecture,
            hat_features=tuple(hat_features([architecture])[0].tolist()),
            workload=self.job.protocol.workload,
            device=self.device,
            encoder=timing.encoder,
            decoder=timing.decoder,
            total=timing.total,
            encoder_samples_ms=timing.encoder_samples_ms,
            decoder_samples_ms=timing.decoder_samples_ms,
            total_samples_ms=() if timing.encoder_samples_ms else timing.total_samples_ms,
            repetitions=timing.repetitions,
            warmups=timing.warmups,
            disturbed=timing.disturbed,
            relative_error=timing.relative_error,
            canary=timing.canary,
            context=replace(context, niceness=timing.niceness),
            energy=self._energy(timing),
        )

    def _energy(self, timing: Timing) -> Energy | None:
        """Return the energy of one translation: a repetition does one for each pair of lengths."""
        if timing.energy_j is None:
            return None
        return Energy(timing.energy_j / len(self.job.protocol.workload.pairs), self._sensors.meter.source)

    def _write(self, pending: list[LatencyRow]) -> None:
        write_rows(self.job.table_root, pending)
        self._missing |= {row.architecture.id: [] for row in pending if row.architecture}
        pending.clear()


def missing_quantities(job: TimingJob, device: DeviceInfo) -> dict[str, list[str]]:
    """Return the measured quantities that the table lacks of each architecture on a device, by its id."""
    names = measured_names(job.quantities_of(device.slug))
    columns = ["architecture_id", *([COLUMN] if names else [])]
    return missing_names(scan_table(job.table, job.spaces, device.slug, columns, where=_wanted(job)), names)


def _wanted(job: TimingJob) -> dict[str, object]:
    """Return the columns of the rows that count for a job, with their values."""
    return asdict(job.protocol.workload) | ({"session_id": job.session_id} if job.again else {})


def _context(session_id: str, runtime: str) -> MeasurementContext:
    libraries = {
        "hat-ray": hat_ray.__version__,
        "python": platform.python_version(),
        **RUNTIMES.load(runtime).versions(),
    }
    return MeasurementContext(
        host=platform.node(),
        session_id=session_id,
        utc_time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        library_versions=tuple(sorted(libraries.items())),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )
