"""Kills of a search on real Ray clusters: nothing is lost or scored twice, a seeded search of one worker repeats."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import ray
import search_driver
import search_stand_ins
from ray.cluster_utils import Cluster
from search_driver import DEVICES, ONE_AT_A_TIME, LoggingScore

from hat_ray.cluster.search import run_search_on_cluster
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.local import run_search
from hat_ray.search.reach import resolve_limits
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder
from tests.processes import processes_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ray.cloudpickle.register_pickle_by_value(search_driver)
ray.cloudpickle.register_pickle_by_value(search_stand_ins)
HERE = Path(__file__).parent


def wait_for_candidates(folder: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    wait_for(
        lambda: driver.poll() is not None or len(CandidateTable(Folder.at(folder)).read()) >= count,
        f"fewer than {count} candidates",
    )
    assert driver.poll() is None, "the driver ended before it could be killed"


def test_a_seeded_search_of_one_worker_whose_driver_is_killed_twice_ends_as_in_one_process(tmp_path: Path) -> None:
    limits = resolve_limits(TOY, DEVICES, ONE_AT_A_TIME)
    score = LoggingScore(tmp_path / "plain")
    plain = run_search(TOY, DEVICES, limits, score, ONE_AT_A_TIME, Folder.at(tmp_path / "one"), 0)
    log, folder = tmp_path / "scored", tmp_path / "search"
    command = [sys.executable, str(HERE / "search_driver.py"), str(folder), str(log), "one"]
    mark = uuid.uuid4().hex
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "TUNE_GLOBAL_CHECKPOINT_S": "1", "SEARCH_MARK": mark}
    for count in (7, 15):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as driver:
            wait_for_candidates(folder, count, driver)
            driver.send_signal(signal.SIGKILL)
        wait_for(lambda: not processes_of(mark), "the killed driver's cluster did not end", every_s=0.2)
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    found = [(c.architecture, c.loss_bits, c.order, c.origin) for c in CandidateTable(Folder.at(folder)).read()]
    assert found == [(c.architecture, c.loss_bits, c.order, c.origin) for c in plain.candidates]
    assert len(log.read_text().split()) <= ONE_AT_A_TIME.evaluations + 2  # a kill costs what was under way


def test_a_lost_raylet_costs_no_candidate(tmp_path: Path) -> None:
    config = SearchConfig(
        algorithm_options={"population": 10, "parents": 5},
        evaluations=60,
        max_batch=2,
        workers=2,
        limits_fraction=(0.3, 0.6),
    )
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes(timeout=240)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        folder, log = Folder.at(tmp_path / "search"), tmp_path / "scored"
        limits = resolve_limits(TOY, DEVICES, config)
        score = LoggingScore(log, seconds=0.3)
        killed = False

        def kill_once(done: int, _total: int, _figures: object) -> None:
            nonlocal killed
            if done >= 12 and not killed:
                killed = True
                cluster.remove_node(other, allow_graceful=False)

        result = run_search_on_cluster(TOY, DEVICES, limits, score, config, folder, 0, kill_once)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert len(result.candidates) == len({c.architecture for c in result.candidates}) == config.evaluations
    scored = log.read_text().split()
    assert {c.architecture.id for c in result.candidates} == set(scored)
    assert len(scored) - len(set(scored)) <= 2 * config.max_batch  # only what was lost with its trial
