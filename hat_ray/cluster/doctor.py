"""Examine a Ray cluster: its nodes, hat-ray on each of them, its ports and its dashboard."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import grpc
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import hat_ray
from hat_ray.cluster import session
from hat_ray.cluster.placement import Placement
from hat_ray.cluster.timing.kinds import cluster_nodes
from hat_ray.core.placement import VERBS, ClusterConfig, Work
from hat_ray.doctor.gpus import HOW_TO_GET_GPUS, torch_build
from hat_ray.doctor.result import DoctorResult
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.fleet.plan import Node

_ANSWER_S = 60.0
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def examine_cluster(config: ClusterConfig | None = None) -> Iterator[DoctorResult]:
    """Look at the cluster that this process is connected to, with a recipe's rules about its nodes."""
    nodes = cluster_nodes()
    cpus = sum(node.num_cpus for node in nodes)
    yield DoctorResult("Ray cluster", "good", f"{len(nodes)} nodes, {cpus} CPUs, Ray {ray.__version__}")
    yield _ports()
    yield _dashboard()
    asked = [(node, _ask(node), _ask_of_gpu(node)) for node in nodes if node.num_cpus >= 1]
    left_out = Placement(config or ClusterConfig()).left_out()
    for node, answer, of_gpu in asked:
        reasons = {work: out[node.id] for work, out in left_out.items() if node.id in out}
        yield _node(node, answer, of_gpu, _does(reasons))


def _ports() -> DoctorResult:
    """Report who may use the cluster's ports: where they are, and whether a request without a token is refused."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    addresses = sorted({str(node["NodeManagerAddress"]) for node in nodes if node["Alive"]})
    here = all(ip_address(address).is_loopback for address in addresses)
    where = "on loopback" if here else f"at {', '.join(addresses[:8])}"
    answered = _answers_strangers(str(ray.get_runtime_context().gcs_address))
    if answered is None:
        remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN on every node before `ray start`"
        return DoctorResult("Ray's ports", "advice", f"{where}; whether they ask for a token is unknown", remedy)
    if not answered:
        return DoctorResult("Ray's ports", "good", f"{where}; who has no token was refused just now")
    who = "every program of this machine" if here else "every program that reaches them"
    remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN on every node before `ray start`"
    return DoctorResult(
        "Ray's ports", "advice", f"{where}, and ask for no token: {who} may run code on the cluster", remedy
    )


def _answers_strangers(address: str) -> bool | None:
    """Ask the cluster something without a token; None where neither an answer nor a refusal came."""
    code = session.ask_head(address, token=None)
    if code == grpc.StatusCode.OK:
        return True
    return False if session.refused(code) else None


def _dashboard() -> DoctorResult:
    url = session.dashboard_url()
    if not url:
        return DoctorResult(
            "dashboard", "advice", "none", "start the head with `ray start --head --dashboard-host=127.0.0.1`"
        )
    if url.rpartition(":")[0].removeprefix("http://") not in _LOOPBACK:
        remedy = "start the head with --dashboard-host=127.0.0.1, and reach it through `ssh -L 8265:127.0.0.1:8265`"
        return DoctorResult("dashboard", "advice", f"{url}, which others may reach: it runs code for them", remedy)
    return DoctorResult("dashboard", "good", f"http://{url.removeprefix('http://')}, on loopback")


def _ask(node: Node) -> Any:
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return _describe.options(scheduling_strategy=here).remote()


def _ask_of_gpu(node: Node) -> Any:
    """Ask for the device that one of a node's GPUs is; None where Ray counts none. Ray hides GPUs from other tasks."""
    if node.resources.get("GPU", 0) < 1:
        return None
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return _describe.options(scheduling_strategy=here, num_gpus=1).remote()


@dataclass(frozen=True)
class _Answer:
    """What a node says of itself."""

    version: str
    slug: str
    on_gpu: bool
    torch_build: str


@ray.remote(num_cpus=0, max_retries=0)
def _describe() -> _Answer:
    """Return the version of hat-ray on a node, and its device."""
    device = device_of(LatencyConfig())
    return _Answer(hat_ray.__version__, device.slug, bool(device.accelerator), torch_build())


def _gpu_of(node: Node, answer: Any) -> tuple[str, str, str]:
    """Return a GPU's slug, or where it has none an observation and its remedy; empty where Ray counts no GPU."""
    if answer is None:
        return "", "", ""
    try:
        found: _Answer = ray.get(answer, timeout=_ANSWER_S)
    except GetTimeoutError:
        ray.cancel(answer)
        return "", f"no GPU answered within {_ANSWER_S:g} s", "ask again when its GPUs are free of other work"
    except RayError as error:
        return "", str(error).strip().splitlines()[-1], HOW_TO_GET_GPUS
    if found.on_gpu:
        return found.slug, "", ""
    return "", f"none that torch sees: {found.torch_build}", f"on {node.host}, {HOW_TO_GET_GPUS}"


def _does(left_out: Mapping[Work, str]) -> str:
    """Return which kinds of work a node does, and why not the others."""
    if len(left_out) == len(VERBS) and len(set(left_out.values())) == 1:
        return f"times only: {next(iter(left_out.values()))}"
    does = ", ".join(verb for work, verb in VERBS.items() if work not in left_out)
    return (f"{does} and times" if does else "times") + "".join(
        f"; does not {work}: {why}" for work, why in left_out.items()
    )


def _node(node: Node, answer: Any, of_gpu: Any, does: str) -> DoctorResult:
    name = f"node {node.host}"
    labels = ", ".join(f"{key}={value}" for key, value in node.labels.items() if not key.startswith("ray.io/"))
    try:
        found: _Answer = ray.get(answer, timeout=_ANSWER_S)
    except GetTimeoutError:
        remedy = "look at its logs on the dashboard; is it out of memory?"
        return DoctorResult(name, "missing", f"no answer within {_ANSWER_S:g} s", remedy)
    except RayError as error:
        why = str(error).strip().splitlines()[-1]
        return DoctorResult(name, "missing", why, "install hat-ray there, with the versions of constraints.txt")
    gpu, lacking, remedy = _gpu_of(node, of_gpu)
    gpus = f", {node.resources['GPU']:g} GPUs by Ray's count" if of_gpu is not None else ""
    detail = f"{node.num_cpus:g} CPUs{gpus}, device {gpu or found.slug}" + (f", labels {labels}" if labels else "")
    detail += f"; {does}"
    if found.version != hat_ray.__version__:
        how = f"install {hat_ray.__version__} there"
        return DoctorResult(name, "missing", f"{detail}; hat-ray {found.version}", how)
    if lacking:
        return DoctorResult(name, "advice", f"{detail}; GPU: {lacking}", remedy)
    return DoctorResult(name, "good", detail)
