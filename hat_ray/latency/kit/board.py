"""A board that times a kit: what it has timed, what is left, and the command line of `measure.py`.

Needs numpy and onnxruntime alone.
"""

import argparse
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import onnxruntime

from hat_ray.errors import HatRayError, LatencyError
from hat_ray.latency.device import DeviceInfo, this_processor
from hat_ray.latency.kit.part import SUFFIX, PartWriter
from hat_ray.latency.kit.plan import Plan, read_plan
from hat_ray.latency.kit.weights import Archive, opened
from hat_ray.latency.timing.bench import Bench
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.process import collected, steady
from hat_ray.latency.timing.record import Canary, Record, context_now
from hat_ray.latency.timing.sensors.machine_state import Sensors, advice
from hat_ray.latency.timing.visits import Earlier
from hat_ray.latency.timing.workload import array_translation

_ROOM = 1 << 24  # bytes that must be free: a few thousand rows
_LINE_EVERY_S = 60.0


class Board:
    """This board with a kit: what it has timed, and what is left."""

    def __init__(self, plan: Plan, archive: Archive, part: PartWriter) -> None:
        self.plan, self.archive, self.part = plan, archive, part
        self.session = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self.over = {one for one, row in part.rows.items() if (row["record"]["visits"] or 0) >= plan.protocol.visits}
        self._earlier = {one: _earlier(row["record"]) for one, row in part.rows.items() if one not in self.over}
        self._advice: set[str] = set()
        self._said_at = -_LINE_EVERY_S

    @property
    def todo(self) -> list[str]:
        """The architectures that are not over, in the plan's order."""
        return [one for one in self.plan.order if one not in self.over]

    def time_all(self) -> None:
        """Visit every architecture until it is over; each visit is on the disk before the next begins."""
        plan, todo = self.plan, self.todo
        canary = self.archive.open(plan.canary)
        watch = CanaryMonitor(array_translation(canary, plan.protocol.workload), plan.canary_tolerance)
        bench = Bench[str](plan.protocol, watch, Sensors(plan.protocol.threads), plan.calibration_s, self.session)
        versions = {"hat-ray": plan.hat_ray, "numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
        try:
            with collected():
                with steady():
                    bench.calibrate()
                begun = time.monotonic()
                for visits, one in enumerate(bench.turns(todo, self.over), 1):
                    context, earlier = context_now(self.session, versions), self._earlier.pop(one, None)
                    record = bench.visit(one, context, partial(self._opened, one), earlier)
                    self._append(one, record)
                    if bench.is_over(one):
                        self.over.add(one)
                    self._advise(record)
                    self._say(record, (time.monotonic() - begun) / visits)
        finally:
            for one, record in bench.misjudged().items():
                self._append(one, record)

    @contextmanager
    def _opened(self, one: str) -> Iterator[tuple[Any, int | None]]:
        """Build an architecture in the state of timing; yield its repetition and the niceness."""
        graphs = self.archive.open(one)
        with steady() as niceness:
            yield array_translation(graphs, self.plan.protocol.workload), niceness

    def _append(self, one: str, record: Record) -> None:
        architecture = self.plan.architectures[one]
        self.part.append({"architecture_id": one, "architecture": architecture, "record": asdict(record)})

    def _advise(self, record: Record) -> None:
        """Name a disturbance that has a remedy, once."""
        for kind, line in advice(record.context.machine_state).items():
            if kind not in self._advice:
                _note(line)
            self._advice.add(kind)

    def _say(self, record: Record, seconds: float) -> None:
        """Show progress and the time left, at `seconds` a visit: on a terminal each time, elsewhere once a minute."""
        done, every = len(self.over), len(self.plan.architectures)
        left = sum(self._left(one) for one in self.todo) * seconds
        text = f"{done} of {every} architectures, {record.total.typical_ms:.4g} ms"
        text += f", about {_duration(left)} left" if left else ""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text:<78}" + ("\n" if done == every else ""))
            sys.stderr.flush()
        elif done == every or time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            _note(text)

    def _left(self, one: str) -> int:
        """Return the visits that an architecture needs at least."""
        row = self.part.rows.get(one)
        return max(1, self.plan.protocol.visits - ((row["record"]["visits"] or 0) if row else 0))


def _earlier(record: Mapping[str, Any]) -> Earlier | None:
    """Return what an interrupted session wrote of an architecture."""
    canary = None if record["canary"] is None else Canary(**record["canary"])
    samples = (record[f"{part}_samples_ms"] for part in ("encoder", "decoder", "total"))
    return Earlier.of(canary, record["visits"], *samples)


def main(kit: Path, arguments: list[str] | None = None) -> int:
    """Time what the kit at a place lacks on this board; return the exit code."""
    given = _options(arguments)
    try:
        plan = read_plan(kit)
        _require_library(plan)
        device = this_processor(
            name=plan.name if given.name is None else given.name,
            threads=plan.protocol.threads,
            runtime="onnx",
            dtype=plan.dtype,
            quantisation=plan.quantisation,
        )
        path = Path(given.part) if given.part else kit / f"part-{device.slug}{SUFFIX}"
        _require_room(path)
        return _time(kit, plan, device, path)
    except HatRayError as error:
        _note(f"measure.py: error: {error}")
        return 2
    except KeyboardInterrupt:
        _note("interrupted: run the same command again to resume")
        return 130


def _time(kit: Path, plan: Plan, device: DeviceInfo, path: Path) -> int:
    header = {
        "kit": plan.id,
        "space_id": plan.space_id,
        "workload": asdict(plan.protocol.workload),
        "device": asdict(device),
        "device_slug": device.slug,
        "onnxruntime": onnxruntime.__version__,
        "architectures": len(plan.architectures),
    }
    part = PartWriter(path, header)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with opened(kit, plan.protocol.threads) as archive:
            board = Board(plan, archive, part)
            known = len(board.over)
            _note(f"{device.slug}: {len(plan.architectures)} architectures, {known} of them timed before")
            if board.todo:
                board.time_all()
    finally:
        part.close()
    _note(f"{path}: all {len(plan.architectures)} architectures are timed. Take this file back, and import it there:")
    _note(f"  hat-ray latency import TABLE {path.name}")
    return 0


def _require_library(plan: Plan) -> None:
    found, least = str(onnxruntime.__version__), plan.least_onnxruntime
    if _numbers(found) < _numbers(least):
        raise LatencyError(f"onnxruntime must be {least} or later, got {found}: pip install 'onnxruntime>={least}'")


def _numbers(version: str) -> list[int]:
    """Return a version's leading numbers: "1.22.0rc1" gives 1 and 22."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return numbers


def _require_room(path: Path) -> None:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise LatencyError(f"{path.parent} cannot be written to ({error.strerror}): name a file with --part") from error
    if free < _ROOM:
        needs = f"{path.parent} must have {_ROOM >> 20} MiB free, got {free >> 20}"
        raise LatencyError(f"{needs}: free some, or name a file elsewhere with --part")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="measure.py",
        description="Time the architectures of this kit on this board. Run it again to resume after an interruption.",
    )
    parser.add_argument("--name", help="your name for this board; default: the kit's")
    parser.add_argument("--part", metavar="FILE", help=f"file for the rows; default: part-DEVICE{SUFFIX} in the kit")
    return parser.parse_args(arguments)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "a minute"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
