"""The search on a real Ray cluster of this machine: whole, with a worker lost, and with its driver killed."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import search_driver
import search_stand_ins
import torch
from search_driver import CONFIG, DEVICES, ONE_AT_A_TIME, LoggingScore, a_batch
from search_stand_ins import InParts

from hat_ray.cluster.search import run_search_on_cluster
from hat_ray.errors import HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.local import run_search
from hat_ray.search.engine.session import Score
from hat_ray.search.frontier import SearchResult
from hat_ray.search.reach import resolve_limits
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder
from tests.processes import processes_of
from tests.waiting import wait_for

for module in (search_driver, search_stand_ins):  # Ray's workers cannot import the tests
    ray.cloudpickle.register_pickle_by_value(module)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(
        address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


def search(folder: Path, score: Score, config: SearchConfig = CONFIG) -> SearchResult:
    limits = resolve_limits(TOY, DEVICES, config)
    return run_search_on_cluster(TOY, DEVICES, limits, score, config, Folder.at(folder), 0)


def settled_table(folder: Path, mark: str) -> set[str]:
    """Return what stands in the table once nothing of the killed driver's cluster is left, which adds to it."""
    wait_for(lambda: not processes_of(mark), "the killed driver's cluster did not end", every_s=0.2)
    return {candidate.architecture.id for candidate in CandidateTable(Folder.at(folder)).read()}


def scored(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.usefixtures("cluster")
def test_a_search_on_ray_fails_with_the_scorings_own_message_and_scores_each_architecture_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The search that failed goes on once its scoring is mended."""
    log = tmp_path / "scored"
    with pytest.raises(RuntimeError, match="scoring failed: ZeroDivisionError"):
        search(tmp_path / "search", LoggingScore(tmp_path / "failed", divides_by_zero=True))
    capfd.readouterr()
    result = search(tmp_path / "search", LoggingScore(log))
    assert len(result.candidates) == CONFIG.evaluations
    assert sorted(scored(log)) == sorted(c.architecture.id for c in result.candidates)
    assert len(result.winners) == 2 * len(DEVICES)
    for winner in result.winners:
        within = [c for c in result.candidates if c.latency_ms[winner.limit.device] <= winner.limit.ms]
        assert winner.candidate.loss_bits == min(c.loss_bits for c in within)
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["candidates.parquet", "search.json"]
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_a_lost_worker_costs_no_candidate(tmp_path: Path) -> None:
    log = tmp_path / "scored"
    result = search(tmp_path / "search", LoggingScore(log, dies_once_after=10))
    assert (tmp_path / "scored.died").exists()
    assert len(result.candidates) == CONFIG.evaluations
    again = len(scored(log)) - len(set(scored(log)))
    assert again < CONFIG.max_batch  # only what the lost trial had finished before it was lost


@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="for a PyTorch that sees no GPU")
def test_a_gpu_that_pytorch_cannot_use_ends_a_search_in_one_line(tmp_path: Path) -> None:
    batch = a_batch(vocabulary=40)
    scorer = CandidateScorer(SuperTransformer(TOY, 40, ModelConfig(), seed=1), [batch], label_smoothing=0.1)
    with pytest.raises(
        HatRayError, match=r"^search\.worker_gpus is set, but PyTorch sees no CUDA device here: unset it"
    ):
        search(tmp_path, scorer, CONFIG.model_copy(update={"worker_gpus": 0.5}))


@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_a_real_supertransformer_scores_on_its_actors(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    batch = a_batch(vocabulary=40)
    scorer = CandidateScorer(SuperTransformer(TOY, 40, ModelConfig(), seed=1), [batch], label_smoothing=0.1)
    result = search(tmp_path, scorer, CONFIG.model_copy(update={"evaluations": 12}))
    assert len(result.candidates) == 12
    for candidate in result.candidates:
        assert candidate.loss_bits == pytest.approx(scorer(candidate.architecture), rel=1e-6)


@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_a_search_of_one_worker_that_stops_early_is_the_one_of_a_single_process(tmp_path: Path) -> None:
    options = {"algorithm": "random", "algorithm_options": {"population": 30}}  # much is hopeless
    config = ONE_AT_A_TIME.model_copy(update={"evaluations": 70, "early_stop": True, **options})
    limits = resolve_limits(TOY, DEVICES, config)
    here = run_search(TOY, DEVICES, limits, InParts(), config, Folder.at(tmp_path / "here"), 0)
    there = run_search_on_cluster(TOY, DEVICES, limits, InParts(), config, Folder.at(tmp_path / "there"), 0)
    assert any(candidate.estimated for candidate in here.candidates)

    def told(result: SearchResult) -> list[tuple[object, ...]]:
        return [(c.architecture, c.loss_bits, c.scored_share, c.loss_at_shares, c.order) for c in result.candidates]

    assert told(there) == told(here)


@pytest.mark.slow
def test_a_search_whose_driver_was_killed_goes_on(tmp_path: Path) -> None:
    """Nothing that stands in the table is scored again; what was under way is."""
    log, folder = tmp_path / "scored", tmp_path / "search"
    command = [sys.executable, str(HERE / "search_driver.py"), str(folder), str(log)]
    mark = uuid.uuid4().hex
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "TUNE_GLOBAL_CHECKPOINT_S": "1", "SEARCH_MARK": mark}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as driver:
        wait_for(
            lambda: driver.poll() is not None or len(CandidateTable(Folder.at(folder)).read()) >= 10,
            "the driver scored nothing",
        )
        assert driver.poll() is None, "the driver ended before it could be killed"
        driver.send_signal(signal.SIGKILL)
    table = settled_table(folder, mark)
    before = scored(log)
    assert (folder / "tune").is_dir()
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    after = scored(log)[len(before) :]
    candidates = CandidateTable(Folder.at(folder)).read()
    assert len({c.architecture for c in candidates}) == len(candidates) == CONFIG.evaluations
    assert len(after) == len(set(after))
    assert not set(after) & table
    assert len(after) == CONFIG.evaluations - len(table)
    under_way = (CONFIG.workers + 1) * CONFIG.max_batch  # one more: a result that was on its way
    assert len(set(after) & set(before)) <= under_way
    assert not (folder / "tune").exists()
