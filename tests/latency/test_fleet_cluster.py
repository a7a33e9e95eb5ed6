"""A real Ray cluster of three raylets on this machine, two of them timing devices."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.timing.fleet import measure_fleet, measure_rounds
from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import FleetReport, Order
from hat_ray.latency.table.table import part_names, read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.timings import timed
from tests.waiting import wait_for

SPACE = PRESETS["toy"]
QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5},
    **{"canary_tolerance": 50.0, "calibration_s": 0.1, "visits": 1},  # this test counts rows: each is written once
}
A = DeviceSelector(name="device-a", labels={"hw": "a"})
B = DeviceSelector(name="device-b", resource="board-b")


_CLUSTER: list[Cluster] = []
"""The cluster of these tests, for those that add a node."""


@pytest.fixture(scope="module")
def raylet_a() -> Iterator[int]:
    """Start the cluster; return the process id of the raylet that device a belongs to."""
    niceness = pytest.MonkeyPatch()
    niceness.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves nothing to the actors
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    _CLUSTER[:] = [started]
    try:
        node_a = started.add_node(num_cpus=1, labels={"hw": "a"}, resources={"board-a": 1})
        started.add_node(num_cpus=1, labels={"hw": "b"}, resources={"board-b": 1})
        ray.init(address=started.address, log_to_driver=False)
        yield node_a.all_processes["raylet"][0].process.pid
    finally:
        ray.shutdown()
        started.shutdown()
        niceness.undo()


def job(root: Path, **settings: object) -> TimingJob:
    config = LatencyConfig.model_validate({**QUICK, **settings})
    return TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root))


def test_two_devices_time_every_architecture_once_each(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 6, seed=1)
    steps: list[tuple[int, int]] = []
    this = job(tmp_path, devices=[A.model_dump(), B.model_dump()], chunk=6, flush_s=0)
    report = measure_fleet(this, architectures, lambda done, total, _: steps.append((done, total)))
    assert timed(tmp_path) == {(name, a.id): 1 for name in ("device-a", "device-b") for a in architectures}
    assert [(d.device.name, d.timed, d.unfinished) for d in sorted(report.devices, key=lambda d: d.device.name)] == [
        ("device-a", 6, 0),
        ("device-b", 6, 0),
    ]
    assert report.failures == ()
    assert steps[-1] == (12, 12)
    assert {done for done, _ in steps} - {0, 6, 12}, "each row is reported, not each chunk"
    rows = read_table(tmp_path)
    assert {row.device.threads for row in rows} == {1}
    assert {row.context.niceness for row in rows} == {0} or os.geteuid() != 0
    assert len(part_names(tmp_path)) == 12


@pytest.mark.slow
def test_a_round_whose_time_is_spent_begins_nothing_and_loses_nobody(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 5, seed=1)
    orders = [Order(()), Order(architectures[:2]), Order(architectures[2:4], within_s=0.0), Order(architectures[4:])]
    asked: list[int] = []

    def rounds(devices: Sequence[DeviceInfo]) -> Order | None:
        asked.append(len(devices))
        return orders.pop(0) if orders else None

    report = measure_rounds(job(tmp_path, devices=[A.model_dump(), B.model_dump()]), rounds)
    assert asked == [0, 2, 2, 2, 2]
    assert timed(tmp_path) == {
        (name, a.id): 1 for name in ("device-a", "device-b") for a in (*architectures[:2], architectures[4])
    }
    assert [(device.timed, device.unfinished) for device in report.devices] == [(3, 0), (3, 0)]
    assert report.failures == ()
    sessions = {(row.device.name, row.context.session_id) for row in read_table(tmp_path)}
    assert len(sessions) == 2, "the canaries of a device last for all rounds"


@pytest.mark.slow
def test_a_fleet_times_another_runtime_into_devices_of_its_own(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 2, seed=1)
    for settings in ({"runtime": "eager"}, {"runtime": "onnx", "dtype": "int8"}):
        report = measure_fleet(job(tmp_path, devices=[A.model_dump()], **settings), architectures)
        assert (report.devices[0].timed, report.failures) == (2, ())
    slugs = {row.device.slug for row in read_table(tmp_path)}
    assert {slug[slug.index("1t") :] for slug in slugs} == {"1t-eager-fp32", "1t-onnx-int8-pairs"}


@pytest.mark.slow
def test_unlike_nodes_choose_unlike_runtimes_and_say_why(
    raylet_a: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None  # is not installed\n")
    bare = _CLUSTER[0].add_node(num_cpus=1, labels={"hw": "bare"}, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        _CLUSTER[0].wait_for_nodes(timeout=240)
        architectures = choose_architectures(SPACE, 2, seed=1)
        devices = [A.model_dump(), {"name": "bare", "labels": {"hw": "bare"}}]
        with caplog.at_level(logging.INFO):
            report = measure_fleet(job(tmp_path / "table", devices=devices), architectures)
        chosen = {each.device.name: each.device.runtime for each in report.devices}
        assert chosen == {"device-a": "onnx", "bare": "packed"}
        assert {row.device.slug for row in read_table(tmp_path / "table")} == {
            one.device.slug for one in report.devices
        }
        assert (
            "is timed with runtime packed: the fastest that executes this model here; not onnx, because" in caplog.text
        )
        assert "is timed with runtime onnx: the fastest that executes this model here\n" in caplog.text
    finally:
        _CLUSTER[0].remove_node(bare)


@pytest.mark.slow
def test_a_device_that_cannot_run_its_runtime_is_left_out_and_blocks_nobody(
    raylet_a: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = _CLUSTER[0].add_node(num_cpus=1, labels={"hw": "older"}, env_vars={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    try:
        _CLUSTER[0].wait_for_nodes(timeout=240)
        cannot = {"name": "older", "labels": {"hw": "older"}, "runtime": "packed", "dtype": "bf16"}
        architectures = choose_architectures(SPACE, 3, seed=1)
        report = measure_fleet(job(tmp_path, devices=[cannot, A.model_dump()]), architectures)
        assert [(each.device.name, each.timed) for each in report.devices] == [("device-a", 3)]
        [failure] = report.failures
        assert failure.startswith("device older: runtime packed in bf16 needs ")
        assert failure in caplog.text
        with pytest.raises(LatencyError, match="runtime packed in bf16 needs"):
            measure_fleet(job(tmp_path, devices=[cannot]), architectures)
    finally:
        _CLUSTER[0].remove_node(older)


@pytest.mark.slow
def test_without_selectors_alike_nodes_are_one_device(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 2, seed=1)
    report = measure_fleet(job(tmp_path), architectures)
    assert [device.timed for device in report.devices] == [2]
    assert sum(timed(tmp_path).values()) == 2


@pytest.mark.slow
def test_a_killed_actor_is_started_again_and_no_row_is_lost_or_doubled(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 8, seed=2)
    this = job(tmp_path, devices=[A.model_dump()], chunk=4, flush_s=0, target_length=60)
    report = _measure_and_kill(raylet_a, lambda: len(part_names(tmp_path)) >= 2, this, architectures)
    assert len(report.failures) == 1
    assert "device-a was lost while timing" in report.failures[0]
    assert timed(tmp_path) == {("device-a", a.id): 1 for a in architectures}
    assert report.unfinished == 0


@pytest.mark.slow
def test_a_device_that_dies_too_often_is_given_up_and_what_is_left_is_told(raylet_a: int, tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 8, seed=2)
    this = job(tmp_path, devices=[A.model_dump()], chunk=2, retries=0, flush_s=0, target_length=60)
    report = _measure_and_kill(raylet_a, lambda: len(part_names(tmp_path)) >= 3, this, architectures)
    assert report.unfinished in (2, 4, 6)  # the chunks that were not over
    assert len(report.failures) == 1


def test_a_selector_that_fits_no_node_is_told_with_the_nodes_there_are(raylet_a: int, tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=r"no node of the cluster fits .*'hw': 'pi4'.*nodes: .*'hw': 'a'"):
        measure_fleet(job(tmp_path, devices=[{"labels": {"hw": "pi4"}}]), choose_architectures(SPACE, 3, seed=1))


def _measure_and_kill(
    raylet: int, reached: Callable[[], bool], this: TimingJob, architectures: list[Architecture]
) -> FleetReport:
    """Run a fleet and kill a raylet's timing process with SIGKILL once something is reached."""

    def kill() -> None:
        wait_for(reached, every_s=0.01)
        for process in _timing_processes(raylet):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return measure_fleet(this, architectures)
    finally:
        killer.join()


def _timing_processes(raylet: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"TimingActor" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:  # ended meanwhile
            continue
    return found
