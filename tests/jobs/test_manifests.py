"""The manifests of KubeRay and of `ray up`, read as Ray's autoscaler, its AWS provider, Ray Serve and hat-ray do."""

import copy
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from hat_ray.cluster.serve import rules_of
from hat_ray.recipe import Recipe, load_recipe, shipped_recipes
from hat_ray.serve.config import ServeArgs
from hat_ray.serve.guard import Rules
from hat_ray.serve.requests import RefusedError
from tests.parsing import parse

serve_schema = pytest.importorskip("ray.serve.schema", reason="needs ray[serve]")
ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RECIPES = shipped_recipes()


def manifest(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((JOBS / name).read_text(encoding="utf-8"))
    return read


JOB, SERVICE, VOLUME = (manifest(name) for name in ("kuberay.yaml", "kuberay-service.yaml", "kuberay-volume.yaml"))
CLUSTER = manifest("cluster.yaml")
RAY_CLUSTERS = {"RayJob": JOB["spec"]["rayClusterSpec"], "RayService": SERVICE["spec"]["rayClusterConfig"]}
KINDS = sorted(RAY_CLUSTERS)


def pods(kind: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each group of nodes and its container."""
    spec = RAY_CLUSTERS[kind]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group, group["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("document", [JOB, SERVICE], ids=lambda document: document["kind"])
def test_a_kubernetes_manifest_has_fields_that_its_operator_knows(document: dict[str, Any]) -> None:
    jsonschema.validate(document, yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text()))


def test_two_manifests_make_no_service_of_one_name_and_no_merge_keys() -> None:
    """The head's service is called by the manifest's name; strict readers of YAML refuse a key that a merge repeats."""
    assert JOB["metadata"]["name"] != SERVICE["metadata"]["name"]
    assert not [path.name for path in JOBS.glob("*.yaml") if "<<:" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("kind", KINDS)
def test_pods_have_whole_cpus_the_shared_volume_one_user_and_one_version(kind: str) -> None:
    spec = RAY_CLUSTERS[kind]
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    user = re.search(r"^USER (\d+):(\d+)$", (JOBS / "Dockerfile").read_text(), re.MULTILINE)
    for group, container in pods(kind):
        pod = group["template"]["spec"]
        assert container["resources"]["limits"] == container["resources"]["requests"], "else its CPUs are shared"
        assert container["image"].rpartition(":")[2] in (VERSION, f"{VERSION}-cuda")
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == container["image"].endswith("-cuda")
        assert [pod["securityContext"][key] for key in ("runAsUser", "runAsGroup")] == [int(user[1]), int(user[2])]
        claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert [claims[mount["name"]] for mount in container["volumeMounts"]] == [VOLUME["metadata"]["name"]]
    assert VOLUME["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_autoscaler_reads_the_groups(kind: str) -> None:
    groups = groups_of(kind)
    named = [json.dumps(group["labels"]) for name, group in groups.items() if name != "headgroup"]
    assert len(set(named)) == len(named) == {"RayJob": 3, "RayService": 1}[kind]
    assert groups["headgroup"]["resources"]["CPU"] == 0, "what is timed or trained there disturbs the drivers"
    for group in RAY_CLUSTERS[kind]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def groups_of(kind: str) -> dict[str, Any]:
    """Return what Ray's autoscaler makes of a manifest: the resources, labels and most nodes of each group."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    document = {"metadata": {"name": "test", "namespace": "default"}, "spec": RAY_CLUSTERS[kind]}
    read = autoscaling_config._derive_autoscaling_config_from_ray_cr(document)
    groups: dict[str, Any] = read["available_node_types"]
    return groups


@pytest.mark.parametrize("name", RECIPES)
def test_the_groups_hold_every_recipes_trainings(name: str) -> None:
    recipe = load_recipe(name)
    assert fit(recipe, groups_of("RayJob"))
    assert fit(recipe, CLUSTER["available_node_types"])


def fit(recipe: Recipe, groups: dict[str, Any]) -> bool:
    """Return whether all workers of both trainings find room at once."""

    def room(resources: dict[str, float], need: dict[str, int]) -> int:
        return min(int(resources.get(name, 0) // count) for name, count in need.items())

    for training in (recipe.supernet, recipe.retrain):
        need = {"CPU": training.threads, **({"GPU": 1} if training.use_gpu else {})}
        places = sum(
            group["max_workers"] * room(group["resources"], need) for group in groups.values() if "max_workers" in group
        )
        if places < training.workers:
            return False
    return True


def test_the_jobs_command_is_one_and_its_run_is_on_the_volume() -> None:
    command, *words = shlex.split(JOB["spec"]["entrypoint"])
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    read = parse(words)
    recipe, groups = load_recipe(read["recipe"]), groups_of("RayJob")
    assert fit(recipe, groups)
    groups["gpu"]["max_workers"] -= 1
    assert not fit(recipe, groups), "the group has as many GPUs as its recipe trains with"
    mounts = [mount["mountPath"] for _, container in pods("RayJob") for mount in container["volumeMounts"]]
    assert {Path(mount) in Path(read["run"]).parents for mount in mounts} == {True}


def test_the_service_is_one_that_ray_serve_and_the_volume_have() -> None:
    config = serve_schema.ServeDeploySchema.model_validate(yaml.safe_load(SERVICE["spec"]["serveConfigV2"]))
    [application] = config.applications
    arguments = ServeArgs.model_validate(application.args)
    assert callable(resolve_name(application.import_path))
    port = config.http_options.port
    [group] = RAY_CLUSTERS["RayService"]["workerGroupSpecs"]
    [(_, head), (_, worker)] = pods("RayService")
    for container in (head, worker):
        assert {"name": "serve", "containerPort": port} in container["ports"]
        assert [Path(mount["mountPath"]) in Path(arguments.place).parents for mount in container["volumeMounts"]] == [
            True
        ]
    assert worker["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": port}
    assert {"gcs-server", "dashboard"} < {one["name"] for one in head["ports"]}, "the operator adds none beside `serve`"
    replicas = groups_of("RayService")[group["groupName"]]["resources"]["CPU"] // arguments.threads
    assert arguments.most_replicas <= replicas * group["maxReplicas"]
    assert arguments.replicas <= replicas * group["minReplicas"]


def test_the_service_and_its_proxies_answer_to_the_name_that_kubernetes_gives_it() -> None:
    [application] = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])["applications"]
    arguments = ServeArgs.model_validate(application["args"])
    for _, container in pods("RayService"):
        variables = {one["name"]: one["value"] for one in container["env"]}
        assert Rules(**json.loads(variables["HAT_RAY_SERVE_RULES"])) == as_read(rules_of(arguments))
        assert callable(resolve_name(variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]))
    service = f"{SERVICE['metadata']['name']}-serve-svc"
    rules = rules_of(arguments)
    for host in (service, f"{service}.default", f"{service}.default.svc", f"{service}.default.svc.cluster.local"):
        rules.check_head({"host": f"{host}:8000"})
    rules.check_head({"host": "10.0.3.7:8000"})  # probes of Kubernetes
    with pytest.raises(RefusedError):
        rules.check_head({"host": "rebound.example"})


def as_read(rules: Rules) -> Rules:
    return Rules(**json.loads(rules.to_json()))


def test_the_cluster_file_fits_rays_own_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)
    assert CLUSTER["head_node_type"] in CLUSTER["available_node_types"]
    for start in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in CLUSTER[start][-1]
    assert "--dashboard-host=127.0.0.1" in CLUSTER["head_start_ray_commands"][-1]
    commands = [command for key, value in CLUSTER.items() if key.endswith("_commands") for command in value]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=60)


