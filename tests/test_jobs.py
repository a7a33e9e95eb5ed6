"""What stands in jobs/ beside the scripts: manifests that their tools accept, and a dashboard of metrics that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer
import yaml

from hat_ray.cli import app
from hat_ray.cluster import population as search
from hat_ray.cluster import train_status as train

JOBS = Path(__file__).parents[1] / "jobs"


def test_the_cluster_file_fits_rays_own_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = yaml.safe_load((JOBS / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    for start in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in cluster[start][-1]
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]


def test_the_kubernetes_job_has_unlike_workers_a_token_and_whole_cpus() -> None:
    job = yaml.safe_load((JOBS / "kuberay.yaml").read_text())
    spec = job["spec"]["rayClusterSpec"]
    assert job["kind"] == "RayJob"
    assert spec["authOptions"]["mode"] == "token"
    labels = [group["rayStartParams"]["labels"] for group in spec["workerGroupSpecs"]]
    assert len(set(labels)) == len(labels) == 3
    for group in spec["workerGroupSpecs"]:
        [container] = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"], "else its CPUs are shared"
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert container["volumeMounts"][0]["mountPath"] in job["spec"]["entrypoint"]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads((JOBS / "grafana.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    told = {re.fullmatch(r'ray_(hat_ray_\w+)\{run=~"\$run"\}', expression).group(1) for expression in shown}
    assert told == {*train.METRICS, *search.METRICS}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("script", sorted(path.name for path in JOBS.glob("*.py")))
def test_the_readme_names_every_script(script: str) -> None:
    assert f"`{script}" in (JOBS / "README.md").read_text()


COMMANDS = re.findall(
    r"`([a-z ]+)`", (JOBS / "README.md").read_text().partition("| `stage.py COMMAND` |")[2].split("\n")[0]
)


def job(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=JOBS.parent, capture_output=True, text=True, timeout=240, check=False
    )


def test_every_command_of_the_readme_is_one_that_a_job_can_run() -> None:
    root = typer.main.get_command(app)
    assert len(COMMANDS) == 12
    for command in COMMANDS:
        found: Any = root
        for word in command.split():
            found = found.commands[word]
        if hasattr(found, "first_command"):  # that of a group needs no name
            found = found.commands[found.first_command]
        options = {option for parameter in found.params for option in parameter.opts}
        assert "--run" in options and {"recipe", "runs", "place"} & options, command  # noqa: PT018


def test_a_stage_as_a_job_reaches_the_command_and_its_options(tmp_path: Path) -> None:
    done = job("jobs/stage.py", "latency", "measure", "--recipe", "toyy", "--run", str(tmp_path), "--local")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no recipe is called 'toyy'" in done.stderr
    done = job("jobs/stage.py", "search", "--recipe", "toy", "--run", str(tmp_path), "--sett", "a=1")
    assert done.returncode == 2
    assert "--sett" in done.stderr


def test_a_job_without_a_command_a_recipe_or_a_lasting_folder_is_refused() -> None:
    for words in (["stage.py", "--recipe", "toy", "--run", "/r"], ["stage.py", "search", "--recipe", "toy"]):
        done = job(f"jobs/{words[0]}", *words[1:])
        assert done.returncode == 1
        assert "usage: jobs/stage.py COMMAND --recipe NAME --run" in done.stderr
    done = job("jobs/run_pipeline.py", "--recipe", "toy", "--run", "runs/toy")
    assert done.returncode == 1
    assert "--run must be an absolute path or a URI" in done.stderr
