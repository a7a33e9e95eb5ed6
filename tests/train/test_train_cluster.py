"""Ray's own cluster on this machine: two workers over gloo, a worker killed, several trainings side by side."""

import contextlib
import json
import os
import signal
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import ray
import torch
from prometheus_client.parser import text_string_to_metric_families

from hat_ray.cluster.training.ray_train import train_on_cluster
from hat_ray.cluster.training.tasks import train_many, train_together
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.model.checkpoints.native import load_super
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import Checkpoint, CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob, train_super
from hat_ray.train.metrics import run_name
from tests.ports import free_port
from tests.waiting import wait_for

MODEL = ModelConfig(dropout=0.1)
CONFIG = TrainConfig(
    updates=12,
    max_tokens=300,
    accumulate=2,
    workers=2,
    lr=1e-3,
    warmup_updates=5,
    validate_every=4,
    checkpoint_every=5,
    max_failures=1,
)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a report waits for the next check
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less to start
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "240")  # on a busy machine PyTorch is imported slowly
        patch.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves nothing to the workers
        port = free_port()
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _metrics_export_port=port,
            _system_config={"metrics_report_interval_ms": 500},
        )
        yield port
        ray.shutdown()


@pytest.fixture
def job(tiny_space, corpus_folder, tmp_path):
    return TrainJob(None, tiny_space, corpus_folder, MODEL, CONFIG, Folder.at(tmp_path / "cluster"), seed=1)


def curve(result) -> list[dict]:
    return [asdict(replace(point, seconds=0.0)) for point in result.history]


@pytest.fixture(scope="module")
def unbroken(tiny_space, corpus_folder, tmp_path_factory):
    """A training by two workers that nothing disturbed: the job, its result, its progress, Ray Train's checkpoints."""
    folder = Folder.at(tmp_path_factory.mktemp("unbroken"))
    job = TrainJob(None, tiny_space, corpus_folder, MODEL, CONFIG, folder, seed=1)
    shown, pointers = [], []

    def show(*progress):
        shown.append(progress)
        pointers.append([json.loads(file.read_text()) for file in Path(folder.uri).glob("ray/*/*/pointer.json")])

    result = train_on_cluster(job, show)
    return job, result, shown, pointers


def test_two_workers_equal_one_with_accumulation_two(unbroken, corpus, tmp_path):
    """Dropout and all: it is seeded for each batch of an update, not for each worker."""
    job, two, shown, _ = unbroken
    alone = Folder.at(tmp_path)
    one = train_super(job.space, corpus, MODEL, CONFIG.model_copy(update={"workers": 1}), alone, job.seed)
    for ours, theirs in zip(two.history, one.history, strict=True):
        assert ours.train_loss_bits == pytest.approx(theirs.train_loss_bits, abs=1e-5)
        assert ours.valid_loss_bits == pytest.approx(theirs.valid_loss_bits, abs=1e-5)
    weights = load_super(job.folder, "supernet").weights()
    for name, weight in load_super(alone, "supernet").weights().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert shown[-1][:2] == (12, 12)
    assert sorted(job.folder.list()) == [
        *("checkpoints", "lease", "supernet.json", "supernet.safetensors", "tensorboard", "train.json")
    ]


def test_ray_train_gets_pointers_to_the_checkpoints(unbroken):
    job, *_, pointers = unbroken
    assert pointers[-1] == [{"checkpoint": job.folder.child("checkpoints/update-00000012").uri}]


def test_the_nodes_prometheus_endpoint_shows_the_training(cluster, unbroken):
    job, result, *_ = unbroken
    run, last = run_name(job.folder), result.history[-1]
    expected = {
        ("hat_ray_train_updates", ""): 12,
        ("hat_ray_train_learning_rate", ""): last.lr,
        ("hat_ray_train_gradient_norm", ""): last.grad_norm,
        ("hat_ray_train_valid_loss_bits", "largest"): last.valid_loss_bits["largest"],
        ("hat_ray_train_valid_loss_bits", "smallest"): last.valid_loss_bits["smallest"],
    }
    found: dict[tuple[str, str], float] = {}

    def complete() -> bool:
        found.clear()
        found.update(scrape(cluster, run))
        return expected.keys() <= found.keys() and found["hat_ray_train_updates", ""] == 12

    wait_for(complete, lambda: f"the endpoint shows {found}", every_s=0.5)
    assert {key: found[key] for key in expected} == {key: pytest.approx(v, rel=1e-6) for key, v in expected.items()}
    assert found["hat_ray_train_tokens_per_second", ""] > 0
    assert 0 <= found["hat_ray_train_checkpoint_age_seconds", ""] < 3600  # and not since 1970


