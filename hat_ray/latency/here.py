"""Timing on the machine that this process runs on: every device that it is, one after the other. No Ray here."""

import logging
import time
from collections.abc import Sequence

from hat_ray.core.progress import Progress, no_progress
from hat_ray.latency.config import DeviceSelector
from hat_ray.latency.detection import device_of, devices_of, runtime_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import Rounds, once
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.session import SessionSummary, TimingSession
from hat_ray.space.architecture import Architecture

log = logging.getLogger(__name__)


def measure(
    job: TimingJob,
    architectures: Sequence[Architecture],
    device: DeviceInfo | None = None,
    progress: Progress = no_progress,
) -> SessionSummary:
    """Time architectures on this machine and append their rows to the table; skip what it has (but see `job.again`)."""
    device = device or device_of(job.config, None, job.largest)
    return TimingSession(job, device).run(architectures, progress)


def measure_here(
    job: TimingJob, architectures: Sequence[Architecture], progress: Progress = no_progress
) -> list[DeviceInfo]:
    """Time architectures on every device that this machine is by itself; return the devices."""
    return measure_rounds_here(job, once(architectures), progress)


def measure_rounds_here(job: TimingJob, rounds: Rounds, progress: Progress = no_progress) -> list[DeviceInfo]:
    """Time round after round on every device that this machine is by itself, one after the other in each round.

    A device's session lasts for all rounds. A device that this machine cannot be is left out with a warning, unless it
    is the only one.
    """
    selectors: Sequence[DeviceSelector | None] = [one for one in job.config.devices if one.is_anywhere] or [None]
    devices = devices_of(job.config, selectors, job.largest)
    for selector, device in devices:
        choice = runtime_of(job.config, selector, job.largest)
        log.info("device %s is timed with runtime %s: %s", device.slug, choice.runtime, choice.reason)
    known = [device for _, device in devices]
    sessions: dict[str, TimingSession] = {}
    done = total = 0
    while (order := rounds(known)) is not None:
        until = time.monotonic() + order.within_s
        total += len(devices) * len(order.architectures)
        for selector, device in devices:
            if device.slug not in sessions and order.architectures:
                sessions[device.slug] = TimingSession(job.on(selector), device)
            if order.architectures:
                steps = sessions[device.slug].steps(order.architectures, max(0.0, until - time.monotonic()))
                for step in steps:
                    progress(done + step.done, total, step.figures)
            done += len(order.architectures)
    return known
