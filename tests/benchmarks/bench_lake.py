"""Reading a lake of a million rows: seconds, and against making a row object of each.

`HAT_RAY_LAKE_ROWS` sets another number of rows.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
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
BASE, DEVICES, SAMPLES = 2_000, 20, 25
SPACE = PRESETS["space0"]
NARROW = ["architecture_id", "latency_corrected_ms"]


def device(number: int) -> DeviceInfo:
    name = f"board-{number}"
    model = "Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.40GHz"
    rest = ("", None, "", "eager", "fp32", "none", "Linux 6.1")
    return DeviceInfo(name, model, "x86_64", 20, 1, 2400.0, 2**36, ("avx2", "fma"), *rest)


def base_rows(number: int) -> pa.Table:
    """Return rows as a session writes them, samples included."""
    rng, rows = np.random.default_rng(number), []
    for architecture in (SPACE.sample(random.Random(seed)) for seed in range(BASE)):
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
        **{name: factor * table.column(name).to_numpy() for name in SCHEMA.names if _is_time(name)},
        **{
            f"{side}_samples_ms": pa.ListArray.from_arrays(offsets, rng.gamma(50, 1, rows * SAMPLES).astype(np.float32))
            for side in ("encoder", "decoder")
        },
    }
    for name, values in own.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    return table


def _is_time(name: str) -> bool:
    return name.endswith("_ms") and not name.endswith("samples_ms")


def fill(root: Folder, number: int, rows: int, part_rows: int) -> None:
    rng = np.random.default_rng(number)
    base = base_rows(number)
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
    seconds("show", lambda: describe_table(root), 3)
    seconds("compact", lambda: compact(root), 1)
    print(f"compacted: {files(root)}")
    read_ways(root, slug, rows)
    seconds("show", lambda: describe_table(root), 3)
    seconds("compact again", lambda: compact(root), 1)
