"""One device's process: a Ray actor on the node that is the device, which times and writes its own rows."""

import math
from collections.abc import Iterator

import ray

from hat_ray.latency.config import DeviceSelector
from hat_ray.latency.detection import device_of, runtime_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.session import SessionSummary, TimingSession
from hat_ray.runtime.choice import Choice
from hat_ray.space.architecture import Architecture


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
    ) -> Iterator[int | SessionSummary]:
        """Time a chunk; yield the number of architectures that are over after each step, and at last the outcome.

        Where it is `contested`, another node of this device may have timed some of it.
        """
        assert self._session is not None, "described before it times"
        if contested:
            self._session.look_again()
        before = self._session.summary
        for step in self._session.steps(architectures, within_s):
            yield step.done
        yield self._session.summary.since(before)
