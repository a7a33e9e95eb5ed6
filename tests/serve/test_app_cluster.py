"""The application by its import path, as Ray Serve's own commands and KubeRay's RayService name it."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.exported import Exported
from tests.ports import free_port
from tests.waiting import end, wait_for

serve_schema = pytest.importorskip("ray.serve.schema", reason="needs ray[serve]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SERVE = [sys.executable, "-m", "ray.serve.scripts"]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}


@dataclass(frozen=True)
class Cluster:
    gcs: str
    port: int
    environment: dict[str, str]
    folder: Path

    def ask(self, path: str, body: object | None = None, host: str = "localhost") -> tuple[int, dict[str, object]]:
        """POST a body, or GET without one."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        try:
            method = "GET" if body is None else "POST"
            client.request(method, path, None if body is None else json.dumps(body), {"Host": host})
            answer = client.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.startswith(b"{") else {}
        finally:
            client.close()

    def replicas(self, app: str) -> int:
        """Count the processes that translate for an application, by their titles."""
        found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, timeout=240, check=True).stdout
        return sum(line.startswith(f"ray::ServeReplica:{app}:replica") for line in found.splitlines())

    def run(self, *arguments: str, **variables: str) -> str:
        environment = {**self.environment, **variables}
        done = subprocess.run(
            [*SERVE, *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head on loopback that asks for a token, and on which nothing of hat-ray runs."""
    ports = [free_port(), free_port()]
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    environment = {**os.environ, **TOKEN, "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "8"]
    command += ["--port", str(ports[0]), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false"]
    log = folder / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--temp-dir", str(folder / "r")], env=environment, stdout=stream, stderr=stream
        )
    one = Cluster(f"127.0.0.1:{ports[0]}", ports[1], environment, folder)
    try:
        until(lambda: "Ray runtime started" in log.read_text(errors="replace"), log)
        yield one
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def until(happened: Callable[[], bool], log: Path) -> None:
    wait_for(happened, lambda: log.read_text(errors="replace")[-4000:], every_s=0.3)


def test_what_serve_build_writes_and_an_application_by_arguments_answer(cluster: Cluster, exported: Exported) -> None:
    """As RayService does it: `serve build` writes the YAML, the cluster builds the applications by their paths."""
    path, arguments = "hat_ray.cluster.serve:application", {"place": str(exported.folder), "max_texts": 3}
    variables = {"HAT_RAY_SERVE_ARGS": json.dumps(arguments)}
    built = cluster.folder / "built.yaml"
    cluster.run("build", path, "-o", str(built), **variables)
    config = yaml.safe_load(built.read_text())
    [application] = config["applications"]
    assert application["import_path"] == path
    assert {each["name"] for each in application["deployments"]} == {"replica", "ingress"}

    application |= {"name": "built", "route_prefix": "/built", "runtime_env": {"env_vars": variables}}
    scaling = {"max_replicas": 2, "target_ongoing_requests": 1, "upscale_delay_s": 0, "downscale_delay_s": 600}
    by_arguments = {
        "name": "scaled",
        "route_prefix": "/scaled",
        "import_path": "hat_ray.cluster.serve:app",
        "args": {"place": str(exported.folder), **scaling},
    }
    config |= {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": cluster.port},
        "applications": [application, by_arguments],
    }
    serve_schema.ServeDeploySchema.model_validate(config)
    service = cluster.folder / "service.yaml"
    service.write_text(yaml.safe_dump(config))
    log = cluster.folder / "run.log"
    with log.open("wb") as stream:
        command = [*SERVE, "run", str(service), "--address", cluster.gcs]
        process = subprocess.Popen(
            command, env=cluster.environment, cwd=cluster.folder, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: _answers(cluster, "/built"), log)
        until(lambda: _answers(cluster, "/scaled"), log)
        line = exported.lines[0]
        status, said = cluster.ask("/built", {"text": line})
        assert (status, list(said)) == (200, ["translation"])
        assert cluster.ask("/scaled", {"text": line}) == (200, said)
        assert cluster.ask("/built", {"texts": [line] * 4})[0] == 413, "its own max_texts"
        assert cluster.ask("/scaled", {"texts": [line] * 4})[0] == 200
        assert cluster.ask("/scaled", {"text": line}, host="rebound.example")[0] == 403, "proxies are not ours here"
        assert cluster.ask("/built/openapi.json")[1]["servers"] == [{"url": "/built"}]
        assert cluster.replicas("scaled") == 1
        _load_until(cluster, list(exported.lines), lambda: cluster.replicas("scaled") == 2, log)
        _one_command(cluster, exported, said)
    finally:
        process.terminate()
        process.wait(timeout=240)


def _one_command(cluster: Cluster, exported: Exported, said: dict[str, object]) -> None:
    """`serve run` with arguments as a command line writes them: each a string."""
    arguments = [f"place={exported.folder}", "threads=1", "wait_ms=0", "allowed_hosts=mt.example,other.example"]
    options = ["--name", "third", "--route-prefix", "/third", "--address", cluster.gcs, "--non-blocking"]
    cluster.run("run", "hat_ray.cluster.serve:app", *arguments, *options)
    line = exported.lines[0]
    assert cluster.ask("/third", {"text": line}, host="other.example") == (200, said)
    assert cluster.ask("/third", {"text": line}, host="rebound.example")[0] == 403


def _answers(cluster: Cluster, route: str) -> bool:
    try:
        return cluster.ask(f"{route}/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _load_until(cluster: Cluster, lines: list[str], happened: Callable[[], bool], log: Path) -> None:
    """Send requests with eight clients until something happens; all are answered."""
    over = threading.Event()

    def client(number: int) -> set[int]:
        statuses = set()
        while not over.is_set():
            texts = [lines[(number + step) % len(lines)] for step in range(30)]
            statuses.add(cluster.ask("/scaled", {"texts": texts})[0])
        return statuses

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        try:
            until(happened, log)
        finally:
            over.set()
    assert set().union(*(one.result() for one in clients)) == {200}
