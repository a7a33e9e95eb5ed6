"""Who answers at a cluster's address is told by its true cause."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ray._private.utils import check_version_info, compute_version_info

from hat_ray.cluster.session import other_version, require_ray
from hat_ray.errors import HatRayError
from tests.ports import free_port
from tests.waiting import wait_for

TOKEN = "a-token-that-only-this-test-knows-0123456789"
RECIPE = str(Path(__file__).parents[1] / "pipeline" / "tiny.yaml")


def asked(port: int, timeout_s: float = 10.0) -> str:
    """Return why the question at a port is not answered."""
    with pytest.raises(HatRayError) as told:
        require_ray(f"127.0.0.1:{port}", timeout_s)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_another_service_is_no_ray_head() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert "it is no Ray head" in asked(server.server_port)
        finally:
            server.shutdown()
            thread.join(240)


def test_a_listener_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "answered no question of Ray's within 0.5 s" in asked(server.getsockname()[1], timeout_s=0.5)


def test_another_version_is_told_with_both() -> None:
    ray_version, python_version, *_ = compute_version_info()
    with pytest.raises(RuntimeError) as error:
        check_version_info({"ray_version": "2.1.0", "python_version": python_version}, "node 10.0.0.1:1")
    told = str(other_version(error.value, "10.0.0.1:6379"))
    assert f"Ray: 2.1.0 Python: {python_version}, here are Ray: {ray_version}" in told
    assert "\n" not in told
    assert other_version(RuntimeError("scoring failed"), "10.0.0.1:6379") is None


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Start a Ray head that asks for a token; yields its address."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: a socket's path has 107 bytes
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "1"]
    command += ["--port", str(port), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false"]
    command += ["--temp-dir", str(home)]
    environment = {**with_token(TOKEN), "RAY_NODE_TYPE_NAME": "head.default"}  # as an autoscaler starts its nodes
    with open(home / "head.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:

        def joined() -> bool:
            assert process.poll() is None, (home / "head.log").read_text()
            command, environment = joining(f"127.0.0.1:{port}"), with_token(TOKEN)
            return (
                subprocess.run(command, env=environment, capture_output=True, timeout=240, check=False).returncode == 0
            )

        wait_for(joined, (home / "head.log").read_text)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=240)
        shutil.rmtree(home, ignore_errors=True)


def joining(address: str) -> list[str]:
    code = "import sys; from hat_ray.cluster import session; session.join(sys.argv[1]); print('joined')"
    return [sys.executable, "-c", code, address]


@pytest.mark.slow
def test_a_cluster_whose_nodes_an_autoscaler_named_may_grow(head: str) -> None:
    """One that `ray start` began may not: test_train_cluster.py asks it for more than it has."""
    code = (
        "import sys; from hat_ray.cluster import growth, session; session.join(sys.argv[1]);"
        "print(growth.may_grow(), session.dashboard_url() == '')"
    )
    command = [sys.executable, "-c", code, head]
    done = subprocess.run(command, env=with_token(TOKEN), capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == "True True\n", done.stderr


def with_token(token: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    mode = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return {**kept, **mode, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "words"),
    [("another-token-of-the-same-length-0123456789", "refused the one in RAY_AUTH_TOKEN"), (None, "none was shown")],
)
def test_a_wrong_token_is_told_as_one(head: str, tmp_path: Path, token: str | None, words: str) -> None:
    command = [sys.executable, "-m", "hat_ray.cli", "run", RECIPE, "--address", head, "--run", str(tmp_path / "run")]
    done = subprocess.run(command, env=with_token(token), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hat-ray: error: the Ray cluster at {head} lets in who has its token, and ")
    assert words in line
    assert not (tmp_path / "run").exists()
