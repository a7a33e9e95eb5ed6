"""What stands in jobs/ beside the scripts: manifests that their tools accept, and a dashboard of metrics that exist."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

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


@pytest.mark.parametrize("script", sorted(path.name for path in JOBS.glob("*.py") if path.name != "stage.py"))
def test_the_readme_names_every_script(script: str) -> None:
    assert f"`{script}`" in (JOBS / "README.md").read_text()
