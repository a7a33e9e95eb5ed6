"""A job on a cluster, from outside: what Ray's Prometheus endpoint shows of it, and how `ray job stop` ends it."""

import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hat_ray.api import run_recipe
from hat_ray.cluster.metrics import (
    STAGE_DONE,
    STAGE_TOTAL,
    TIMING_DONE,
    TIMING_NODES,
    TIMING_QUEUE,
    TIMING_UTILISATION,
)
from hat_ray.recipe import load_recipe
from tests.head import TOKEN, head
from tests.pipeline.conftest import TINY
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SCRIPT = Path(__file__).parents[2] / "jobs" / "stage.py"
SAMPLES = 500
SETTINGS = [f"latency.samples={SAMPLES}", "latency.visits=1", "latency.calibration_s=0", "latency.canary_tolerance=50"]


def scrape(port: int) -> dict[tuple[str, str], float]:
    """Return (metric, last part of its `run`) -> value, from the node's endpoint, once it is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as found:
            families = list(text_string_to_metric_families(found.read().decode()))
    except OSError:
        return {}
    return {
        (sample.name.removeprefix("ray_"), sample.labels["run"].rpartition("/")[2]): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("ray_hat_ray_")
    }


def test_a_job_shows_its_stage_and_devices_and_its_last_line_says_how_to_resume(tmp_path: Path) -> None:
    run = tmp_path / "timed"
    run_recipe(load_recipe(TINY, SETTINGS), str(run), local=True, only="corpus")
    words = [str(SCRIPT), "latency", "measure", "--recipe", TINY, "--run", str(run)]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    with head() as ports:

        def job(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments],
                env={**os.environ, **TOKEN, "RAY_ADDRESS": f"http://127.0.0.1:{ports['dashboard']}"},
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        job("submit", "--no-wait", "--submission-id", "timing", "--", sys.executable, *words)
        found: dict[tuple[str, str], float] = {}

        def under_way() -> bool:
            found.clear()
            found.update(scrape(ports["metrics"]))
            return found.get((TIMING_DONE, "table"), 0) >= 1 and found.get((STAGE_DONE, "timed"), 0) >= 1

        wait_for(under_way, lambda: f"the endpoint shows {found}; {job('logs', 'timing')}", seconds=600, every_s=0.5)
        assert 1 <= found[STAGE_TOTAL, "timed"] <= SAMPLES  # it grows by rounds
        assert 0 <= found[TIMING_QUEUE, "table"] <= SAMPLES
        assert found[TIMING_NODES, "table"] == 1
        assert 0 < found[TIMING_UTILISATION, "table"] <= 1
        job("stop", "timing")
        said = job("logs", "timing")
    command = shlex.join(["python", *words])
    assert said.rstrip().splitlines()[-1] == f"hat-ray: stopped by SIGTERM: submit `{command}` again to resume"
    assert "Traceback" not in said
