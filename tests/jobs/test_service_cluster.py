"""The RayService of `kuberay-service.yaml`, started on one machine as its operator starts it: a head, a worker, Serve.

The images are this environment, the volume is a folder. Ports are free ones, and Serve listens on loopback.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exported import Exported
from tests.head import TOKEN, answer, head
from tests.ports import free_port
from tests.waiting import end, wait_for

pytest.importorskip("ray.serve.schema", reason="needs ray[serve]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SERVICE = yaml.safe_load((Path(__file__).parents[2] / "jobs" / "kuberay-service.yaml").read_text())
SPEC = SERVICE["spec"]["rayClusterConfig"]
AGENT, SERVE = 52365, 8000
"""The ports of the probes in the manifest: of each node's agent, and of its HTTP proxy."""


def container_of(group: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return container


def variables_of(group: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container_of(group)["env"]}


@contextmanager
def worker(gcs: int, serve: int) -> Iterator[int]:
    """Start a node of the manifest's group whose HTTP proxy has a port of its own; yields the port of its agent."""
    [group] = SPEC["workerGroupSpecs"]
    agent, cpus = free_port(), container_of(group)["resources"]["limits"]["cpu"]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", f"--address=127.0.0.1:{gcs}"]
    command += [f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}", "--node-ip-address=127.0.0.1"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]  # it is not alone here
    environment = {**os.environ, **TOKEN, **variables_of(group), "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(serve)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield agent
    finally:
        end(process)


def probe(container: dict[str, Any], name: str, agent: int, serve: int) -> int:
    """Return the status that a probe of the manifest gets: without a token, and by the pod's address."""
    asked = container[name]["httpGet"]
    return answer(f"http://127.0.0.1:{({AGENT: agent, SERVE: serve})[asked['port']]}{asked['path']}")


def ask(port: int, path: str, host: str, body: object | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=240) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def test_the_service_starts_as_its_manifest_says_and_its_probes_see_it(exported: Exported) -> None:
    config, port = yaml.safe_load(SERVICE["spec"]["serveConfigV2"]), free_port()
    [application] = config["applications"]
    application["args"]["place"] = str(exported.folder)
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}  # the head's
    cpus = int(SPEC["headGroupSpec"]["rayStartParams"]["num-cpus"])
    ours, first = container_of(SPEC["workerGroupSpecs"][0]), container_of(SPEC["headGroupSpec"])
    with head(cpus, variables_of(SPEC["headGroupSpec"])) as ports, worker(ports["gcs"], port) as agent:
        place = f"http://127.0.0.1:{ports['dashboard']}/api/serve/applications/"
        wait_for(lambda: probe(ours, "livenessProbe", agent, port) == 200, "the worker is not alive", every_s=0.5)
        assert probe(first, "livenessProbe", ports["agent"], port) == 200
        assert probe(first, "readinessProbe", ports["agent"], port) == 200
        assert probe(ours, "readinessProbe", agent, port) == 0, "it has no replica yet, so it gets no requests"

        def serve(method: str, content: object | None = None) -> Any:
            """Ask Ray Serve's interface, as the operator does."""
            headers = {"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}", "Content-Type": "application/json"}
            data = None if content is None else json.dumps(content).encode()
            request = urllib.request.Request(place, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=240) as found:
                return json.loads(found.read() or b"null")

        assert answer(place) in (401, 403), "without the token nobody deploys"
        serve("PUT", config)
        found: dict[str, Any] = {}

        def running() -> bool:
            found.update(serve("GET"))
            proxies = [proxy["status"] for proxy in found["proxies"].values()]
            states = [one["status"] for one in found["applications"].values()]
            return states == ["RUNNING"] and proxies == ["HEALTHY"] * 2

        wait_for(running, lambda: json.dumps(found)[-4000:], every_s=1, seconds=600)
        assert probe(ours, "readinessProbe", agent, port) == 200

        name = f"{SERVICE['metadata']['name']}-serve-svc"
        line = exported.lines[0]
        status, said = ask(port, "/", f"{name}:8000", {"text": line})
        assert (status, list(said)) == (200, ["translation"])
        assert ask(port, "/", f"{name}.default.svc.cluster.local:8000", {"text": line}) == (200, said)
        assert ask(port, "/", "rebound.example", {"text": line})[0] == 403
        assert ask(port, "/-/routes", name)[0] == 200
        assert ask(port, "/-/routes", "rebound.example")[0] == 403, "a path that no ingress sees"
        assert ask(port, "/", name, {"text": "a" * 300_000})[0] == 413
