"""Who times where in a fleet: bookkeeping that costs each member and each place the same, however many there are."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.fleet.plan import DeviceWork, Placement


class Pace:
    """Says when work that grows with the fleet is due again: it may take a share of the time, and no more."""

    def __init__(self, share: float, least_s: float = 0.0) -> None:
        """`least_s`: seconds that pass in any case before it is due again."""
        self._share, self._least_s, self._next = share, least_s, 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until it is due."""
        return max(0.0, self._next - now)

    def spent(self, began: float, now: float) -> None:
        """Note that it was done."""
        self._next = now + max(self._least_s, (now - began) * (1 / self._share - 1))


class Member(Protocol):
    """A process that times, or gets ready to."""

    @property
    def placement(self) -> Placement:
        """Its node, and which device it is."""

    @property
    def work(self) -> DeviceWork | None:
        """Its device's work; None until it has reported its device."""


MemberT = TypeVar("MemberT", bound=Member)


class Roster(Generic[MemberT]):
    """The members of a fleet, by node, kind and device."""

    def __init__(self, config: LatencyConfig) -> None:
        self._config = config
        self._kinds: dict[MemberT, str | None] = {}
        """Each member's device as far as it is known, by slug; in the order of starting."""
        self._by_kind: Counter[str] = Counter()
        self._by_node: dict[str, dict[MemberT, None]] = defaultdict(dict)
        self._by_device: dict[str, dict[MemberT, None]] = defaultdict(dict)

    def __iter__(self) -> Iterator[MemberT]:
        """Iterate over those that there are now: members may come and go meanwhile."""
        return iter(list(self._kinds))

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, member: MemberT, kind: str | None) -> None:
        """Add a member, whose device may be known before it has reported it."""
        self._kinds[member] = kind
        self._by_node[member.placement.node.id][member] = None
        if kind is not None:
            self._by_kind[kind] += 1

    def enlist(self, member: MemberT, slug: str) -> None:
        """Note the device that a member has reported."""
        before = self._kinds[member]
        if before is not None:
            self._by_kind[before] -= 1
        self._kinds[member] = slug
        self._by_kind[slug] += 1
        self._by_device[slug][member] = None

    def remove(self, member: MemberT) -> None:
        kind = self._kinds.pop(member)
        del self._by_node[member.placement.node.id][member]
        if kind is not None:
            self._by_kind[kind] -= 1
        if member.work is not None:
            del self._by_device[member.work.device.slug][member]

    def on(self, slug: str) -> int:
        """Return the number of members that have reported a device."""
        return len(self._by_device[slug])

    def has_seat(self, place: Placement) -> bool:
        """Return whether a member may start at a place beside those that are on its node.

        A node that is several devices has members of one at a time: never do two things time on it at once.
        """
        there = [member.placement for member in self._by_node[place.node.id]]
        return place.has_seat(there, self._config.threads_on(place.selector))

    def wants(self, kind: str | None, work: DeviceWork | None) -> bool:
        """Return whether a device, as far as it is known, should get another member, and where it has work.

        Without selectors each kind of node has one member.
        """
        if work is not None and (work.over or not work.pending):
            return False
        if self._config.devices:
            return True
        return not self._by_kind[kind] if kind is not None else not self._kinds
