"""One device's process: a Ray actor on the node that is the device, which times and writes its own rows."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from hat_ray.cluster.session import leaves_here
from hat_ray.latency.config import DeviceSelector
from hat_ray.latency.detection import device_of, runtime_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.session import SessionSummary, TimingSession
from hat_ray.runtime.choice import Choice
from hat_ray.space.architecture import Architecture

_SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a chunk."""

    summary: SessionSummary
    left: bool = False
    """It ended early, since its node will be taken away. What was timed of it is in the table."""


@ray.remote(max_restarts=0, max_task_retries=0)
class TimingActor:
    """One device's process."""

    def __init__(self, job: TimingJob, selector: DeviceSelector) -> None:
        self._job, self._selector = job.on(selector), selector
        self._session: TimingSession | None = None

    def describe(self) -> tuple[DeviceInfo, Choice]:
        """Get ready to time; return which device this is, and how its runtime was chosen."""
        of_node = self._job.config, self._selector, self._job.largest
        device = device_of(*of_node)
        self._session = TimingSession(self._job, device)
        return device, runtime_of(*of_node)

    def time(
        self, architectures: list[Architecture], contested: bool, within_s: float = math.inf
    ) -> Iterator[int | Outcome]:
        """Time a chunk; yield the number of architectures that are over after each step, and at last the outcome.

        Where it is `contested`, another node of this device may have timed some of it. Between two visits the actor
        looks whether its node will be taken away.
        """
        assert self._session is not None, "described before it times"
        if contested:
            self._session.look_again()
        before, looked, left = self._session.summary, time.monotonic(), False
        steps = self._session.steps(architectures, within_s)
        for step in steps:
            yield step.done
            if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
                looked, left = time.monotonic(), leaves_here()
            if left:
                steps.close()  # it writes its rows
        yield Outcome(self._session.summary.since(before), left)
