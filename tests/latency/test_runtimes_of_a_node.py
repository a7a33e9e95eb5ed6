"""Several runtimes as devices of one machine: one after the other, each with rows of its own."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors
from ray.util.state.exception import RayStateApiException

from hat_ray.cluster.timing.fleet import measure_fleet
from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.here import measure_here
from hat_ray.latency.lookup.slugs import hardware_of, settings_of
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]
QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5},
    **{"canary_tolerance": 50.0, "calibration_s": 0.1, "chunk": 2},
}
RUNTIMES = [{"runtime": "eager"}, {"runtime": "onnx"}, {"runtime": "onnx", "dtype": "int8"}]
SETTINGS = ["eager fp32, 1 thread", "onnx fp32, 1 thread", "onnx int8, 1 thread"]


def job(root: Path, **settings: object) -> TimingJob:
    config = LatencyConfig.model_validate({**QUICK, **settings})
    return TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root))


def test_a_devices_id_tells_hardware_and_software_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):  # they make another device, for PyTorch alone
        monkeypatch.delenv(limit, raising=False)
    slugs = [detect(runtime=r, dtype=d, threads=t).slug for r, d, t in (("eager", "fp32", 1), ("onnx", "int8", 2))]
    assert hardware_of(slugs[0]) == hardware_of(slugs[1])
    assert [settings_of(slug) for slug in slugs] == ["eager fp32, 1 thread", "onnx int8, 2 threads"]
    assert hardware_of("macs") == settings_of("macs") == "macs"
    assert hardware_of(detect(name="pi4").slug) != hardware_of(slugs[0])


def test_without_a_cluster_this_machine_is_every_entry_that_names_no_node(tmp_path: Path) -> None:
    devices = [*RUNTIMES[:2], {"name": "elsewhere", "labels": {"hw": "pi4"}}]
    steps: list[tuple[int, int]] = []
    architectures = choose_architectures(SPACE, 2, seed=1)
    found = measure_here(job(tmp_path, devices=devices), architectures, lambda n, of, _: steps.append((n, of)))
    assert [settings_of(device.slug) for device in found] == SETTINGS[:2]
    assert sorted(set(steps)) == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    rows = read_table(tmp_path, every_measurement=True)
    assert {(row.device.slug, row.architecture) for row in rows} == {(d.slug, a) for d in found for a in architectures}


def test_a_device_that_this_machine_cannot_be_is_left_out_unless_it_is_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # within it nothing computes in bf16
    architectures = choose_architectures(SPACE, 1, seed=1)
    packed = {"runtime": "packed", "dtype": "bf16"}
    found = measure_here(job(tmp_path, devices=[packed, {"runtime": "onnx"}]), architectures)
    assert [settings_of(device.slug) for device in found] == [SETTINGS[1]]
    assert {row.device.slug for row in read_table(tmp_path)} == {found[0].slug}
    assert "a device is left out: " in caplog.text
    assert "needs" in caplog.text
    with pytest.raises(LatencyError, match="bf16"):
        measure_here(job(tmp_path, devices=[packed]), architectures)


def test_entries_that_turn_out_to_be_one_device_are_timed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    architectures = choose_architectures(SPACE, 1, seed=1)
    steps: list[tuple[int, int]] = []
    both = job(tmp_path, devices=[{}, {"runtime": "onnx"}])
    [device] = measure_here(both, architectures, lambda n, of, _: steps.append((n, of)))
    assert steps[-1] == (1, 1)
    assert len(read_table(tmp_path, every_measurement=True)) == 1
    assert f"two entries of latency.devices are {device.slug}, which is timed once: leave one out" in caplog.text


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        started.add_node(num_cpus=2, labels={"hw": "a"})
        ray.init(address=started.address, log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("exclusive", [True, False])
def test_the_runtimes_of_a_node_take_turns(cluster: Cluster, tmp_path: Path, exclusive: bool) -> None:
    devices = [{**one, "name": "board", "labels": {"hw": "a"}} for one in RUNTIMES]
    architectures = choose_architectures(SPACE, 4, seed=1)
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            with contextlib.suppress(RayStateApiException):  # a busy head may fail to answer
                actors = [one for one in list_actors() if one.class_name == "TimingActor"]
                most = max(most, sum(one.state == "ALIVE" for one in actors))
            time.sleep(0.3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report = measure_fleet(job(tmp_path, devices=devices, exclusive=exclusive), architectures)
    finally:
        over.set()
        watcher.join()
    assert sorted(settings_of(one.device.slug) for one in report.devices) == SETTINGS
    assert [(one.timed, one.unfinished) for one in report.devices] == [(4, 0)] * 3
    assert report.failures == ()
    assert len(read_table(tmp_path, every_measurement=True)) == 12
    assert most == 1
