"""How the search on Ray scales: `pytest -m benchmark -s tests/benchmarks/bench_search_scaling.py`.

Candidates are simulated: each sleeps for a second. So workers cost no processor but their own start, and what is
measured is the coordinator and Ray Tune's driver: trials, the algorithm, the candidates table; latency is predicted as
in a run, by a fitted `Predictor`. The workers stand on several raylets, each with a part of them, and wait with their
first candidate until all are ready. Throughput is that of the whole search from then to the end of its last scoring:
the end, where workers run out of candidates, counts against it. The time that Ray Tune then takes to end its trials
stands apart. Losses come to the driver a batch at a time, and from all workers at
once at first, so that any part of the search would show too many.
"""

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.search import run_search_on_cluster
from hat_ray.latency.quantities import LATENCY
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import rows_of
from hat_ray.search.config import SearchConfig
from hat_ray.search.reach import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import the benchmarks
SECONDS = 1.0


def predictor_of_a_device() -> Predictor:
    """Fit what a search predicts with to a device whose law is known and whose timings scatter by 2 %."""
    rng = random.Random(0)
    timed = [TOY.sample(rng) for _ in range(200)]
    macs = np.array([count_macs(architecture, 30) / 1e5 for architecture in timed])
    scatter = np.random.default_rng(0).lognormal(0, 0.02, len(timed))
    return Predictor.fit(rows_of(timed, (1 + macs) * scatter), PredictorConfig(), "device", TOY.id, 0)


def workers_in(folder: Path) -> list[Path]:
    """Return the files that workers touched when they were ready."""
    return [place for place in folder.iterdir() if not place.suffix]


class SlowLoss:
    """Sleeps; the first time, until all workers are there."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._workers, self._ready = folder, workers, False

    def __call__(self, architecture: Architecture) -> float:
        if not self._ready:
            (self._folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 900
        while not self._ready and time.monotonic() < deadline:
            self._ready = len(workers_in(self._folder)) >= self._workers
            time.sleep(0.0 if self._ready else 0.5)
        time.sleep(SECONDS)
        (self._folder / f"{os.getpid()}.scored").touch()
        return 1 / count_macs(architecture, 30)


@pytest.mark.parametrize("algorithm", ["random", "surrogate"])
@pytest.mark.parametrize(("workers", "raylets"), [(1, 1), (4, 2), (16, 4), (32, 4), (64, 8)])
def test_print_the_throughput_by_number_of_workers(workers: int, raylets: int, algorithm: str, tmp_path: Path) -> None:
    evaluations = 24 * workers if workers > 1 else 40
    config = SearchConfig(algorithm=algorithm, evaluations=evaluations, workers=workers, limits_fraction=(0.3, 0.6))
    seen: list[tuple[int, float, float]] = []

    def watch(done: int, _total: int, _figures: object) -> None:
        seen.append((done, time.time(), time.process_time()))

    ready = tmp_path / "ready"
    ready.mkdir()
    each = {"num_cpus": workers // raylets, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
    try:
        for _ in range(raylets - 1):
            cluster.add_node(**each)
        cluster.wait_for_nodes(timeout=120)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        devices, score = {"device": {LATENCY: predictor_of_a_device().predict}}, SlowLoss(ready, workers)
        limits, began = resolve_limits(TOY, devices, config), time.time()
        run_search_on_cluster(TOY, devices, limits, score, config, Folder.at(tmp_path / "search"), 0, watch)
    finally:
        ray.shutdown()
        cluster.shutdown()
    all_ready = max(place.stat().st_mtime for place in workers_in(ready))
    over = max(place.stat().st_mtime for place in ready.glob("*.scored"))
    (first, _, cpu_a), (last, ended, cpu_z) = next(one for one in seen if one[0] >= workers), seen[-1]
    rate = evaluations / (over - all_ready)
    print(
        f"\n{algorithm:10}{workers:4d} workers on {raylets} raylets: {rate:6.2f} candidates/s, "
        f"{100 * rate * SECONDS / workers:5.1f} % of {workers} workers' best; driver "
        f"{1000 * (cpu_z - cpu_a) / (last - first):5.1f} ms of CPU a candidate; "
        f"all ready after {all_ready - began:.0f} s; ended {ended - over:.1f} s after the last loss; "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