def test_rays_aws_provider_starts_every_group_with_a_fitting_image_and_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On moto's EC2 and IAM, which know the architecture, CPUs and GPUs of each type of machine."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("HOME", str(tmp_path))  # it writes a key for ssh
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    region = CLUSTER["provider"]["region"]
    with mock_aws():
        iam, ec2 = boto3.client("iam", region), boto3.client("ec2", region)
        for name in ("hat-ray-head", "hat-ray-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        config = bootstrap_aws(prepare_config(copy.deepcopy(CLUSTER)))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, group in config["available_node_types"].items():
            kind = "head" if name == config["head_node_type"] else "worker"
            tags = {"ray-node-type": kind, "ray-user-node-type": name}
            [started] = provider.create_node(copy.deepcopy(group["node_config"]), tags, 1).values()
            assert started.iam_instance_profile["Arn"].endswith(f"/hat-ray-{kind}"), "else it cannot reach the bucket"
            assert started.image_id == CLUSTER["available_node_types"][name]["node_config"]["ImageId"]
            [machine] = ec2.describe_instance_types(InstanceTypes=[started.instance_type])["InstanceTypes"]
            architecture = re.search(r"/(amd64|x86_64|arm64)/", started.image_id)[1].replace("amd64", "x86_64")
            assert machine["ProcessorInfo"]["SupportedArchitectures"] == [architecture]
            gpus = sum(gpu["Count"] for gpu in machine.get("GpuInfo", {}).get("Gpus", ()))
            assert group["resources"].get("GPU", 0) == gpus
            assert ("nvidia" in started.image_id) == bool(gpus)
            assert group["resources"]["CPU"] in (machine["VCpuInfo"]["DefaultVCpus"], 0)
    assert CLUSTER["max_workers"] == sum(
        group.get("max_workers", 0) for group in CLUSTER["available_node_types"].values()
    )
