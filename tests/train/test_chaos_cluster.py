"""Seven kills on a real cluster of several raylets: worker, raylet and driver, at random updates. Nothing may change.

The updates are drawn from HAT_RAY_CHAOS_SEED (printed, with a table of what each kill cost; run with -s to see it).
"""

import contextlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import PIPE
from typing import TypeVar

import pytest

from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from tests.drain import drain
from tests.ports import free_port
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes under /proc"),
]

T = TypeVar("T")
CONFIG = TrainConfig(
    updates=120,
    max_tokens=1200,
    accumulate=4,
    workers=2,
    lr=1e-3,
    warmup_updates=20,
    validate_every=40,
    checkpoint_every=10,
    max_failures=2,
)
DRIVER = """
import logging, os, pickle, sys
import ray
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("hat_ray.cluster.training.ray_train").setLevel("INFO")
from hat_ray.errors import HatRayError
from hat_ray.cluster.training.ray_train import train_on_cluster
ray.init(address=os.environ["HEAD"], log_to_driver=False, logging_level="ERROR")
job = pickle.load(open(sys.argv[1], "rb"))
try:
    train_on_cluster(job, lambda done, total, figures: print("update", done, flush=True))
except HatRayError as error:
    print("mistake", error, flush=True)
    sys.exit(2)
"""
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else a busy machine leaves nothing to the workers
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "c" * 64,
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Kill:
    kind: str
    update: int
    """The last one that the driver had heard of."""
    lost: int
    """Updates from the newest checkpoint to there; more may have been made that nobody had heard of."""
    seconds: float
    """Until the next progress."""


class Raylets:
    """A head without CPUs and a few nodes of one CPU each, all on this machine."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")  # short, because sockets stand in it
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self.environment = {**os.environ, **ENVIRONMENT, "HEAD": f"127.0.0.1:{self._port}"}

    def start(self, nodes: int) -> None:
        self._start("--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false")
        self.wait_for_nodes(1)
        for _ in range(nodes):
            self.add()
        self.wait_for_nodes(nodes + 1)

    def kill_one_with_a_worker(self) -> None:
        """SIGKILL a raylet and the training worker that it holds, as when a node is lost."""
        victim = first_of(lambda: [node for node in self._processes[1:] if training_workers(node.pid)])
        raylet = next(p for p in descendants(victim.pid) if command(p).split("\0")[0].endswith("/raylet"))
        # a worker that outlives its raylet by a second would end this short training
        for process in (raylet, *training_workers(victim.pid)):
            with contextlib.suppress(ProcessLookupError):  # a worker may have noticed already
                os.kill(process, signal.SIGKILL)

    def kill_a_worker(self) -> None:
        os.kill(first_of(lambda: training_workers(os.getpid())), signal.SIGKILL)

    def drain_one_with_a_worker(self) -> None:
        """Announce that a node which holds a training worker is taken away; it stays as long as the worker does."""
        victim = first_of(lambda: [node for node in self._processes[1:] if training_workers(node.pid)])
        number = self._processes.index(victim)
        code = f"""
import os, ray
ray.init(address=os.environ["HEAD"], logging_level="ERROR", log_to_driver=False)
print(next(node["NodeID"] for node in ray.nodes() if node["Labels"].get("number") == "{number}"))
"""
        words = [sys.executable, "-c", code]
        found = subprocess.run(words, env=self.environment, check=True, timeout=240, stdout=PIPE, text=True)
        drain(self.environment["HEAD"], found.stdout.split()[-1], self.environment)

    def close(self) -> None:
        for process in reversed(self._processes):
            for child in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            process.wait(240)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self) -> None:
        """Start one more node of one CPU."""
        self._start(f"--address={self.environment['HEAD']}", "--num-cpus=1")

    def _start(self, *arguments: str) -> None:
        ray = str(Path(sys.executable).parent / "ray")
        place = f"--temp-dir={self._folder}/{len(self._processes)}"
        common = ["start", "--block", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", place]
        number = f"number={len(self._processes)}"
        with open(f"{self._folder}/start.log", "ab") as out:
            process = subprocess.Popen(
                [ray, *common, "--min-worker-port=0", "--max-worker-port=0", f"--labels={number}", *arguments],
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        self._processes.append(process)

    def wait_for_nodes(self, count: int) -> None:
        code = f"""
