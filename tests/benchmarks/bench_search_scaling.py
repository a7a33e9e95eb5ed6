"""How the search on Ray scales: `pytest -m benchmark -s tests/benchmarks/bench_search_scaling.py`.

Candidates are simulated: each sleeps for a second. So workers cost no processor but their own start, and what is
measured is the driver: Ray Tune's trials, the evolution, the candidates table. Throughput is taken from the moment when
every worker has scored three, to the last candidate.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import ray

from hat_ray.search.cluster import run_search_on_cluster
from hat_ray.search.config import SearchConfig
from hat_ray.search.limits import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.features import FloatArray
from hat_ray.space.presets import TOY
from hat_ray.storage import Folder

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import the benchmarks
SECONDS = 1.0


def macs_ms(architectures: Sequence[Architecture]) -> FloatArray:
    return np.array([count_macs(architecture, 30) / 1e5 for architecture in architectures])


def slow_loss(architecture: Architecture) -> float:
    time.sleep(SECONDS)
    return 1 / count_macs(architecture, 30)


@pytest.mark.parametrize("algorithm", ["random", "surrogate"])
@pytest.mark.parametrize("workers", [1, 4, 16, 32])
def test_print_the_throughput_by_number_of_workers(workers: int, algorithm: str, tmp_path: Path) -> None:
    evaluations = 24 * workers if workers > 1 else 40
    config = SearchConfig(algorithm=algorithm, evaluations=evaluations, workers=workers, limits_fraction=(0.3, 0.6))
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    seen: list[tuple[int, float, float]] = []

    def watch(done: int, _total: int, _figures: object) -> None:
        seen.append((done, time.perf_counter(), time.process_time()))

    try:
        devices = {"macs": macs_ms}
        limits, began = resolve_limits(TOY, devices, config), time.perf_counter()
        run_search_on_cluster(TOY, devices, limits, slow_loss, config, Folder.at(tmp_path / "search"), 0, watch)
    finally:
        ray.shutdown()
    first = next(index for index, (done, _, _) in enumerate(seen) if done >= 3 * workers)
    (done_a, wall_a, cpu_a), (done_z, wall_z, cpu_z) = seen[first], seen[-1]
    rate = (done_z - done_a) / (wall_z - wall_a)
    print(
        f"\n{algorithm:10}{workers:4d} workers: {rate:6.2f} candidates/s, {100 * rate * SECONDS / workers:5.1f} % of "
        f"{workers} workers' best; driver {1000 * (cpu_z - cpu_a) / (done_z - done_a):5.1f} ms of CPU a candidate; "
        f"all ready after {seen[first][1] - began:.0f} s",
        flush=True,
    )
