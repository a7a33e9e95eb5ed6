"""A whole recipe on a real Ray cluster of three raylets: two of them are unlike devices."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.api import run_recipe
from hat_ray.latency.table.table import read_table
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.storage.folder import Folder
from tests.head import TOKEN, head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
TINY = str(Path(__file__).parent / "tiny.yaml")
DEVICES = "latency.devices=[{name: board, labels: {hw: board}}, {name: server, resource: server}]"


@pytest.fixture
def three_raylets() -> Iterator[str]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, labels={"hw": "board"})
        cluster.add_node(num_cpus=1, resources={"server": 1})
        cluster.wait_for_nodes(timeout=240)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_every_stage_runs_on_three_raylets_with_two_devices(three_raylets: str, tmp_path: Path):
    recipe = load_recipe(TINY, [DEVICES, "search.workers=3"])
    records = run_recipe(recipe, str(tmp_path / "r"), address=three_raylets)
    summaries = {record.stage: record.output for record in records}
    devices = summaries["latency"]["devices"]
    assert sorted(entry["device"]["name"] for entry in devices.values()) == ["board", "server"]
    for slug in devices:
        rows = read_table(Folder.at(tmp_path / "r" / "latency" / "table"), device=slug)
        assert len(rows) == len({row.architecture for row in rows}) >= recipe.latency.samples
    rounds = (
        recipe.search.refine_rounds + 1
    )  # one more follows where a timing session moved the rows' scale in the last
    more = rounds * recipe.search.evaluations_refining
    assert recipe.search.evaluations <= summaries["search"]["scored"] <= recipe.search.evaluations + more
    winners = summaries["search"]["winners"]  # timed on their own device, within the search
    assert {winner["limit"]["device"] for winner in winners} == set(devices)
    assert all(winner["measured_ms"] <= winner["limit"]["bounds"]["latency_ms"] for winner in winners)
    data = read_report(Folder.at(tmp_path / "r" / "report"))
    assert len(data.devices) == 2
    for model in data.chosen:
        assert set(model.latency) == set(devices)
        assert all(latency.measured_ms for latency in model.latency.values())


@pytest.fixture
def job_server() -> Iterator[str]:
    """Start a Ray head with its dashboard on loopback, as a process of its own; yields the job server's address."""
    with head(cpus=3) as ports:
        yield f"http://127.0.0.1:{ports['dashboard']}"


def submit(address: str, *arguments: str, token: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", address, "--working-dir", "."]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= TOKEN if token is None else token
    return subprocess.run(
        [*command, "--", sys.executable, "jobs/run_pipeline.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_a_submitted_job_does_the_whole_recipe_and_a_failing_stage_fails_it(job_server: str, tmp_path: Path):
    place = tmp_path / "runs" / "tiny"
    recipe = "tests/pipeline/tiny.yaml"
    done = submit(job_server, "--recipe", recipe, "--run", str(place))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "report" / "report.html").is_file()
    assert json.loads((place / "report" / "stage.json").read_text())["stage"] == "report"

    failing = submit(job_server, "--recipe", recipe, "--run", str(place), "--set", "search.limits_ms=[0.001]")
    assert failing.returncode != 0
    told = [line for line in (failing.stdout + failing.stderr).splitlines() if "hat-ray: error:" in line]
    assert len(set(told)) == 1  # Ray shows a failed job's last lines twice
    assert "the fastest architecture timed so far takes" in told[0]

    stranger = submit(job_server, "--recipe", recipe, "--run", str(place), token={"RAY_AUTH_MODE": "disabled"})
    assert stranger.returncode != 0
    assert "Authentication required" in stranger.stdout + stranger.stderr

    relative = submit(job_server, "--recipe", recipe, "--run", "runs/x")
    assert relative.returncode != 0
    assert "absolute path or a URI" in relative.stdout + relative.stderr
