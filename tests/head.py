"""A Ray head that `ray start` starts, with dashboard, metrics and token, as a cluster has them."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.waiting import end, wait_for

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def head(cpus: int = 2, variables: Mapping[str, str] | None = None) -> Iterator[dict[str, int]]:
    """Start a head on loopback, with more variables in its environment; yields its ports."""
    ports = {name: free_port() for name in ("gcs", "dashboard", "agent", "metrics")}
    sockets = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: a socket's path has at most 107 bytes
    command = [
        *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--num-cpus={cpus}"),
        *("--node-ip-address=127.0.0.1", f"--port={ports['gcs']}", "--disable-usage-stats", f"--temp-dir={sockets}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports['dashboard']}"),
        *(f"--dashboard-agent-listen-port={ports['agent']}", f"--metrics-export-port={ports['metrics']}"),
        '--system-config={"metrics_report_interval_ms": 500}',
    ]
    environment = {**os.environ, **TOKEN, "RAY_worker_niceness": "0", **(variables or {})}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            assert process.poll() is None
            return answer(f"http://127.0.0.1:{ports['dashboard']}/api/version") in (200, 401, 403)

        wait_for(answers, "the dashboard does not answer", every_s=0.5)
        yield ports
    finally:
        end(process)
        shutil.rmtree(sockets, ignore_errors=True)


def answer(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as found:
            return int(found.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0
