"""Reading a lake of a million rows: seconds, against plain PyArrow, and against making a row object of each.

`HAT_RAY_LAKE_ROWS` and `HAT_RAY_LAKE_DEVICES` set another number of rows and of devices.
"""

import os
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.parts import new_part_name, part_names
from hat_ray.latency.table.row import SCHEMA, LatencyRow, from_table, to_table
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, scan_table
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.features import hat_features
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.best_rows import best_of_each

pytestmark = pytest.mark.benchmark

ROWS = int(os.environ.get("HAT_RAY_LAKE_ROWS", "1000000"))
DEVICES = int(os.environ.get("HAT_RAY_LAKE_DEVICES", "20"))
BASE, SAMPLES = 2_000, 25
SPACE = PRESETS["space0"]
NARROW = ["architecture_id", "latency_corrected_ms"]


def device(number: int) -> DeviceInfo:
    name = f"board-{number}"
    model = "Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.40GHz"
    rest = ("", None, "", "eager", "fp32", "none", "Linux 6.1")
    return DeviceInfo(name, model, "x86_64", 20, 1, 2400.0, 2**36, ("avx2", "fma"), *rest)


@cache
def base_rows(number: int, count: int) -> pa.Table:
    """Return rows as a session of one device writes them, samples included."""
    rng, rows = np.random.default_rng(number), []
    for architecture in (SPACE.sample(random.Random(seed)) for seed in range(count)):
        encoder = tuple(rng.gamma(50, 0.2, SAMPLES).astype(np.float32).tolist())
        decoder = tuple(rng.gamma(50, 4.0, SAMPLES).astype(np.float32).tolist())
        rows.append(
            LatencyRow(
                space_id=SPACE.id,
                architecture=architecture,
                hat_features=tuple(hat_features([architecture])[0].tolist()),
                workload=Workload(vocab_size=32_768),
                device=device(number),
                encoder=spread(encoder),
                decoder=spread(decoder),
                total=spread([e + d for e, d in zip(encoder, decoder, strict=True)]),
                encoder_samples_ms=encoder,
                decoder_samples_ms=decoder,
                repetitions=SAMPLES,
                warmups=6,
                disturbed=0,
                relative_error=0.01,
                canary=Canary(50.0, 51.0, 0.98),
                context=MeasurementContext("host", "session", "time", (("python", "3.11"), ("torch", "2.9")), 0, 1.0),
            )
        )
    return to_table(rows)


def grow(base: pa.Table, number: int, first: int, rows: int, rng: np.random.Generator) -> pa.Table:
    """Return that many rows of one device: own times, samples, sessions of 5,000 rows, one row in ten timed again."""
    place = np.arange(first, first + rows)
    table = base.take(rng.integers(0, BASE, rows)).combine_chunks()
    things = place - (place % 10 == 9)  # the tenth row times the ninth's architecture again
    factor = rng.uniform(0.5, 2, rows)
    offsets = np.arange(rows + 1, dtype=np.int32) * SAMPLES
    own = {
        "architecture_id": [f"{thing * 2654435761 % 2**48:012x}" for thing in things.tolist()],
        "session_id": [f"20260131T{session:06d}-0123abcd" for session in (place // 5000).tolist()],
        "utc_time": np.datetime_as_string(np.datetime64("2026-01-31T12:00:00") + place, timezone="UTC").tolist(),
        "relative_error": rng.uniform(0.001, 0.01, rows),
        **{name: factor * table.column(name).to_numpy() for name in SCHEMA.names if _is_time(table, name)},
        **{
            f"{side}_samples_ms": pa.ListArray.from_arrays(offsets, rng.gamma(50, 1, rows * SAMPLES).astype(np.float32))
            for side in ("encoder", "decoder")
        },
    }
    for name, values in own.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    return table


def _is_time(table: pa.Table, name: str) -> bool:
    return name.endswith("_ms") and not name.endswith("samples_ms") and not table.column(name).null_count


@cache
def _of_device() -> list[str]:
    """Return the columns in which rows of two devices, and of one architecture, differ beside their timings."""
    one, other = base_rows(1, 1), base_rows(2, 1)
    return [name for name in SCHEMA.names if not name.endswith("_ms") and one[name] != other[name]]


def fill(root: Folder, number: int, rows: int, part_rows: int) -> None:
    rng = np.random.default_rng(number)
    base, own = base_rows(0, BASE), base_rows(number, 1)
    for name in _of_device():
        place = base.schema.get_field_index(name)
        base = base.set_column(place, base.schema.field(place), pa.chunked_array([pa.repeat(own[name][0], BASE)]))
    for first in range(0, rows, part_rows):
        table = grow(base, number, first, min(part_rows, rows - first), rng)
        root.write_table(f"space={SPACE.id}/device={device(number).slug}/{new_part_name()}", table)


def seconds(what: str, work: Callable[[], object], repeats: int = 5) -> float:
    """Print the fastest, the median and the slowest of several times of a piece of work; return the median."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    times.sort()
    middle = times[len(times) // 2]
    print(f"{what:78} {times[0]:8.3f} {middle:8.3f} {times[-1]:8.3f} s", flush=True)
    return middle


def read_ways(root: Folder, slug: str, rows: int) -> None:
    """Time what callers ask of one device's rows."""
    narrow = seconds(
        f"best of {rows:,} rows: architecture and corrected ms",
        lambda: scan_table(root, SPACE.id, slug, NARROW, best_only=True),
    )
    seconds("  every measurement", lambda: scan_table(root, SPACE.id, slug, NARROW))
    seconds(
        "  of one session of 5,000 rows, as rows",
        lambda: read_table(root, SPACE.id, slug, session_id="20260131T000001-0123abcd"),
        3,
    )
    part = scan_table(root, SPACE.id, slug)[:5000]
    old = seconds("  old way: a row object of each (5,000 rows)", lambda: best_of_each(from_table(part)), 3)
    print(f"  old way / columns, a row: {old / 5000 / (narrow / rows):.0f}")


def read_plainly(root: Folder, slug: str) -> None:
    """Time PyArrow alone on the same columns: nothing is resolved, corrected or checked."""
    place = root.path(f"space={SPACE.id}/device={slug}")
    seconds("  PyArrow alone, every row of the same columns", lambda: ds.dataset(place).to_table(columns=NARROW))


def files(root: Folder) -> str:
    names = part_names(root)
    megabytes = sum(root.file_system.get_file_info(root.path(name)).size for name in names) / 1e6
    return f"{len(names)} files, {megabytes:.0f} MB"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("devices", "part_rows"), [(DEVICES, 500), (1, 5000)], ids=["many devices", "one device"])
def test_reading_a_large_lake(tmp_path: Path, devices: int, part_rows: int) -> None:
    root, rows = Folder.at(tmp_path), ROWS // devices
    for number in range(devices):
        fill(root, number, rows, part_rows)
    print(f"\n{ROWS:,} rows of {devices} devices; {files(root)}      fastest   median  slowest")
    slug = device(devices // 2).slug
    read_ways(root, slug, rows)
    read_plainly(root, slug)
    seconds("show", lambda: describe_table(root), 3)
    before = len(part_names(root))
    seconds("compact", lambda: compact(root), 1)
    print(f"compacted: {files(root)}")
    assert len(part_names(root)) <= before // 2 + devices
    read_ways(root, slug, rows)
    read_plainly(root, slug)
    seconds("show", lambda: describe_table(root), 3)
    seconds("compact again", lambda: compact(root), 1)
