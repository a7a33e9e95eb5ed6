"""Progress and errors that training workers send to the driver, and the metrics of them on the cluster's dashboard.

The driver exports the metrics, not the workers: so the age of the newest checkpoint still rises when workers hang or
are being replaced, which is the value to set an alarm on.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from hat_ray.cluster.metrics import AGE, GRADIENT_NORM, LEARNING_RATE, LOSS, TOKENS_PER_S, UPDATES, VALID_LOSS
from hat_ray.errors import HatRayError

Latest = tuple[int, int, dict[str, float]]
"""Updates done, updates in all, figures."""


@dataclass
class JobStatus:
    """Progress of one training."""

    latest: Latest | None = None
    """The last progress that a worker reported; None again while workers are replaced."""
    figures: dict[str, float] = field(default_factory=dict)
    """The last value of each figure that a worker logged."""
    saved: float | None = None
    """Time of the last checkpoint, in seconds since 1970 on this actor's clock."""
    group: int = 0
    """Number of the present group of workers, counted from 1."""
    workers: int = 0
    """Size of the present group."""
    losses: list[str] = field(default_factory=list)
    """Why workers were lost, each time that some were."""
    left: bool = False
    """The group ended, since one of its nodes will be taken away."""
    mistake: HatRayError | None = None
    """The first mistake of a user that any worker met."""


class TrainingStatus:
    """The status of each training by number."""

    def __init__(self) -> None:
        self._jobs: dict[int, JobStatus] = {}

    def begin(self, workers: int) -> int:
        """Register a new group of workers; returns its number."""
        job = self.job()
        job.group, job.workers, job.latest = job.group + 1, workers, None
        return job.group

    def report_progress(self, index: int, latest: Latest) -> None:
        self.job(index).latest = latest

    def report_figures(self, index: int, figures: Mapping[str, float]) -> None:
        job = self.job(index)
        job.figures |= figures
        if "checkpoint/update" in figures:
            job.saved = time.time()

    def lose(self, reason: str) -> None:
        """Note that the group lost workers."""
        job = self.job()
        job.losses.append(reason)
        job.latest = None

    def leave(self) -> None:
        """Note that the group ended before its node does."""
        self.job().left = True

    def fail(self, mistake: HatRayError, group: int) -> None:
        """Note a user's mistake; an earlier group, of which some worker still runs, is ignored."""
        job = self.job()
        if group == job.group:
            job.mistake = job.mistake or mistake

    def job(self, index: int = 0) -> JobStatus:
        """Return the status of one training."""
        return self._jobs.setdefault(index, JobStatus())

    def jobs(self) -> dict[int, JobStatus]:
        """Return the status of each training that reported anything."""
        return self._jobs


_OF_PROGRESS = {
    "tokens_per_s": TOKENS_PER_S,
    "loss_bits": LOSS,
    "lr": LEARNING_RATE,
}
_VALID = "valid/loss_bits/"


@dataclass(frozen=True)
class MetricSample:
    """One value of one metric; `model` says whose validation loss it is, and is empty otherwise."""

    metric: str
    value: float
    model: str = ""


def samples(job: JobStatus, began: float, now: float) -> list[MetricSample]:
    """Return the present metrics of a training that was begun or resumed at `began`; both in seconds since 1970."""
    found = [MetricSample(AGE, max(0.0, now - (job.saved or began)))]
    if job.latest is not None:
        done, _, figures = job.latest
        found.append(MetricSample(UPDATES, done))
        found += [MetricSample(_OF_PROGRESS[name], value) for name, value in figures.items() if name in _OF_PROGRESS]
    for name, value in job.figures.items():
        if name.startswith(_VALID):
            found.append(MetricSample(VALID_LOSS, value, name.removeprefix(_VALID)))
        elif name == "train/grad_norm":
            found.append(MetricSample(GRADIENT_NORM, value))
    return found
