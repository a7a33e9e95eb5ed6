"""Stages open each file of the latency table once, however many of them read it."""

import ctypes
import os
import random
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hat_ray.core.progress import no_progress
from hat_ray.latency.detection import device_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import once
from hat_ray.latency.output import LatencyOutput, MeasuredDevice
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import spread
from hat_ray.pipeline.context import timed_of, timing_job
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context, Stage, run_stages
from hat_ray.pipeline.stages.cost import timed_rows
from hat_ray.pipeline.stages.latency import LATENCY
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.recipe import load_recipe
from hat_ray.space.cost import count_macs

DEVICES = [
    DeviceInfo(name, "m", "x86_64", 1, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")
    for name in ("one", "two", "away")
]
_IN_OPEN = 0x20
_HEAD = struct.Struct("iIII")


@contextmanager
def opens_counted(folders: Iterable[Path]) -> Iterator[Counter[str]]:
    """Count how often Linux opens each Parquet file in these folders while the block runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.inotify_init1(os.O_NONBLOCK)
    opened: Counter[str] = Counter()
    try:
        for folder in folders:
            assert libc.inotify_add_watch(number, os.fsencode(folder), _IN_OPEN) >= 0
        yield opened
        content = os.read(number, 1 << 20)
    finally:
        os.close(number)
    while content:
        watch, _mask, _cookie, length = _HEAD.unpack_from(content)
        name = content[_HEAD.size : _HEAD.size + length].rstrip(b"\0").decode()
        if name.endswith(".parquet"):
            opened[f"{watch}/{name}"] += 1
        content = content[_HEAD.size + length :]


def fill(job: TimingJob) -> None:
    """Write 60 rows of each device; `away` is of the table alone, and not of the run."""
    for number, device in enumerate(DEVICES):
        rng, rows = random.Random(number), []
        for index in range(60):
            architecture = job.space.sample(rng)
            ms = (number + 1) * count_macs(architecture, 20) / 1e5 * (1 + 0.01 * rng.random())
            total, half = spread([ms] * 3), spread([ms / 2] * 3)
            rows.append(
                LatencyRow(
                    space_id=job.space.id,
                    architecture=architecture,
                    hat_features=(1.0,) * 10,
                    workload=job.protocol.workload,
                    device=device,
                    encoder=total,
                    decoder=half,
                    total=half,
                    encoder_samples_ms=(),
                    decoder_samples_ms=(),
                    repetitions=3,
                    warmups=3,
                    disturbed=0,
                    relative_error=0.01,
                    canary=Canary(10.0, 10.0, 1.0),
                    context=MeasurementContext("h", "session", f"2026-01-31T12:00:{index:02}Z", ()),
                )
            )
        write_rows(job.table_root, rows)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_each_device_of_the_table_is_read_once_by_the_predictor_stage(tmp_path: Path):
    recipe = load_recipe("toy", [f"latency.table={tmp_path}/table", "corpus.vocab_size=500"])
    context = Context(Run.open(tmp_path / "r", recipe), LocalExecution())
    timed = LatencyOutput(str(tmp_path), {device.slug: MeasuredDevice(60, device) for device in DEVICES[:2]})
    job = timing_job(context, context.folder("latency"))
    fill(job)
    run_stages(context, [Stage("latency", LatencyOutput, ("latency",), (), lambda _context, _folder: timed)])
    folders = [path for path in (tmp_path / "table").glob("*/*") if path.is_dir()]
    assert len(folders) == len(DEVICES)
    with opens_counted(folders) as opened:
        run_stages(context, [PREDICTOR])
    assert sorted(opened.values()) == [1] * len(DEVICES)
    found = context.require(PREDICTOR).assessments
    assert {slug: one.source_predictors for slug, one in found.items()} == {
        DEVICES[0].slug: (DEVICES[2].slug, DEVICES[1].slug),
        DEVICES[1].slug: (DEVICES[2].slug, DEVICES[0].slug),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_stages_of_one_call_open_each_part_of_a_device_once(tmp_path: Path) -> None:
    changes = {
        **{"table": f"{tmp_path}/table", "samples": 6, "min_repetitions": 5, "max_repetitions": 5, "flush_s": 0},
        **{"warmup": 1, "canary_tolerance": 50.0, "calibration_s": 0.1, "budget_s": 1.0, "patience_s": 1.0},
        **{"source_length": 4, "target_length": 3},
    }
    settings = [f"latency.{name}={value}" for name, value in changes.items()]
    recipe = load_recipe("toy", [*settings, "corpus.vocab_size=500", "predictor.min_rows=5"])
    context = Context(Run.open(tmp_path / "r", recipe), LocalExecution())
    job = timing_job(context, context.folder("latency"))
    slug = device_of(recipe.latency).slug
    place = tmp_path / "table" / f"space={job.space.id}" / f"device={slug}"
    place.mkdir(parents=True)
    with opens_counted([place]) as opened:
        run_stages(context, [LATENCY, PREDICTOR])
        again = timing_job(context, context.folder("latency"), again=True)
        context.execution.time(again, once(list(timed_of(job, slug))[:2]), no_progress)
        assert len(timed_of(job, slug)) == context.require(LATENCY).devices[slug].rows == 6
        assert len(timed_rows(context, {"latency": context.run.record("latency")})) >= 6
        assert len(read_table(again.table, job.space.id, slug, session_id=again.session_id)) == 2
    parts = {path.name for path in place.iterdir()}
    assert len(parts) > 1
    assert {name.partition("/")[2]: count for name, count in opened.items()} == dict.fromkeys(parts, 1)
