"""A fleet of unlike nodes that come and go: four raylets on this machine, real kills, a really slowed process."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.timing.fleet import measure_fleet
from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.fleet.plan import FleetReport
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.clusters import head_without_cpus
from tests.drain import drain
from tests.latency.timings import timed
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes there"),
]

SPACE = PRESETS["toy"]
QUICK = {
    **{"source_length": 10, "target_length": 20, "warmup": 1, "min_repetitions": 5, "max_repetitions": 20},
    **{
        "canary_tolerance": 50.0,
        "calibration_s": 0.1,
        "chunk": 4,
        "visits": 1,
        "flush_s": 0.5,
        "reconnect_timeout_s": 60.0,
    },
    **{"budget_s": 1.0, "patience_s": 0.5, "start_timeout_s": 300.0},
}
BOARDS: dict[str, dict[str, Any]] = {
    name: {"num_cpus": 1, "labels": {"hw": name}, "resources": {f"board-{name}": 1}} for name in ("a", "b", "c")
}
D = {"num_cpus": 1, "labels": {"hw": "d"}}
DEVICES: list[dict[str, Any]] = [
    {"name": "device-a", "labels": {"hw": "a"}},
    {"name": "device-b", "resource": "board-b"},
    {"name": "device-c", "labels": {"hw": "in(c,e)"}},
    {"name": "device-d", "labels": {"hw": "d"}},
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with head_without_cpus(monkeypatch) as started:
        yield started


def job(root: Path, **settings: object) -> TimingJob:
    config = LatencyConfig.model_validate({**QUICK, **settings})
    return TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root))


def rows_of(root: Path, device: str) -> int:
    return sum(count for (name, _), count in timed(root).items() if name == device)


def test_unlike_nodes_one_slowed_and_one_killed_and_brought_back(cluster: Cluster, tmp_path: Path) -> None:
    nodes = {name: cluster.add_node(**board) for name, board in BOARDS.items()} | {"d": cluster.add_node(**D)}
    architectures = choose_architectures(SPACE, 30, seed=1)

    with ThreadPoolExecutor() as pool, slowed(raylet(nodes["c"])):
        fleet = pool.submit(measure_fleet, job(tmp_path, devices=DEVICES), architectures)
        wait_for(lambda: rows_of(tmp_path, "device-b") >= 12)
        cluster.remove_node(nodes["b"], allow_graceful=False)
        time.sleep(5)
        cluster.add_node(**BOARDS["b"])
        report = fleet.result(timeout=600)
    assert timed(tmp_path) == {(device["name"], a.id): 1 for device in DEVICES for a in architectures}
    assert report.unfinished == 0
    assert any("device-b was lost while timing" in failure for failure in report.failures)
    tell(report)
    for device in report.devices:  # what device b did between its last row and its loss counts as nothing done
        assert device.utilisation > (0.4 if device.device.name == "device-b" else 0.7), device.device.name
    busy = {device.device.name: device.busy_s for device in report.devices}
    assert busy["device-c"] > 1.2 * busy["device-a"], "the slowed one was slow"
    first_done = read_table(tmp_path, device=slug(report, "device-a"))[-1].context.utc_time
    assert first_done < read_table(tmp_path, device=slug(report, "device-c"))[-1].context.utc_time


def test_a_node_that_joins_gets_work_of_its_device(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(**BOARDS["c"])
    architectures = choose_architectures(SPACE, 60, seed=2)

    with ThreadPoolExecutor() as pool:
        fleet = pool.submit(measure_fleet, job(tmp_path, devices=DEVICES[2:3]), architectures)
        wait_for(lambda: rows_of(tmp_path, "device-c") >= 4)
        joined = cluster.add_node(num_cpus=1, labels={"hw": "e"})
        wait_for(lambda: bool(timing_processes(raylet(joined))))
        report = fleet.result(timeout=600)
    assert timed(tmp_path) == {("device-c", a.id): 1 for a in architectures}
    [device] = report.devices
    tell(report)
    assert device.utilisation > 0.65, "both worked while they were there"


def test_a_spare_node_of_the_same_kind_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    architectures = choose_architectures(SPACE, 30, seed=3)

    with ThreadPoolExecutor() as pool:
        fleet = pool.submit(measure_fleet, job(tmp_path), architectures)
        wait_for(lambda: rows_of(tmp_path, "") >= 6)
        busy = [node for node in nodes if timing_processes(raylet(node))]
        cluster.remove_node(busy[0], allow_graceful=False)
        report = fleet.result(timeout=600)
    assert timed(tmp_path) == {("", a.id): 1 for a in architectures}
    assert len(report.devices) == 1
    assert report.unfinished == 0


def test_a_node_that_is_drained_leaves_its_work_to_another_and_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    architectures = choose_architectures(SPACE, 150, seed=6)
    settings = {"chunk": 150, "flush_s": 600.0}  # one chunk, of which nothing is written before its end

    with ThreadPoolExecutor() as pool:
        done: list[int] = []
        fleet = pool.submit(measure_fleet, job(tmp_path, **settings), architectures, lambda *now: done.append(now[0]))
        wait_for(lambda: bool(done) and done[-1] >= 3)
        [busy] = [node for node in nodes if timing_processes(raylet(node))]
        drain(cluster.address, busy.node_id)
        report = fleet.result(timeout=600)
    [device] = report.devices
    assert timed(tmp_path) == {("", a.id): 1 for a in architectures}
    assert (report.unfinished, report.failures) == (0, ()), "it was not lost"
    assert len(read_table(tmp_path)) == 150
    assert device.skipped >= 2, "the second node did not time again what the first one had timed"


def test_a_device_that_does_not_come_back_is_told_and_the_others_finish(cluster: Cluster, tmp_path: Path) -> None:
    nodes = {name: cluster.add_node(**BOARDS[name]) for name in ("a", "b")}
    architectures = choose_architectures(SPACE, 30, seed=4)

    with ThreadPoolExecutor() as pool:
        fleet = pool.submit(measure_fleet, job(tmp_path, devices=DEVICES[:2], reconnect_timeout_s=3.0), architectures)
        wait_for(lambda: rows_of(tmp_path, "device-b") >= 4)
        cluster.remove_node(nodes["b"], allow_graceful=False)
        report = fleet.result(timeout=600)
    left = {device.device.name: device.unfinished for device in report.devices}
    assert left["device-a"] == 0
    assert 0 < left["device-b"] <= 26
    again = measure_fleet(job(tmp_path, devices=DEVICES[:1]), architectures)
    assert [(d.timed, d.skipped) for d in again.devices] == [(0, 30)]


def test_a_node_that_other_work_holds_is_refused_unless_told(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2, labels={"hw": "a"})

    @ray.remote(num_cpus=1)
    class Holder:
        def ready(self) -> bool:
            return True

    holder = Holder.remote()  # type: ignore[attr-defined]
    ray.get(holder.ready.remote(), timeout=240)
    architectures = choose_architectures(SPACE, 2, seed=5)
    with pytest.raises(LatencyError, match=r"is not free: other work .* its 2 CPUs .* set latency.exclusive to false"):
        measure_fleet(job(tmp_path, devices=DEVICES[:1], start_timeout_s=3.0), architectures)
    report = measure_fleet(job(tmp_path, devices=DEVICES[:1], exclusive=False), architectures)
    assert [device.timed for device in report.devices] == [2]


def tell(report: FleetReport) -> None:
    for device in report.devices:
        told = f"{device.timed} timed, worked {device.busy_s:.1f} s, utilisation {device.utilisation:.1%}"
        print(f"\n{device.device.name}: {told}", end="")


def slug(report: FleetReport, name: str) -> str:
    return next(device.device.slug for device in report.devices if device.device.name == name)


def raylet(node: object) -> int:
    return node.all_processes["raylet"][0].process.pid  # type: ignore[attr-defined, no-any-return]


def timing_processes(parent: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            its_parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if its_parent == parent and b"TimingActor" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:  # ended meanwhile
            continue
    return found


@contextmanager
def slowed(parent: int) -> Iterator[None]:
    """Let a raylet's timing process run for a third of the time only."""
    over = threading.Event()

    def brake() -> None:
        looked, processes = 0.0, []
        while not over.wait(0.015):
            if time.monotonic() - looked > 1:
                looked, processes = time.monotonic(), timing_processes(parent)
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
                    over.wait(0.03)
                    os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=brake)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
