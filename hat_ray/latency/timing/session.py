"""Time architectures on the machine that this process runs on, into the latency table. No Ray here.

The life of a session: the device is known, the canary (the space's smallest architecture) is built and watched for a
while; then the architectures are visited in turns, each several times in random order (`visits.py`). The row of an
architecture combines its visits; rows are written in small parts while they grow. When the device turns out to be
quieter than known, earlier rows are judged and written again.
What the table already holds for the same device and workload is skipped, and what was visited too seldom is visited
more: a session that was killed resumes where its last part ended. Where a row lacks a quantity that is measured in a
process of its own, only that is measured: the row is written once more, with it.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import hat_ray
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.quantity_rows import COLUMN, RowQuantities, measured_names, missing_names
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import scan_table, write_rows, written_rows
from hat_ray.latency.timing.bench import Bench
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.engines import random_model, ready, translation
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.process import collected
from hat_ray.latency.timing.record import Record, context_now
from hat_ray.latency.timing.sensors.cuda import sensors_of
from hat_ray.latency.timing.sensors.machine_state import advice
from hat_ray.latency.timing.visits import Earlier
from hat_ray.latency.timing.workload import TranslationTime
from hat_ray.model.protocol import Engine
from hat_ray.runtime.choice import AUTO
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import hat_features

logger = logging.getLogger(__name__)


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
            if wanted not in (found, AUTO):
                raise LatencyError(f"the device must use latency.{name} {wanted}, got {found}")
        self._canary_model = self._build(self.job.space.smallest())
        watch = CanaryMonitor(translation(self._canary_model, self.job.protocol.workload), config.canary_tolerance)
        sensors = sensors_of(config.threads, on_gpu=self.device.torch_device == "cuda", root=self.root)
        self._bench = Bench[Architecture](self.job.protocol, watch, sensors, config.calibration_s, self.job.session_id)
        self._pending: dict[Architecture, LatencyRow] = {}
        """Rows to be written."""
        self._missing = missing_quantities(self.job, self.device)
        self._partial = interrupted(self.job, self.device)
        self._rows: dict[Architecture, LatencyRow] = {}
        """The table's rows, read where some of them lack quantities."""
        self._quantities = RowQuantities(self.job.quantities_of(self.device.slug), self.job.profile(self.device))
        self._advice: dict[str, str] = {}
        self.summary = SessionSummary(0, 0, 0.0)
        """Outcome of all calls until now."""

    def run(self, architectures: Sequence[Architecture], progress: Progress = no_progress) -> SessionSummary:
        """Time architectures one after another; rows are on disk when this returns, also after an interrupt."""
        before = self.summary
        for step in self.steps(architectures):
            progress(step.done, len(architectures), step.figures)
        return self.summary.since(before)

    def steps(self, architectures: Sequence[Architecture], within_s: float = math.inf) -> Generator[Step, None, None]:
        """Visit architectures in turns, and yield after each visit; begin nothing new after `within_s` seconds.

        Rows are written while they grow, at least every `latency.flush_s`: the later row of a session counts.
        """
        started = flushed = time.monotonic()
        todo = [a for a in dict.fromkeys(architectures) if self._is_wanted(a)]
        skipped = len(architectures) - len(todo)
        lacking = [one for one in todo if self._missing.get(one.id)]
        fresh = [one for one in todo if one not in lacking]
        for one in fresh:
            self._require_known(one)
        if fresh:
            self._quantities.require_recorded()
        completed = 0
        try:
            with collected():
                for one in lacking:
                    if time.monotonic() - started > within_s:
                        break
                    completed += 1
                    row = self._complete(one)
                    if row != self._rows.get(one):  # equal: its missing quantities could not be measured
                        self._pending[one] = row
                    yield Step(skipped + completed, _figures(row))
                over: set[Architecture] = set()
                for one in self._bench.turns(fresh, over):
                    if time.monotonic() - started > within_s:
                        break
                    row = self.visit(one)
                    self._pending[one] = row
                    if self._bench.is_over(one):
                        over.add(one)
                    if time.monotonic() - flushed >= self.job.config.flush_s:
                        self._write()
                        flushed = time.monotonic()
                    yield Step(skipped + completed + len(over), _figures(row))
        finally:
            self._pending |= {one: self._row_of(one, record) for one, record in self._bench.misjudged().items()}
            self._write()
            timed = sum(one in self._bench.sittings for one in fresh)
            spent = SessionSummary(timed, skipped + completed, time.monotonic() - started, completed)
            self.summary = self.summary.plus(spent, tuple(self._advice.values()))

    def _require_known(self, architecture: Architecture) -> None:
        if not self.job.beyond_space:
            self.job.space.require(architecture)

    def _is_wanted(self, architecture: Architecture) -> bool:
        """Return whether the table lacks its row, visits to it, or quantities of it."""
        if architecture in self._bench.sittings:
            return not self._bench.is_over(architecture)
        if architecture.id in self._partial:
            return True
        return bool(self._missing.get(architecture.id, [""]))

    def look_again(self) -> None:
        """See what the table holds by now: another node of this device may have timed some of what comes."""
        self._missing, self._rows = missing_quantities(self.job, self.device), {}
        self._partial = interrupted(self.job, self.device)

    def _complete(self, architecture: Architecture) -> LatencyRow:
        """Return the table's row of an architecture with the quantities that no row of it knows yet."""
        if architecture not in self._rows:
            where = _wanted(self.job)
            self._rows = written_rows(self.job.table_root, self.job.spaces, self.device.slug, where)
        return self._quantities.completed(self._rows[architecture], self._missing[architecture.id])

    def time(self, architecture: Architecture) -> LatencyRow:
        """Time one architecture in as many visits as it needs, one after the other; write nothing."""
        return self.time_model(architecture, lambda: self._build(architecture))

    def time_model(self, architecture: Architecture, build: Callable[[], Engine]) -> LatencyRow:
        """Time a model of an architecture, which may lie outside the job's space; write nothing."""
        self._bench.sittings.pop(architecture, None)
        row = self._visit(architecture, build)
        while not self._bench.is_over(architecture):
            row = self._visit(architecture, build)
        return row

    def visit(self, architecture: Architecture) -> LatencyRow:
        """Visit an architecture of the space once; return the row of all its visits, and write nothing."""
        self._require_known(architecture)
        return self._visit(architecture, lambda: self._build(architecture))

    def _visit(self, architecture: Architecture, build: Callable[[], Engine]) -> LatencyRow:
        with ready(self._canary_model, self.device.threads):
            self._bench.calibrate()
            versions = {"hat-ray": hat_ray.__version__, **RUNTIMES.load(self.device.runtime).versions()}
            context = context_now(self.job.session_id, versions)
            earlier = self._partial.pop(architecture.id, None)
            record = self._bench.visit(architecture, context, lambda: self._opened(build), earlier)
        self._advise(advice(record.context.machine_state))
        return self._row_of(architecture, record)

    @contextmanager
    def _opened(self, build: Callable[[], Engine]) -> Iterator[tuple[Callable[[], TranslationTime], int | None]]:
        """Build a model in the state of timing; yield its repetition and the niceness."""
        model = build()
        with ready(model, self.device.threads) as niceness:
            yield translation(model, self.job.protocol.workload), niceness

    def _row_of(self, architecture: Architecture, record: Record) -> LatencyRow:
        """Return the row of all visits to an architecture until now."""
        measured: dict[str, Any] = {one.name: getattr(record, one.name) for one in fields(record)}
        row = LatencyRow(
            space_id=self.job.space.id,
            architecture=architecture,
            hat_features=tuple(hat_features([architecture])[0].tolist()),
            workload=self.job.protocol.workload,
            device=self.device,
            **measured,
        )
        return self._quantities.added(row)

    def _advise(self, lines: dict[str, str]) -> None:
        """Log advice, each kind once."""
        for kind, line in lines.items():
            if kind not in self._advice:
                logger.warning(line)
            self._advice.setdefault(kind, line)

    def _build(self, architecture: Architecture) -> Engine:
        """Build a SubTransformer with random weights on its runtime: their values do not matter for speed."""
        model = random_model(architecture, self.job.model_config, self.job.protocol.workload)
        device = self.device
        return load_engine(model, device.runtime, RuntimeSettings(device.dtype, device.torch_device, device.threads))

    def _write(self) -> None:
        rows = list(self._pending.values())
        write_rows(self.job.table_root, rows)
        self._missing |= {row.architecture.id: [] for row in rows if row.architecture}
        self._pending.clear()


