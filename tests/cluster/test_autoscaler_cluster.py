"""A real autoscaler of the second version, whose nodes are raylets of this machine: work begins without any node.

Ray's own provider of such nodes takes the place of a cloud's. The head has no CPU; two groups of nodes may be started,
one of them the only one with the label of the device that is to be timed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hat_ray.cluster.session import ask_head
from tests.ports import free_port
from tests.waiting import wait_for

HEAD = "f" * 51 + "00000"
TOKEN = "a-token-that-only-this-test-knows-0123456789"
RECIPE = Path(__file__).parents[1] / "pipeline" / "tiny.yaml"
HEAD_GROUP = "ray.head.default"
"""The name that Ray's provider of such nodes gives the head's group."""
GROUPS = {
    HEAD_GROUP: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "servers": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 1},
    "boards": {
        "resources": {"CPU": 1},
        "labels": {"hw": "pi4"},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 1,
    },
}
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
AUTOSCALER = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}


def settings(port: int) -> dict[str, object]:
    """Return the autoscaler's configuration, as `ray up` would have written it."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "head_node_id": HEAD,
        "gcs_address": f"127.0.0.1:{port}",
        "launch_multiple": True,
    }
    commands = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray", "initialization")
    return {
        "cluster_name": "test",
        "provider": provider,
        "available_node_types": GROUPS,
        "head_node_type": HEAD_GROUP,
        "max_workers": 2,
        "upscaling_speed": 20.0,
        "idle_timeout_minutes": 10,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in commands},
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start a head without a CPU, and an autoscaler; yields the head's address."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: a socket's path has 107 bytes
    (home / "autoscaler.json").write_text(json.dumps(settings(port)), encoding="utf-8")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "0"]
    command += ["--port", str(port), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false"]
    command += ["--temp-dir", str(home), "--autoscaling-config", str(home / "autoscaler.json")]
    with open(home / "head.log", "wb") as log:
        process = subprocess.Popen(command, env={**ENVIRONMENT, **AUTOSCALER}, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, (home / "head.log").read_text()
            return ask_head(f"127.0.0.1:{port}", TOKEN).name == "OK"

        wait_for(answers, (home / "head.log").read_text)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=240)
        for one in naming(home):
            os.kill(one, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def naming(folder: Path) -> list[int]:
    """Return the processes whose command names a folder of this test: the nodes that its autoscaler started."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in command.read_bytes():
                found.append(int(command.parent.name))
    return found


def hat_ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hat_ray.cli", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_recipe_goes_from_no_nodes_to_its_report(address: str, tmp_path: Path) -> None:
    run, devices = tmp_path / "run", "latency.devices=[{name: board, labels: {hw: pi4}}]"
    done = hat_ray("run", str(RECIPE), "--address", address, "--run", str(run), "--set", devices)
    assert done.returncode == 0, done.stderr
    assert "training needs 2 CPUs (2 workers), the cluster has 0, room for 0: it waits for nodes" in done.stderr
    assert "waiting for nodes that fit {'name': 'board', 'labels': {'hw': 'pi4'}}" in done.stderr
    assert (run / "report" / "report.html").exists()
    timed = subprocess.run(
        [sys.executable, "-m", "hat_ray.cli", "latency", "show", str(run / "latency" / "table")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "board-" in timed.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_of_no_group_are_not_waited_for(address: str, tmp_path: Path) -> None:
    """Ray itself would wait for ever, and its own status does not say that no group has such nodes."""
    threads, run = "supernet.threads=64", str(tmp_path / "run")
    done = hat_ray("run", str(RECIPE), "--address", address, "--run", run, "--set", threads)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "training needs 128 CPUs" in last
    assert "its autoscaler starts no node for it (see `ray status`)" in last
    assert last.endswith("lower train.workers or train.threads, or add nodes")
