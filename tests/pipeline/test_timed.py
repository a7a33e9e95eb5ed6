"""What stages read of the latency table: two columns of it, or its rows."""

import random
from dataclasses import replace
from pathlib import Path

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import write_rows
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.session import missing_quantities
from hat_ray.latency.timing.statistics import spread
from hat_ray.model.config import ModelConfig
from hat_ray.pipeline.context import rows_of, timed_of
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]
DEVICE = DeviceInfo("x", "m", "x86_64", 1, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")


def test_columns_tell_the_same_as_rows_and_only_of_the_jobs_workload(tmp_path: Path) -> None:
    job = TimingJob(SPACE, ModelConfig(), 64, LatencyConfig(), Folder.at(tmp_path), again=True, session_id="b")
    rows = []
    for seed in range(12):
        times = spread([seed + 1.0, seed + 2.0, seed + 3.0])
        row = LatencyRow(
            space_id=SPACE.id,
            architecture=SPACE.sample(random.Random(seed % 5)),
            hat_features=(1.0,) * 10,
            workload=job.protocol.workload,
            device=DEVICE,
            encoder=times,
            decoder=times,
            total=times,
            encoder_samples_ms=(),
            decoder_samples_ms=(),
            repetitions=3,
            warmups=3,
            disturbed=0,
            relative_error=[0.01, 0.02, None][seed % 3],
            canary=Canary(10.0, 12.0, 0.9),
            context=MeasurementContext("h", "ab"[seed % 2], f"2026-01-31T12:00:{seed:02}Z", ()),
        )
        rows.append(row)
    rows.append(replace(rows[0], workload=replace(rows[0].workload, length_mix="1x2")))
    write_rows(tmp_path, rows)
    assert timed_of(job, DEVICE.slug) == {row.architecture: row.corrected_ms for row in rows_of(job, DEVICE.slug)}
    assert len(timed_of(job, DEVICE.slug)) == len({row.architecture for row in rows})
    known = {row.architecture.id for row in rows if row.architecture and row.context.session_id == "b"}
    assert missing_quantities(job, DEVICE) == {one: [] for one in known}
    assert missing_quantities(replace(job, vocab_size=65), DEVICE) == {}
