"""The metrics that hat-ray exports through Ray, each declared once.

Ray adds them to the Prometheus endpoint of the node that the process runs on, with `ray_` before each name, and labels
of its own. All are gauges, because Ray renames counters: a rate is `deriv` of what is done. `jobs/grafana.json` shows
every one of them.
"""

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.util.metrics import Gauge

from hat_ray.core.progress import Progress, ProgressFactory

STAGE_DONE, STAGE_TOTAL = "hat_ray_stage_done", "hat_ray_stage_total"
TIMING_DONE, TIMING_QUEUE = "hat_ray_timing_architectures", "hat_ray_timing_queue"
TIMING_NODES, TIMING_UTILISATION = "hat_ray_timing_nodes", "hat_ray_timing_utilisation"
UPDATES, TOKENS_PER_S = "hat_ray_train_updates", "hat_ray_train_tokens_per_second"
LOSS, VALID_LOSS = "hat_ray_train_loss_bits", "hat_ray_train_valid_loss_bits"
AGE = "hat_ray_train_checkpoint_age_seconds"
LEARNING_RATE, GRADIENT_NORM = "hat_ray_train_learning_rate", "hat_ray_train_gradient_norm"
EVALUATIONS, IN_PROGRESS = "hat_ray_search_evaluations", "hat_ray_search_in_progress"
BEST, HYPERVOLUME = "hat_ray_search_best_loss_bits", "hat_ray_search_hypervolume"


@dataclass(frozen=True)
class Metric:
    """What a metric's values are."""

    unit: str
    """Grafana's name of it."""
    description: str
    tags: tuple[str, ...]
    """Labels of its values. `run` is the last two parts of the folder that the work fills: the run's own for a
    stage, the training's, the search's, or the latency table's."""


METRICS = {
    STAGE_DONE: Metric("short", "Steps done of what a stage works on", ("run", "stage")),
    STAGE_TOTAL: Metric("short", "Steps in all of what a stage works on", ("run", "stage")),
    TIMING_DONE: Metric("short", "Architectures timed, or found in the table", ("run", "device")),
    TIMING_QUEUE: Metric("short", "Architectures that are still to be timed", ("run", "device")),
    TIMING_NODES: Metric("short", "Nodes that time now, or GPUs of them", ("run", "device")),
    TIMING_UTILISATION: Metric("percentunit", "Share of its nodes' time that was spent timing", ("run", "device")),
    UPDATES: Metric("short", "Updates made", ("run", "model")),
    TOKENS_PER_S: Metric("short", "Target tokens a second, since training was begun or resumed", ("run", "model")),
    LOSS: Metric("none", "Training loss in bits a target token, since the last validation", ("run", "model")),
    VALID_LOSS: Metric(
        "none",
        "Validation loss in bits a target token, by model: largest, smallest, or model from scratch",
        ("run", "model"),
    ),
    AGE: Metric("s", "Seconds since the last checkpoint, or since training was begun or resumed", ("run", "model")),
    LEARNING_RATE: Metric("sci", "Learning rate of the last update", ("run", "model")),
    GRADIENT_NORM: Metric(
        "none", "Norm of the gradient of the last update that was logged, before clipping", ("run", "model")
    ),
    EVALUATIONS: Metric(
        "short", "Architectures scored, those of earlier rounds and runs apart", ("run", "device", "limit")
    ),
    IN_PROGRESS: Metric("short", "Architectures that workers score now", ("run", "device", "limit")),
    BEST: Metric(
        "none",
        "Least validation loss, in bits a target token, of the architectures that keep a limit",
        ("run", "device", "limit"),
    ),
    HYPERVOLUME: Metric(
        "percentunit",
        "Share of the plane of loss and latency that a frontier dominates, from 0 to 1",
        ("run", "device", "limit"),
    ),
}
"""Every metric by name."""

_SECONDS_BETWEEN_VALUES = 1.0


def show(metric: str, value: float, **tags: str) -> None:
    """Set the present value of a metric; a tag that is left out is empty."""
    _gauge(metric).set(value, tags=dict.fromkeys(METRICS[metric].tags, "") | tags)


@functools.cache
def _gauge(metric: str) -> Gauge:
    declared = METRICS[metric]
    return Gauge(metric, declared.description, tag_keys=declared.tags)


def with_metrics(run: str, progress: ProgressFactory) -> ProgressFactory:
    """Return the progress bars of a run that also set its metrics, while this process is connected to Ray."""

    @contextmanager
    def bar(label: str) -> Iterator[Progress]:
        with progress(label) as draw:
            metrics = _StageMetrics(draw, run, label)
            try:
                yield metrics
            finally:
                metrics.show()

    return bar


class _StageMetrics:
    """Passes progress on, and sets the metrics of it now and then."""

    def __init__(self, draw: Progress, run: str, stage: str) -> None:
        self._draw, self._run, self._stage = draw, run, stage
        self._steps: tuple[int, int] | None = None
        self._next = 0.0

    def __call__(self, done: int, total: int, figures: Mapping[str, float], /) -> None:
        self._draw(done, total, figures)
        self._steps = done, total
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_VALUES
            self.show()

    def show(self) -> None:
        """Set the metrics to the last progress that was reported."""
        if self._steps is not None and ray.is_initialized():
            for metric, value in zip((STAGE_DONE, STAGE_TOTAL), self._steps, strict=True):
                show(metric, value, run=self._run, stage=self._stage)
