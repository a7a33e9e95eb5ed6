"""A Ray cluster of several raylets on this machine, which the test's own process joins."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster


@contextmanager
def head_without_cpus(patch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Start a head on which nothing works, and join it; the test adds the nodes."""
    patch.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves nothing to the workers
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        ray.init(address=started.address, log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
