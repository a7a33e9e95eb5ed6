"""How well p90, peak memory and model size are known of architectures that were not timed, on this machine.

    pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_quantities.py

Times HAT_RAY_BENCH_ARCHITECTURES (120) architectures of space `toy` with eager and with ONNX Runtime (translations of
12 to 12 tokens, beam 5, a vocabulary of 800), measures each one's peak memory in a process of its own, and prints the
held-out error and the coverage of the 90 % interval of each quantity. Nothing is asserted about time. `-k shipped`
prints the same of the shipped tables' 90th percentiles, and times nothing.
"""

import os
import sys
import time
from pathlib import Path

import pytest

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.here import measure
from hat_ray.latency.quantity_rows import known_values
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import workloads_in
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.fit import fit_device
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quantities import QuantityRows, assess_quantity, fit_quantity, quantity_rows
from hat_ray.predictor.rows import read_rows
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

pytestmark = pytest.mark.benchmark

SHIPPED = Path(__file__).parents[2] / "latency_data"
COUNT = int(os.environ.get("HAT_RAY_BENCH_ARCHITECTURES", "120"))
NAMES = ("latency_ms", "p90_ms", "peak_mb")
TIMING = LatencyConfig(
    source_length=12, target_length=12, min_repetitions=50, budget_s=1.0, patience_s=2.0, accelerator="cpu"
)


@pytest.mark.parametrize("runtime", ["onnx", "eager"])
def test_held_out_error_of_each_quantity(tmp_path: Path, runtime: str) -> None:
    space, config = PRESETS["toy"], TIMING.model_copy(update={"runtime": runtime})
    job = TimingJob(space, ModelConfig(), 800, config, Folder.at(tmp_path), bounded=(("", ("p90_ms", "peak_mb")),))
    started = time.monotonic()
    summary = measure(job, choose_architectures(space, COUNT, seed=1))
    device = device_of(config)
    latency = fit_device(job, device.slug, PredictorConfig(), 1, ())
    sys.stdout.write(f"\n{device.slug}: {summary.timed} architectures in {time.monotonic() - started:.0f} s\n")
    for name, rows in quantity_rows(job, device.slug, NAMES).items():
        _print(name, rows, latency)


def test_held_out_error_of_the_shipped_tables_percentiles() -> None:
    for place in partitions(Folder.at(SHIPPED)):
        space_id, slug = partition_values(place)
        workload = workloads_in(str(SHIPPED), space_id, slug)[0]
        latency = Predictor.fit(read_rows(str(SHIPPED), space_id, slug, workload), PredictorConfig(), slug, space_id, 1)
        known = known_values(str(SHIPPED), space_id, slug, Workload(**workload), ["latency_ms", "p90_ms"])  # type: ignore[arg-type]
        sys.stdout.write(f"\n{place}: {len(known['p90_ms'])} rows\n")
        _print("latency_ms", QuantityRows.of(known["latency_ms"], None), latency)
        _print("p90_ms", QuantityRows.of(known["p90_ms"], known["latency_ms"]), latency)


def _print(name: str, rows: QuantityRows, latency: Predictor) -> None:
    found = assess_quantity(fit_quantity(name, rows, PredictorConfig(), latency, 1), rows, PredictorConfig())
    covered = "-" if found.coverage_pct is None else f"{found.coverage_pct:.0f} %"
    sys.stdout.write(
        f"  {name:10} median error {found.median_error_pct:.2f} %, mean {found.quality.mape:.2f} %, "
        f"90 % interval covers {covered}, Kendall tau {found.quality.kendall_tau:.3f}, {_range(rows)}\n"
    )


def _range(rows: QuantityRows) -> str:
    return f"values {rows.values.min():.4g} to {rows.values.max():.4g}"
