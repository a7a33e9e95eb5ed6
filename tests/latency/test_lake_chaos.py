"""Writers that are killed, compactors that are killed, and a reader, all on one lake at the same time."""

import logging
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow as pa
import pytest

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.part_file import read_part
from hat_ray.latency.table.parts import is_compacted, part_names, partitions
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import scan_table, write_rows
from hat_ray.latency.timing.record import MeasurementContext
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.processes import process_of

SPACE = PRESETS["toy"]
DEVICES = [
    DeviceInfo(name, "m", "x86_64", 1, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")
    for name in ("x", "y")
]
TIME = Spread(1.0, 2.0, 3.0, 2.0, 0.5)
ARCHITECTURE = SPACE.smallest()
BATCHES = 15
"""What a writer appends at most: on a busy machine it is killed late."""


def a_row(number: int) -> LatencyRow:
    """Return a row whose repetitions are its number."""
    return LatencyRow(
        space_id=SPACE.id,
        architecture=ARCHITECTURE,
        hat_features=(1.0,) * 10,
        workload=Workload(),
        device=DEVICES[number % 2],
        encoder=TIME,
        decoder=TIME,
        total=TIME,
        encoder_samples_ms=(1.0,),
        decoder_samples_ms=(1.0,),
        repetitions=number,
        warmups=3,
        disturbed=0,
        relative_error=0.01,
        canary=None,
        context=MeasurementContext("host", "session", "2026-01-31T12:00:00Z", ()),
    )


def write_until_killed(root: str, told: str, first: int, pause_s: float) -> None:
    handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rng = random.Random(first)
    for _ in range(BATCHES):
        rows = [a_row(first + i) for i in range(rng.randrange(1, 4))]
        first += len(rows)
        write_rows(root, rows)
        os.write(handle, "".join(f"{row.repetitions}\n" for row in rows).encode())
        time.sleep(rng.random() * pause_s)
    signal.pause()


def compact_until_killed(root: str) -> None:
    while True:
        compact(root)
        time.sleep(0.3)


def acknowledged(folder: Path) -> set[int]:
    return {int(line) for path in folder.iterdir() for line in path.read_text().splitlines()}


def rows_of(root: str) -> list[int]:
    return [int(number) for number in scan_table(root, columns=["repetitions"]).column(0).to_pylist()]


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(240)


@pytest.mark.timeout(900)  # many processes on few cores
@pytest.mark.parametrize(
    ("writers", "seconds", "uri"),
    [
        (6, 3.0, ""),
        pytest.param(50, 15.0, "", marks=pytest.mark.slow),
        pytest.param(50, 15.0, "file://", marks=pytest.mark.slow),
        pytest.param(10, 10.0, "fsspec+file://", marks=pytest.mark.slow),
    ],
)
def test_every_row_that_a_killed_writer_was_told_of_is_there_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, writers: int, seconds: float, uri: str
) -> None:
    rng, root, told = random.Random(writers), f"{uri}{tmp_path / 'lake'}", tmp_path / "told"
    told.mkdir()
    starts = [process_of(write_until_killed, root, str(told / str(i)), 10**6 * i, writers / 12) for i in range(writers)]
    deaths = sorted((rng.uniform(0.2 * seconds, seconds), i) for i in range(writers))
    compactors = [process_of(compact_until_killed, root) for _ in range(2)]
    begin, reads = time.monotonic(), 0
    try:
        for process in [*starts, *compactors]:
            process.start()
        while deaths:
            before = acknowledged(told)
            found = Counter(rows_of(root))
            reads += 1
            assert not before - set(found), "rows that were acknowledged before the read began are missing"
            assert not [number for number, times in found.items() if times > 1]
            for _ in range(max(1, writers // 10)):
                if deaths and time.monotonic() - begin > deaths[0][0]:
                    kill(starts[deaths.pop(0)[1]])
            if rng.random() < 0.3:  # compactors are killed as well, and started again
                kill(compactors[0])
                compactors = [compactors[1], process_of(compact_until_killed, root)]
                compactors[1].start()
    finally:
        for process in [*starts, *compactors]:
            with suppress(ProcessLookupError, AssertionError):
                kill(process)
    _check_what_is_left(Folder.at(root), acknowledged(told), caplog)
    print(f"{writers} writers, {len(acknowledged(told))} rows acknowledged, {reads} reads while they were killed")


def _check_what_is_left(root: Folder, expected: set[int], caplog: pytest.LogCaptureFixture) -> None:
    names = part_names(root)
    for name in names:
        read_part(root, name)
    assert any(is_compacted(name) for name in names)
    found = Counter(rows_of(root.uri))
    assert set(found) >= expected
    assert max(found.values()) == 1
    assert len(found) <= len(expected) + 3 * 50  # what a kill caught between the write and its acknowledgement
    assert "skipped" not in caplog.text
    place = names[0].rpartition("/")[0]
    root.write_bytes(f"{place}/part-truncated.parquet", root.read_bytes(names[0])[:-50])
    root.write_table(f"{place}/part-foreign.parquet", pa.table({"x": [1]}))
    with caplog.at_level(logging.WARNING):
        assert Counter(rows_of(root.uri)) == found
    for name in ("truncated", "foreign"):
        assert f"part-{name}.parquet is skipped: " in caplog.text
    compact(root, leftover_age=timedelta(0))
    assert Counter(rows_of(root.uri)) == found
    assert not [name for place in partitions(root) for name in root.child(place).list() if name.startswith(".")]
    assert len([name for name in part_names(root) if is_compacted(name)]) == 2
