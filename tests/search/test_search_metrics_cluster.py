"""A search on a head that `ray start` started, dashboard, token and all, seen from outside while it runs."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from search_driver import CONFIG, DEVICES

from hat_ray.cluster.metrics import BEST, EVALUATIONS, HYPERVOLUME
from hat_ray.search.candidates import CandidateTable
from hat_ray.storage.folder import Folder
from tests.head import TOKEN, answer, head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with head() as ports:
        yield ports


def scrape(port: int, run: str) -> dict[tuple[str, str, str], float]:
    """Return (metric, device, limit) -> value of one search, from the node's metrics endpoint, once it is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as found:
            families = text_string_to_metric_families(found.read().decode())
    except OSError:
        return {}
    return {
        (sample.name.removeprefix("ray_"), sample.labels.get("device", ""), sample.labels.get("limit", "")): value
        for family in families
        for sample in family.samples
        if sample.labels.get("run") == run and (value := sample.value) is not None
    }


def test_metrics_and_progress_lines_tell_of_a_search_while_it_runs(ports: dict[str, int], tmp_path: Path) -> None:
    folder = tmp_path / "run" / "search"
    command = [sys.executable, str(HERE / "search_driver.py"), str(folder), str(tmp_path / "scored"), "slowly"]
    environment = {**os.environ, **TOKEN, "RAY_ADDRESS": f"127.0.0.1:{ports['gcs']}"}
    seen: list[dict[tuple[str, str, str], float]] = []
    with (tmp_path / "lines").open("w") as lines:
        driver = subprocess.Popen(command, env=environment, stdout=lines, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 400
            while driver.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.5)
                found = scrape(ports["metrics"], "run/search")
                if (EVALUATIONS, "", "") in found:
                    seen.append(found)
        finally:
            driver.kill()
            driver.wait(timeout=240)
    told = (tmp_path / "lines").read_text()
    assert driver.returncode == 0, told[-2000:]
    counts = [found[EVALUATIONS, "", ""] for found in seen]
    assert counts == sorted(counts)
    assert 0 <= counts[0] < counts[-1] <= CONFIG.evaluations  # it grew while we looked
    assert len(set(counts)) > 3
    for device in DEVICES:
        volumes = [found[HYPERVOLUME, device, ""] for found in seen]
        assert 0 <= volumes[0] <= volumes[-1] < 1
        best = {key[2]: value for key, value in seen[-1].items() if key[:2] == (BEST, device)}
        assert len(best) == 2
        losses = {candidate.loss_bits for candidate in CandidateTable(Folder.at(folder)).read()}
        assert all(any(abs(value - loss) < 1e-9 for loss in losses) for value in best.values())
    best_so_far = r"(macs <[\d.]+ ms: [\de.-]+ ){2}(depth <[\d.]+ ms: [\de.-]+ ){2}"
    line = rf"searching \d+/40 {best_so_far}hypervolume 0\.\d+ 0:00:\d\d left"
    assert len(re.findall(line, told)) > 2, told
    assert answer(f"http://127.0.0.1:{ports['dashboard']}/api/jobs/") == 401  # who has no token is refused