def scrape(port: int, run: str) -> dict[tuple[str, str], float]:
    """Return (metric, model) -> value of one training, from a node's metrics endpoint, once it is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            families = text_string_to_metric_families(answer.read().decode())
    except OSError:
        return {}
    return {
        (sample.name.removeprefix("ray_"), sample.labels.get("model", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("run") == run
    }


def test_tasks_of_one_machine_train_the_same_bits_as_ray_train(unbroken, job):
    shown = []
    result = train_together(job, lambda *progress: shown.append(progress))
    assert_same(job, result, unbroken)
    assert shown[-1][:2] == (12, 12)
    assert train_together(job) == result


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker under /proc")
@pytest.mark.slow
@pytest.mark.parametrize(("train", "name"), [(train_on_cluster, "RayTrainWorker"), (train_together, "_in_a_group")])
def test_a_killed_worker_is_replaced_and_nothing_changes(unbroken, job, train, name):
    earlier = _training_workers(name)  # Ray may not have ended them yet
    with ThreadPoolExecutor() as pool:
        death = pool.submit(_kill_a_worker_at_its_first_checkpoint, job.folder, name, earlier)
        result = train(job)
        assert death.result(timeout=240)
    assert_same(job, result, unbroken)


def assert_same(job, result, unbroken):
    """Assert that a training went as the undisturbed one, to the same bits."""
    whole, expected, *_ = unbroken
    assert curve(result) == curve(expected)
    weights = load_super(job.folder, "supernet").weights()
    for name, weight in load_super(whole.folder, "supernet").weights().items():
        assert torch.equal(weights[name], weight), name


@pytest.mark.slow
def test_several_architectures_train_side_by_side(job, tmp_path):
    config = CONFIG.model_copy(update={"workers": 1, "accumulate": 1})
    jobs = [
        replace(job, architecture=architecture, config=config, folder=Folder.at(tmp_path / str(index)))
        for index, architecture in enumerate([job.space.largest(), job.space.smallest()])
    ]
    shown = []
    results = train_many(jobs, lambda *progress: shown.append(progress))
    assert [result.updates for result in results] == [12, 12]
    assert shown[-1][:2] == (24, 24)
    alone = replace(jobs[1], folder=Folder.at(tmp_path / "alone")).run(lambda *_: None)
    assert curve(alone) == curve(results[1])
    assert train_many(jobs) == results


@pytest.mark.slow
def test_a_users_mistake_in_a_worker_reaches_the_driver_as_it_is(job):
    checkpoints = CheckpointStore(job.folder.child("checkpoints"), "another", keep_last=1)
    checkpoints.save(Checkpoint(3, {}, {}))
    checkpoints.wait()
    alone = replace(job, config=CONFIG.model_copy(update={"workers": 1}))
    for train, lease in (  # one by the driver and one by the only group of workers, twice; then one by the only task
        (lambda: train_on_cluster(job), "00000002.json"),
        (lambda: train_together(job), "00000004.json"),
        (lambda: train_many([alone]), "00000005.json"),
    ):
        with pytest.raises(CheckpointError, match="holds checkpoints of another training") as caught:
            train()
        assert "\n" not in str(caught.value)
        assert job.folder.child("lease").list() == [lease]


def test_more_workers_than_the_cluster_holds_are_refused_before_anything_begins(job):
    config = CONFIG.model_copy(update={"workers": 3, "accumulate": 3})
    what = r"needs 3 CPUs \(3 workers\), the cluster has 2, room for 2: lower train\.workers"  # and not "it waited"
    with pytest.raises(HatRayError, match=what):
        train_on_cluster(replace(job, config=config))
    assert job.folder.list() == []


def _kill_a_worker_at_its_first_checkpoint(folder: Folder, name: str, earlier: list[int]) -> int:
    """End one worker of this training as early as resuming means anything, and return its process number.

    The worker is looked for before its first update: what is left of so short a training would be over before that.
    """
    worker, *_ = wait_for(
        lambda: [each for each in _training_workers(name) if each not in earlier], "no worker started", every_s=0.02
    )
    wait_for(folder.child("checkpoints").exists, "no checkpoint was begun", every_s=0.001)
    os.kill(worker, signal.SIGKILL)
    return worker


def _training_workers(wanted: str) -> list[int]:
    """Return the process numbers of this cluster's workers by a part of their name: they descend from this process."""
    names, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process may end while we look
            names[int(folder.name)] = (folder / "cmdline").read_text()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_ours(parents[process]))

    return [process for process, name in names.items() if wanted in name and is_ours(process)]
