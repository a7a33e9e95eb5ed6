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
import os
import platform
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import hat_ray
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import device_of, devices_of
from hat_ray.latency.device import DeviceInfo, names_device
from hat_ray.latency.lookup.covering import covering_spaces
from hat_ray.latency.quantities import LATENCY, DeviceProfile
from hat_ray.latency.quantity_rows import COLUMN, RowQuantities, measured_names, missing_names
from hat_ray.latency.table.part_file import KeptParts
from hat_ray.latency.table.row import LatencyRow, MeasurementContext
from hat_ray.latency.table.table import scan_table, write_rows, written_rows
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.protocol import Protocol, Timing, ready, time_architecture
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.sensors.machine_state import Sensors, advice
from hat_ray.latency.timing.workload import Workload, random_model, translation
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Engine
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import hat_features
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

_MOST_TRIES = 3
"""Repeated timings, at most, of an architecture that finds no undisturbed moment."""
_IN_VAIN = 3
"""Tries in a row without an undisturbed moment, after which the other architectures come first."""


@dataclass(frozen=True)
class TimingJob:
    """A device's whole order: workload, settings, and the place of its rows. It pickles."""

    space: SearchSpace
    model_config: ModelConfig
    vocab_size: int
    """Entries of the target's vocabulary, which is mostly the source's as well."""
    config: LatencyConfig
    table_root: Folder
    again: bool = False
    """Time also what other sessions have timed (re-measurement of winners); what this session has timed stays."""
    session_id: str = ""
    length_pairs: tuple[tuple[int, int], ...] = ()
    """The (source, target) lengths that `config.length_mix` asks for, drawn from the corpus by `draw_pairs`."""
    bounded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Quantities that limits bound, by the device's name or id ("": every device); `config.quantities` adds others."""
    source_vocab_size: int | None = None
    """Entries of the source's vocabulary; None: as many as the target's."""
    kept: KeptParts | None = field(default=None, compare=False, repr=False)
    """The table as this process has read it; None reads the files each time."""

    def __post_init__(self) -> None:
        if self.config.length_mix and not self.length_pairs:
            raise LatencyError("latency.length_mix needs a corpus to draw lengths from: set it to 0 without one")
        if self.source_vocab_size == self.vocab_size:
            object.__setattr__(self, "source_vocab_size", None)
        if not self.session_id:
            object.__setattr__(self, "session_id", new_session_id())

    @property
    def table(self) -> KeptParts | Folder:
        """The table to read from."""
        return self.table_root if self.kept is None else self.kept

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"kept": None}

    def on(self, device: DeviceSelector | None) -> "TimingJob":
        """Return the job with a device's own runtime, dtype and threads."""
        return replace(self, config=self.config.of(device))

    def quantities_of(self, slug: str) -> tuple[str, ...]:
        """Return the quantities beside the latency that each row of a device has to know."""
        keys = sorted((key for key, _ in self.bounded if not key or names_device(key, slug)), key=len)
        bounded = dict(self.bounded)[keys[-1]] if keys else ()
        return tuple(name for name in dict.fromkeys([*self.config.quantities, *bounded]) if name != LATENCY)

    def profile(self, device: DeviceInfo) -> DeviceProfile:
        """Return the facts of a device that quantities depend on, beside the architecture."""
        widest = self.space.largest()
        dims = widest.encoder.embed_dim, widest.decoder.embed_dim
        return DeviceProfile(device, self.model_config, self.vocab_size, dims, self.protocol.workload)

    @cached_property
    def spaces(self) -> tuple[str, ...]:
        """Ids of the spaces whose rows count: the job's own, and where settings say so those that contain it."""
        covering = self.config.rows_of == "covering"
        return self.space.id, *(covering_spaces(self.table, self.space) if covering else ())

    def workload_on(self, slug: str) -> Workload:
        """Return the workload of a device's rows: those of a table's device may have a vocabulary of their own."""
        words = next((one.vocab_size for one in self.config.of_table if one.table == slug), None)
        workload = self.protocol.workload
        return workload if words is None else replace(workload, vocab_size=words, source_vocab_size=None)

    @property
    def protocol(self) -> Protocol:
        protocol = Protocol.of(self.config, self.vocab_size, self.source_vocab_size)
        if not self.length_pairs:
            return protocol
        return replace(protocol, workload=protocol.workload.with_mix(self.length_pairs))


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


def new_session_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def choose_architectures(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Return distinct architectures: the smallest, the largest, then uniform draws; fewer when the space has fewer."""
    chosen = dict.fromkeys([space.smallest(), space.largest()])
    rng = random.Random(seed)
    for _ in range(100 * count):  # a small space runs dry: every draw is then known
        if len(chosen) >= count:
            break
        chosen.setdefault(space.sample(rng))
    return list(chosen)[:count]


def measure(
    job: TimingJob,
    architectures: Sequence[Architecture],
    device: DeviceInfo | None = None,
    progress: Progress = no_progress,
) -> SessionSummary:
    """Time architectures on this machine and append their rows to the table; skip what it has (but see `job.again`)."""
    return TimingSession(job, device or device_of(job.config)).run(architectures, progress)


def measure_here(
    job: TimingJob, architectures: Sequence[Architecture], progress: Progress = no_progress
) -> list[DeviceInfo]:
    """Time architectures on every device that this machine is by itself, one after the other; return the devices.

    A device that this machine cannot be is left out with a warning, unless it is the only one.
    """
    selectors: Sequence[DeviceSelector | None] = [one for one in job.config.devices if one.is_anywhere] or [None]
    devices = devices_of(job.config, selectors)
    total = len(devices) * len(architectures)
    for number, (selector, device) in enumerate(devices):
        before = number * len(architectures)

        def show(done: int, _: int, figures: Mapping[str, float], before: int = before) -> None:
            progress(before + done, total, figures)

        measure(job.on(selector), architectures, device, show)
    return [device for _, device in devices]


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

    def run(self, architectures: Sequence[Architecture], progress: Progress = no_progress) -> SessionSummary:
        """Time architectures one after another; rows are on disk when this returns, also after an interrupt."""
        started, advised = time.monotonic(), len(self._advice)
        flushed = started
        todo = [a for a in dict.fromkeys(architectures) if self._missing.get(a.id, [""])]
        skipped = len(architectures) - len(todo)
        known = sum(architecture.id in self._missing for architecture in todo)
        if len(todo) > known:
            self._quantities.require_recorded()
        pending: list[LatencyRow] = []
        try:
            for done, architecture in enumerate(todo, skipped + 1):
                row = self._complete(architecture) if architecture.id in self._missing else self.time(architecture)
                if row != self._rows.get(architecture):  # equal: its missing quantities could not be measured
                    pending.append(row)
                if time.monotonic() - flushed >= self.job.config.flush_s:
                    self._write(pending)
                    flushed = time.monotonic()
                progress(done, len(architectures), {"latency_ms": row.latency_ms, "error": row.relative_error or 0.0})
            pending += [
                self.time(architecture) for architecture in self._levels_ms if self._was_misjudged(architecture)
            ]
            pending += self._repeat_disturbed(most=len(architectures))
        finally:
            self._write(pending)
        new_advice = tuple(self._advice.values())[advised:]
        return SessionSummary(len(todo) - known, skipped + known, time.monotonic() - started, known, new_advice)

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
