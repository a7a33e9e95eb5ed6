"""Cost of a fleet of up to a thousand nodes for its driver.

`pytest -m benchmark -s tests/benchmarks/bench_fleet_planning.py`

Nodes are made up, the decisions are the fleet's own. *before* decides as the fleet did until it had a roster: every
place is compared with every member, and there was such a look after every result. Half of the places have a member:
the others are free, as after a loss. The second test asks Ray itself: one node, calls that do not end.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import ray

from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.fleet.plan import DeviceWork, Node, Placement, candidates
from hat_ray.latency.fleet.roster import Roster

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ROUNDS = 5


@dataclass(eq=False)
class Member:
    placement: Placement
    work: DeviceWork | None = None


def nodes_of(count: int) -> list[Node]:
    return [Node(f"{i:056x}", f"node-{i}", {"group": f"g{i % 20}"}, {"CPU": 8.0}) for i in range(count)]


CASES: dict[str, tuple[LatencyConfig, Callable[[Placement], str]]] = {
    "every node a kind of its own": (LatencyConfig(), lambda place: place.node.id),
    "20 kinds": (LatencyConfig(), lambda place: place.node.labels["group"]),
    "20 selectors by label": (
        LatencyConfig(devices=tuple(DeviceSelector(name=f"g{i}", labels={"group": f"g{i}"}) for i in range(20))),
        lambda place: place.selector.name,
    ),
}


def look_before(
    nodes: list[Node], members: list[Member], config: LatencyConfig, kind: Callable[[Placement], str]
) -> int:
    """Look at all places as before; return how many want a member."""
    known = {place.key: kind(place) for place in candidates(nodes, config)}
    wanted = 0
    for place in candidates(nodes, config):
        own = config.of(place.selector)
        there = [other.placement for other in members if other.placement.node.id == place.node.id]
        if not place.has_seat(there, own.threads):
            continue
        slug = known.get(place.key)
        wanted += bool(config.devices) or not any(
            slug is None or known.get(fresh(member.placement).key) == slug for member in members
        )
    return wanted


def fresh(place: Placement) -> Placement:
    """Return a place whose key is not known: it was written anew each time."""
    return Placement(place.selector, place.node)


def look_now(nodes: list[Node], roster: Roster[Member], config: LatencyConfig, kind: Callable[[Placement], str]) -> int:
    return sum(roster.has_seat(place) and roster.wants(kind(place), None) for place in candidates(nodes, config))


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


@pytest.mark.parametrize("case", CASES)
def test_print_what_a_look_costs_by_number_of_nodes(case: str) -> None:
    config, kind = CASES[case]
    print(f"\n{case}: milliseconds (median of {ROUNDS})\n   nodes  look before  look now")
    for count in (10, 100, 300, 1000):
        nodes = nodes_of(count)
        half = nodes[: count // 2]
        roster: Roster[Member] = Roster(config)
        for place in candidates(half, config):
            if roster.has_seat(place) and roster.wants(kind(place), None):
                roster.add(Member(place), kind(place))
        members = list(roster)
        assert look_before(nodes, members, config, kind) == look_now(nodes, roster, config, kind)
        before = milliseconds(lambda: look_before(nodes, members, config, kind))  # noqa: B023
        now = milliseconds(lambda: look_now(nodes, roster, config, kind))  # noqa: B023
        print(f"  {count:6d}  {before:11.2f}  {now:8.2f}", flush=True)


@ray.remote(num_cpus=0)
class Slow:
    def answer(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


def test_print_what_waiting_costs_ray_by_number_of_members() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        print("\nray.wait, milliseconds: refs, one that is ready, all that are ready, ray.nodes()")
        for count in (10, 100, 300, 1000):
            ready, slow = [ray.put(i) for i in range(count // 10)], Slow.remote()  # type: ignore[attr-defined]
            refs = [*ready, *[slow.answer.remote(600.0) for _ in range(count - len(ready))]]
            time.sleep(1)
            one = milliseconds(lambda: ray.wait(refs, num_returns=1, timeout=1))  # noqa: B023
            every = milliseconds(lambda: ray.wait(refs, num_returns=len(refs), timeout=0))  # noqa: B023
            print(f"  {count:6d}  {one:8.2f}  {every:8.2f}  {milliseconds(ray.nodes):8.2f}", flush=True)
            ray.kill(slow)
    finally:
        ray.shutdown()
