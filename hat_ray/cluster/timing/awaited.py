"""Devices whose nodes an autoscaler may still add: they are asked for, and waited for, when timing begins."""

import logging
import time
from collections.abc import Sequence

from hat_ray.cluster.growth import Bundle, Growth
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.fleet.plan import Node, described, lacking, placements

_SECONDS_BETWEEN_REMINDERS = 60.0

logger = logging.getLogger(__name__)


class Awaited:
    """The entries of `latency.devices` without a node; true as long as there are any."""

    def __init__(self, config: LatencyConfig) -> None:
        self._config = config
        self._left: tuple[DeviceSelector, ...] = ()
        self._growth = Growth()
        self._until = self._reminder = 0.0

    def __bool__(self) -> bool:
        return bool(self._left)

    def begin(self, nodes: Sequence[Node]) -> None:
        """Wait from now on for nodes that are lacking; raises LatencyError for a node that is one device twice."""
        self._left = lacking(nodes, self._config)
        there = tuple(one for one in self._config.devices if one not in self._left)
        placements(nodes, self._config.model_copy(update={"devices": there}))
        self._until = time.monotonic() + self._config.max_wait_s

    def look(self, nodes: Sequence[Node]) -> list[str]:
        """See which nodes have come, and ask for the others; return a line for each device that is given up."""
        if not self._left:
            return []
        self._left = tuple(one for one in lacking(nodes, self._config) if one in self._left)
        self._growth.ask([self._bundle(one) for one in self._left])
        self._growth.look()
        left_s = self._until - time.monotonic()
        if self._left and (self._growth.idle or left_s <= 0):
            why = self._growth.words or "no node was added"
            given_up = [f"no node of the cluster fits latency.devices {described(one)}; {why}" for one in self._left]
            self.end()
            for line in given_up:
                logger.warning(line)
            return given_up
        if self._left and time.monotonic() > self._reminder:
            self._reminder = time.monotonic() + _SECONDS_BETWEEN_REMINDERS
            devices = "; ".join(described(one) for one in self._left)
            known = f" ({self._growth.words})" if self._growth.words else ""
            logger.warning("waiting for nodes that fit %s%s, %.0f s more at most", devices, known, left_s)
        return []

    def end(self) -> None:
        """Ask for nothing any more."""
        self._left = ()
        self._growth.ask(())

    def _bundle(self, selector: DeviceSelector) -> Bundle:
        own = self._config.of(selector)
        amounts = {"CPU": float(own.threads), "GPU": float(selector.num_gpus)}
        if selector.resource:
            amounts[selector.resource] = 1e-3
        return Bundle({name: n for name, n in amounts.items() if n > 0}, selector.labels)
