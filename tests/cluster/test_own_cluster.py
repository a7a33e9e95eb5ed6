"""Where no cluster is named: which processes hat-ray starts on one machine for a training and for timing."""

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.prepare import prepare
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from tests.train.conftest import SPACE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes under /proc"),
]
DRIVER = """
import pickle, sys
from hat_ray.cluster.execution import RayExecution
from hat_ray.latency.fleet.plan import once
training, timing, alone = pickle.load(open(sys.argv[1], "rb"))
execution = RayExecution(cpus_needed=2)
try:
    print(execution.train_super(training).updates, len(execution.time(timing, once([timing.space.smallest()]))))
    print(execution.train_subs([alone])[0].updates)
finally:
    execution.close()
"""


def workers_of(root: int) -> Iterator[tuple[int, str]]:
    """Yield the number of each process of Ray's that stems from a process, and the task or actor that it is."""
    names, parents = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            names[int(place.name)] = (place / "cmdline").read_text().split("\0")[0]
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    for process, name in names.items():
        above = process
        while above in parents and above != root:
            above = parents[above]
        if above == root and name.startswith("ray::"):
            yield process, re.split(r"[.(]", name.removeprefix("ray::"))[0]


def test_one_machine_trains_each_model_in_two_tasks_and_times_in_the_driver(tmp_path: Path) -> None:
    corpus = Folder.at(tmp_path / "corpus")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=20)
    prepare(CorpusConfig(toy=toy, vocab_size=300), corpus, seed=1)
    train = TrainConfig(updates=4, max_tokens=300, accumulate=2, workers=2, warmup_updates=2, validate_every=4)
    times = LatencyConfig(source_length=4, target_length=3, warmup=1, min_repetitions=5, max_repetitions=5)
    jobs = (
        TrainJob(None, SPACE, corpus, ModelConfig(), train, Folder.at(tmp_path / "supernet"), seed=1),
        TimingJob(SPACE, ModelConfig(), 64, times, Folder.at(tmp_path / "table")),
        TrainJob(SPACE.smallest(), SPACE, corpus, ModelConfig(), train, Folder.at(tmp_path / "model"), seed=1),
    )
    (tmp_path / "jobs").write_bytes(pickle.dumps(jobs))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["RAY_worker_niceness"] = "0"  # else a busy machine leaves nothing to the workers
    seen: dict[str, set[int]] = {}
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", DRIVER, str(tmp_path / "jobs")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as driver:
            try:
                while driver.poll() is None:
                    for process, name in workers_of(driver.pid):
                        seen.setdefault(name, set()).add(process)
                    time.sleep(0.02)
                assert driver.stdout is not None
                done = driver.stdout.read()
            finally:
                driver.kill()
    assert driver.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    assert done.split() == ["4", "1", "4"]
    assert len(seen["train_in_a_group"]) == 2 + 2, "a single model has both workers as well"
    assert not {"TrainController", "RayTrainWorker", "TimingActor"} & seen.keys()
    assert SPACE.smallest() in {row.architecture for row in read_table(tmp_path / "table")}