def _figures(row: LatencyRow) -> dict[str, float]:
    return {"latency_ms": row.corrected_ms, "error": row.relative_error or 0.0}


def interrupted(job: TimingJob, device: DeviceInfo) -> dict[str, Earlier]:
    """Return what earlier sessions wrote of architectures that they did not visit as often as they were to, by id."""
    columns = ["architecture_id", "visits"]
    ids, visits = scan_table(job.table, job.spaces, device.slug, columns, where=_wanted(job)).columns
    most: dict[str, float] = {}
    for name, number in zip(ids.to_pylist(), visits.to_pylist(), strict=True):
        most[name] = max(most.get(name, 0), math.inf if number is None else number)
    partial = {name for name, number in most.items() if number < job.protocol.visits}
    if not partial:
        return {}
    rows = written_rows(job.table_root, job.spaces, device.slug, _wanted(job))
    earlier = {one.id: _earlier_of(row) for one, row in rows.items() if one.id in partial}
    return {name: one for name, one in earlier.items() if one is not None}


def _earlier_of(row: LatencyRow) -> Earlier | None:
    samples = row.encoder_samples_ms, row.decoder_samples_ms, row.total_samples_ms
    return Earlier.of(row.canary, row.visits, *samples)


def missing_quantities(job: TimingJob, device: DeviceInfo) -> dict[str, list[str]]:
    """Return the measured quantities that the table lacks of each architecture on a device, by its id."""
    names = measured_names(job.quantities_of(device.slug))
    columns = ["architecture_id", *([COLUMN] if names else [])]
    return missing_names(scan_table(job.table, job.spaces, device.slug, columns, where=_wanted(job)), names)


def _wanted(job: TimingJob) -> dict[str, object]:
    """Return the columns of the rows that count for a job, with their values."""
    return asdict(job.protocol.workload) | ({"session_id": job.session_id} if job.again else {})
