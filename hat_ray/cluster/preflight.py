"""The nodes of the cluster that this process is connected to, as machines that stages may work on.

Resources are known at once. What only a node itself knows, its processor and its packages, is asked of each where a
recipe depends on it: starting a worker takes seconds. No node is asked for GPUs, which Ray hides from a task that takes
none.
"""

from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hat_ray.cluster.timing.kinds import cluster_nodes
from hat_ray.latency.fleet.plan import Node
from hat_ray.latency.timing.sensors.cuda import energy_meter
from hat_ray.pipeline.preflight.check import Machine
from hat_ray.pipeline.preflight.here import this_machine

_ANSWER_S = 30.0


def cluster_machines(*, ask: bool) -> tuple[Machine, ...]:
    """Return the living nodes; `ask` each for its processor and packages. What a silent one has is not known."""
    nodes = cluster_nodes()
    answers = [_ask(node) if ask else None for node in nodes]
    if ask:
        ray.wait(answers, num_returns=len(answers), timeout=_ANSWER_S)
    return tuple(_machine(node, answer) for node, answer in zip(nodes, answers, strict=True))


def _machine(node: Node, answer: Any) -> Machine:
    found = _read(answer)
    return Machine(
        host=node.host,
        cpus=node.num_cpus,
        gpus=node.resources.get("GPU", 0),
        isa=found.isa if found else (),
        labels=node.labels,
        resources=node.resources,
        id=node.id,
        packages=found.packages if found else None,
        memory_bytes=found.memory_bytes if found else None,
        model=found.model if found else "",
        counts_energy=None
        if found is None or (node.resources.get("GPU", 0) and not found.counts_energy)
        else found.counts_energy,
    )


def _read(answer: Any) -> Machine | None:
    try:
        machine: Machine | None = None if answer is None else ray.get(answer, timeout=0)
    except (GetTimeoutError, RayError):
        return None
    return machine


def _ask(node: Node) -> Any:
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return _describe.options(scheduling_strategy=here).remote()


@ray.remote(num_cpus=0, max_retries=0)
def _describe() -> Machine:
    machine = this_machine()
    return replace(machine, counts_energy=energy_meter(on_gpu=False).read() is not None)
