"""The roster of a fleet against a plain list that is searched each time, and what it looks at."""

import random
from collections import deque
from dataclasses import dataclass, replace

import pytest

from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.fleet.plan import DeviceWork, Node, Placement, candidates
from hat_ray.latency.fleet.roster import Pace, Roster
from hat_ray.space.presets import PRESETS

TOY = PRESETS["toy"]
DEVICE = detect(accelerator="cpu")
GPUS = LatencyConfig(devices=(DeviceSelector(name="gpu", num_gpus=1), DeviceSelector(name="cpu", labels={"hw": "box"})))


@dataclass(eq=False)
class Member:
    placement: Placement
    work: DeviceWork | None = None


def a_work(slug: int) -> DeviceWork:
    return DeviceWork(replace(DEVICE, name=f"d{slug}"), deque([TOY.smallest()]), 10, 2)


def wanted_by_list(
    place: Placement,
    kind: str | None,
    work: DeviceWork | None,
    members: list[Member],
    kinds: dict[int, str],
    config: LatencyConfig,
) -> bool:
    """Decide as a fleet without indexes would: look at every member."""
    if not place.has_seat([member.placement for member in members], config.threads_on(place.selector)):
        return False
    if work is not None and (work.over or not work.pending):
        return False
    return bool(config.devices) or not any(kind is None or kinds.get(id(member)) == kind for member in members)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("config", [LatencyConfig(), GPUS], ids=["automatic", "selectors"])
def test_members_that_come_and_go_leave_the_roster_as_a_list_would_be(config: LatencyConfig, seed: int) -> None:
    rng = random.Random(seed)
    nodes = [Node(str(i), f"n{i}", {"hw": rng.choice(["box", "pi"])}, {"CPU": 4, "GPU": i % 3}) for i in range(9)]
    works = [a_work(i) for i in range(3)]
    slug_of = {place.key: works[rng.randrange(3)].device.slug for place in candidates(nodes, config)}
    by_slug = {work.device.slug: work for work in works}
    roster: Roster[Member] = Roster(config)
    members, kinds = list[Member](), dict[int, str]()
    started = 0
    for _ in range(300):
        event = rng.random()
        if event < 0.6:
            place = rng.choice(candidates(nodes, config))
            kind = slug_of[place.key] if rng.random() < 0.7 else None
            work = by_slug.get(kind or "")
            if work is not None and rng.random() < 0.2:
                work.pending = deque([] if work.pending else [TOY.smallest()])
            found = roster.has_seat(place) and roster.wants(kind, work)
            assert found == wanted_by_list(place, kind, work, members, kinds, config)
            if found:
                started += 1
                member = Member(place)
                roster.add(member, kind)
                members.append(member)
                if kind is not None:
                    kinds[id(member)] = kind
        elif event < 0.8 and any(member.work is None for member in members):
            member = rng.choice([member for member in members if member.work is None])
            slug = slug_of[member.placement.key]
            member.work, kinds[id(member)] = by_slug[slug], slug
            roster.enlist(member, slug)
        elif members:
            member = members.pop(rng.randrange(len(members)))
            roster.remove(member)
            kinds.pop(id(member), None)
        assert list(roster) == members
        assert len(roster) == len(members)
        for slug, work in by_slug.items():
            assert roster.on(slug) == sum(member.work is work for member in members)
    assert started > 20


@pytest.mark.parametrize("config", [LatencyConfig(), GPUS], ids=["automatic", "selectors"])
def test_a_place_is_compared_with_the_members_of_its_own_node(
    config: LatencyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a look at all places costs each of them the same, however many nodes there are."""
    compared: list[int] = []
    has_seat = Placement.has_seat

    def counted(self: Placement, taken: list[Placement], threads: int) -> bool:
        compared.append(len(taken))
        return has_seat(self, taken, threads)

    monkeypatch.setattr(Placement, "has_seat", counted)
    nodes = [Node(str(i), f"n{i}", {"hw": "box"}, {"CPU": 4, "GPU": 1}) for i in range(400)]
    roster: Roster[Member] = Roster(config)
    for _ in range(2):
        for place in candidates(nodes, config):
            kind = place.node.id
            if roster.has_seat(place) and roster.wants(kind, None):
                roster.add(Member(place), kind)
    assert len(roster) == 400
    assert len(compared) == 2 * len(candidates(nodes, config))
    assert max(compared) == 1


def test_the_pace_leaves_the_rest_of_the_time_to_others() -> None:
    pace, now, looked = Pace(0.1), 100.0, 0.0
    rng = random.Random(1)
    for _ in range(40_000):
        if not pace.wait_s(now):
            took = rng.uniform(0.01, 2.0)
            pace.spent(now, now + took)
            now, looked = now + took, looked + took
        now += min(rng.uniform(0.0, 0.05), pace.wait_s(now) or 1.0)
    assert 0.05 < looked / (now - 100.0) <= 0.11
    assert Pace(0.1).wait_s(0.0) == 0.0
    seldom = Pace(0.1, 5.0)
    seldom.spent(10.0, 10.1)
    assert (seldom.wait_s(10.1), seldom.wait_s(12.1), seldom.wait_s(15.1)) == pytest.approx((5.0, 3.0, 0.0))
    seldom.spent(20.0, 21.0)
    assert seldom.wait_s(21.0) == pytest.approx(9.0)
