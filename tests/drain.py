"""Drain a node of a cluster, as an autoscaler or a cloud does before it takes the node away: by a command of Ray's."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def drain(address: str, node_id: str, environment: Mapping[str, str] = os.environ, deadline_s: int = 600) -> None:
    """Announce that a node ends within a deadline. Ray ends it as soon as nothing works there; we never do."""
    ray = Path(sys.executable).parent / "ray"
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test takes it away"]
    when = ["--deadline-remaining-seconds", str(deadline_s)]
    subprocess.run(
        [str(ray), "drain-node", "--address", address, "--node-id", node_id, *why, *when],
        check=True,
        timeout=240,
        env=environment,
    )
