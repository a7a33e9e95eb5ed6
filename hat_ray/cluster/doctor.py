"""Examine a Ray cluster: its nodes, hat-ray on each of them, its ports and its dashboard."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import grpc
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import hat_ray
from hat_ray.cluster import session
from hat_ray.cluster.timing.kinds import cluster_nodes
from hat_ray.doctor.result import DoctorResult
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.fleet import Node

_ANSWER_S = 60.0
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def examine_cluster() -> Iterator[DoctorResult]:
    """Look at the cluster that this process is connected to."""
    nodes = cluster_nodes()
    cpus = sum(node.num_cpus for node in nodes)
    yield DoctorResult("Ray cluster", "good", f"{len(nodes)} nodes, {cpus} CPUs, Ray {ray.__version__}")
    yield _ports()
    yield _dashboard()
    asked = [(node, _ask(node)) for node in nodes if node.num_cpus >= 1]
    for node, answer in asked:
        yield _node(node, answer)


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


@ray.remote(num_cpus=0, max_retries=0)
def _describe() -> tuple[str, str]:
    """Return the version of hat-ray on a node, and its device."""
    return hat_ray.__version__, device_of(LatencyConfig()).slug


def _node(node: Node, answer: Any) -> DoctorResult:
    name = f"node {node.host}"
    labels = ", ".join(f"{key}={value}" for key, value in node.labels.items() if not key.startswith("ray.io/"))
    try:
        version, slug = ray.get(answer, timeout=_ANSWER_S)
    except GetTimeoutError:
        remedy = "look at its logs on the dashboard; is it out of memory?"
        return DoctorResult(name, "missing", f"no answer within {_ANSWER_S:g} s", remedy)
    except RayError as error:
        why = str(error).strip().splitlines()[-1]
        return DoctorResult(name, "missing", why, "install hat-ray there, with the versions of constraints.txt")
    detail = f"{node.num_cpus:g} CPUs, device {slug}" + (f", labels {labels}" if labels else "")
    if version != hat_ray.__version__:
        remedy = f"install {hat_ray.__version__} there"
        return DoctorResult(name, "missing", f"{detail}; hat-ray {version}", remedy)
    return DoctorResult(name, "good", detail)
