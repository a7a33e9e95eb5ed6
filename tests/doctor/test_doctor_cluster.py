"""`hat-ray doctor --address`: every node of a real cluster answers for itself."""

import json
import os
import subprocess
import sys

import pytest
from ray.cluster_utils import Cluster

from hat_ray.runtime.choice import fastest_runtime
from hat_ray.runtime.protocol import RuntimeSettings

pytestmark = pytest.mark.slow
DOCTOR = [sys.executable, "-m", "hat_ray.cli", "doctor", "--json", "--address"]


def test_every_node_tells_its_device_and_the_open_door_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, labels={"hw": "pi"})
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        done = subprocess.run(
            [*DOCTOR, cluster.address], env=os.environ, capture_output=True, text=True, timeout=240, check=False
        )
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    by_name = {finding["name"]: finding for finding in findings}
    assert by_name["Ray cluster"]["seen"].startswith("3 nodes, 3 CPUs")
    ports = by_name["Ray's ports"]
    assert ports["verdict"] == "advice"
    assert "ask for no token" in ports["seen"]
    assert "RAY_AUTH_MODE=token" in ports["remedy"]
    nodes = [finding["seen"] for finding in findings if finding["name"].startswith("node ")]
    assert len(nodes) == 2
    assert all(f"-1t-{fastest_runtime(RuntimeSettings()).runtime}-fp32" in seen for seen in nodes)
    assert any("labels hw=pi" in seen for seen in nodes)


def test_a_cluster_of_our_own_is_on_loopback_and_refuses_strangers() -> None:
    code = """
from hat_ray.cluster.doctor import examine_cluster
from hat_ray.cluster import session
session.start(1)
print(*[finding for finding in examine_cluster() if finding.name == "Ray's ports"])
session.leave()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert "verdict='good', seen='on loopback; who has no token was refused just now'" in done.stdout, done.stderr


def test_a_cluster_that_does_not_answer_is_missing_with_its_remedy() -> None:
    done = subprocess.run([*DOCTOR, "127.0.0.1:1"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = json.loads(done.stdout)["findings"][-1]
    assert (last["name"], last["verdict"]) == ("Ray cluster", "missing")
    assert "no Ray cluster answers at 127.0.0.1:1" in last["seen"]