import os, time, ray
for _ in range(300):
    try:
        ray.init(address=os.environ["HEAD"], logging_level="ERROR", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError):
        time.sleep(0.5)
while len([node for node in ray.nodes() if node["Alive"]]) < {count}:
    time.sleep(0.3)
"""
        subprocess.run([sys.executable, "-c", code], env=self.environment, check=True, timeout=240)


@pytest.fixture(scope="module")
def raylets() -> Iterator[Raylets]:
    cluster = Raylets()
    try:
        cluster.start(nodes=3)
        yield cluster
    finally:
        cluster.close()


_DRIVERS: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def no_driver_stays() -> Iterator[None]:
    """End the drivers of a test that failed: they would hold the CPUs that the next one needs."""
    yield
    while _DRIVERS:
        _DRIVERS[-1].kill()
        _DRIVERS.pop().wait(240)


@pytest.fixture(scope="module")
def chance() -> random.Random:
    seed = int(os.environ.get("HAT_RAY_CHAOS_SEED", "1"))
    print(f"\nHAT_RAY_CHAOS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def unkilled(raylets, tiny_space, corpus_folder, tmp_path_factory) -> TrainJob:
    folder = Folder.at(tmp_path_factory.mktemp("unkilled"))
    job = TrainJob(None, tiny_space, corpus_folder, ModelConfig(dropout=0.1), CONFIG, folder, seed=1)
    assert train_and_kill(raylets, job, "none", []) == []
    return job


@pytest.mark.parametrize(("kind", "times"), [("worker", 3), ("raylet", 2), ("driver", 2)])
def test_a_killed_training_ends_and_equals_the_unkilled_one(kind, times, raylets, unkilled, chance, tmp_path):
    job = replace(unkilled, folder=Folder.at(tmp_path))
    updates = sorted(chance.sample(range(5, CONFIG.updates // 2), times))
    kills = train_and_kill(raylets, job, kind, updates)
    for kill in kills:
        print(f"{kill.kind:8} at update {kill.update:4}, lost {kill.lost:3}, goes on after {kill.seconds:5.1f} s")
    assert len(kills) == times
    assert result_of(job) == result_of(unkilled)
    for file in ("supernet.safetensors", "supernet.json"):
        assert job.folder.read_bytes(file) == unkilled.folder.read_bytes(file)
    # a worker that was killed while it renewed leaves a lower number, or a file without a name, behind: neither counts
    newest = max(name for name in job.folder.child("lease").list() if re.fullmatch(r"\d{8}\.json", name))
    assert job.folder.read_json(f"lease/{newest}")["released"]
    assert not job.folder.exists("ray")


@contextlib.contextmanager
def held(processes: list[int]) -> Iterator[None]:
    send(signal.SIGSTOP, processes)
    try:
        yield
    finally:
        send(signal.SIGCONT, processes)


def send(number: signal.Signals, processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # a worker may have ended by itself
            os.kill(process, number)


def slowed_down_until(is_so: Callable[[], bool]) -> None:
    """Let the workers run a tenth of the time until something is so; else a fast machine is done before."""

    def so_after_a_turn() -> bool:
        with held(training_workers(os.getpid())):
            time.sleep(0.45)
        return is_so()

    wait_for(so_after_a_turn)


def test_a_group_grows_when_a_node_joins_and_shrinks_when_one_is_lost(raylets, unkilled, tmp_path):
    """Growing and shrinking repeat the updates since the newest checkpoint; only the rounding differs."""
    small = Raylets()
    config = CONFIG.model_copy(update={"min_workers": 1})
    job = replace(unkilled, config=config, folder=Folder.at(tmp_path))
    try:
        small.start(nodes=1)
        driver, sizes, added, lost = start_driver(small, job), [], False, False
        for line in driver.stdout:
            size = re.search(r"is trained by (\d) workers", line)
            update = int(line.split()[1]) if line.startswith("update ") else 0
            sizes += [int(size[1])] if size else []
            if update >= 10 and not added:
                small.add()
                added = True
                slowed_down_until(lambda: len(training_workers(os.getpid())) == 2)
            if update and sizes == [1, 2] and not lost:
                small.kill_one_with_a_worker()
                lost = True
        assert driver.wait(240) == 0, driver.stderr.read()[-3000:]
    finally:
        small.close()
    assert sizes == [1, 2, 1]
    for ours, theirs in zip(result_of(job)["history"], result_of(unkilled)["history"], strict=True):
        assert ours["update"] == theirs["update"]
        assert ours["train_loss_bits"] == pytest.approx(theirs["train_loss_bits"], abs=1e-3)


def test_a_group_whose_node_is_drained_saves_its_weights_and_resumes_elsewhere(raylets, unkilled, tmp_path):
    config = CONFIG.model_copy(update={"checkpoint_every": CONFIG.updates})  # so only what is saved for it is there
    job = replace(unkilled, config=config, folder=Folder.at(tmp_path))
    watched = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}
    driver, last, drained, left, resumed_at = start_driver(raylets, job, **watched), 0, False, False, 0
    for line in driver.stdout:
        left |= "will be taken away" in line
        if line.startswith("update "):
            update = int(line.split()[1])
            resumed_at = resumed_at or (update if left else 0)
            last = max(last, update)
            if update >= 5 and not drained:
                with held(training_workers(os.getpid())):  # else a fast machine is done before the notice is there
                    raylets.add()
                    raylets.drain_one_with_a_worker()
                    time.sleep(1)  # Ray Train looks five times a second here
                drained = True
    assert driver.wait(240) == 0, driver.stderr.read()[-3000:]
    assert left
    assert 10 < resumed_at <= last == CONFIG.updates, "it begins where the group ended, not at the beginning"
    assert result_of(job) == result_of(unkilled)
    assert job.folder.read_bytes("supernet.safetensors") == unkilled.folder.read_bytes("supernet.safetensors")


def test_a_lost_node_that_nobody_replaces_is_waited_for_and_then_told(raylets, unkilled, tmp_path):
    small = Raylets()
    job = replace(unkilled, config=CONFIG.model_copy(update={"max_wait_s": 8.0}), folder=Folder.at(tmp_path))
    try:
        small.start(nodes=2)
        driver, killed, said = start_driver(small, job), False, []
        for line in driver.stdout:
            said += [line] if line.startswith(("training", "mistake")) else []
            if line.startswith("update ") and int(line.split()[1]) >= 20 and not killed:
                small.kill_one_with_a_worker()
                killed = True
        assert driver.wait(240) == 2
        assert said[-1].startswith(
            "mistake training needs 2 CPUs (2 workers), the cluster has 1, room for 1; it waited"
        )
        assert "run it again: it resumes" in said[-1]
        small.add()
        small.wait_for_nodes(3)
        assert train_and_kill(small, job, "none", []) == []
    finally:
        small.close()
    assert result_of(job) == result_of(unkilled)
    assert job.folder.read_bytes("supernet.safetensors") == unkilled.folder.read_bytes("supernet.safetensors")


def test_of_two_drivers_in_one_folder_the_newer_one_goes_on(raylets, unkilled, tmp_path):
    job = replace(unkilled, folder=Folder.at(tmp_path))
    older = start_driver(raylets, job)
    newer, said = None, []
    for line in older.stdout:
        said.append(line)
        if newer is None and line.startswith("update ") and int(line.split()[1]) >= 10:
            with held(training_workers(os.getpid())):  # else a fast machine is done before the newer one is there
                newer = taken_over_by_another(raylets, job)
    assert older.wait(240) == 2
    assert any("one process at a time may work in" in line for line in said)  # Ray's own warnings may follow it
    newer.communicate(timeout=600)
    assert newer.returncode == 0
    assert result_of(job) == result_of(unkilled)
    assert job.folder.read_bytes("supernet.safetensors") == unkilled.folder.read_bytes("supernet.safetensors")


def taken_over_by_another(raylets: Raylets, job: TrainJob) -> "subprocess.Popen[str]":
    """Start a driver in the folder of another one, and wait until it has taken over."""
    owner = job.folder.child("lease").list()
    newer = start_driver(raylets, job)
    wait_for(lambda: job.folder.child("lease").list() != owner, "the newer driver did not take over")
    return newer


def train_and_kill(raylets: Raylets, job: TrainJob, kind: str, updates: list[int]) -> list[Kill]:
    """Run drivers until one ends well; kill something as soon as progress reaches the next of the updates."""
    waiting, kills, driver = list(updates), [], start_driver(raylets, job)
    killed: tuple[int, int, float] | None = None
    noticed = False
    for _ in range(len(updates) + 1):
        for line in driver.stdout:
            noticed |= line.startswith("training lost its workers")
            if not line.startswith("update "):
                continue
            update = int(line.split()[1])
            if killed is not None and noticed:
                kills.append(Kill(kind, killed[0], killed[1], time.monotonic() - killed[2]))
                killed = None
            if killed is None and waiting and update >= waiting[0]:
                waiting.pop(0)
                strike(raylets, kind, driver)
                killed, noticed = (update, max(0, update - newest_checkpoint(job)), time.monotonic()), False
        code = driver.wait(240)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, f"the driver ended with {code}: {driver.stderr.read()[-3000:]}"
        driver, noticed = start_driver(raylets, job), True
    raise AssertionError("too many drivers")


def strike(raylets: Raylets, kind: str, driver: subprocess.Popen[str]) -> None:
    match kind:
        case "worker":
            raylets.kill_a_worker()
        case "raylet":
            raylets.kill_one_with_a_worker()
            raylets.add()
        case "driver":
            driver.kill()


def start_driver(raylets: Raylets, job: TrainJob, **environment: str) -> subprocess.Popen[str]:
    description = Path(tempfile.mkstemp(suffix=".pickle")[1])
    description.write_bytes(pickle.dumps(job))
    words = [sys.executable, "-c", DRIVER, str(description)]
    together = {**raylets.environment, **environment}
    _DRIVERS.append(subprocess.Popen(words, env=together, stdout=PIPE, stderr=PIPE, text=True))
    return _DRIVERS[-1]


def newest_checkpoint(job: TrainJob) -> int:
    folder = job.folder.child("checkpoints")
    whole = [name for name in folder.list() if folder.child(name).exists("state.json")]
    return max((int(name.removeprefix("update-")) for name in whole), default=0)


def result_of(job: TrainJob) -> dict:
    """The result, loss curves and all, without the clock."""
    result = job.finished()
    assert result is not None
    history = tuple(replace(point, seconds=0.0) for point in result.history)
    curve = tuple(replace(point, seconds=0.0, tokens_per_s=0.0) for point in result.curve)
    return json.loads(json.dumps(asdict(replace(result, seconds=0.0, history=history, curve=curve))))


def command(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def descendants(process: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process may end while we look
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, level = [], {process}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += sorted(level)
    return found


def first_of(look: Callable[[], list[T]]) -> T:
    """Wait until something is found; between two worker groups there is no worker."""
    return wait_for(look, "no training worker")[0]


def training_workers(process: int) -> list[int]:
    """Return the Ray Train workers that descend from a process."""
    return [child for child in descendants(process) if "RayTrainWorker" in command(child)]
