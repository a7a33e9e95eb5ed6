"""Counters of the service in Prometheus's text format.

Decisions
- Each process that answers requests counts its own, under a label `ingress`: with several of them a scrape reaches one,
  and sums over the label are right.
- A path that does not exist is counted as `other`: clients cannot make series.
- What the guard of Ray's proxies refuses (403, 408, 413) reaches no ingress, and is in the logs only.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

import hat_ray

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = ("GET", "HEAD", "POST")
OTHER = "other"


class Metrics:
    """What one ingress has answered since it began."""

    def __init__(self, retries: Callable[[], int]) -> None:
        """`retries` returns how many requests were asked again because a replica was lost."""
        self._registry = CollectorRegistry()
        self._own = uuid.uuid4().hex[:8]
        self._registry.register(_Facts(self._own, retries))
        self._answered = self._counter("requests", "Requests that were answered.", "route", "method", "status")
        self._lines = self._counter("lines", "Lines of text that were translated.", "route")
        self._characters = self._counter("characters", "Characters of the lines that were translated.", "route")
        self._protected = self._counter(
            "protected_sentences", "Sentences with parts that came through unchanged, such as URLs.", "route"
        )
        self._repaired = self._counter(
            "repaired_sentences", "Protected sentences in which the model left a part out, or wrote it twice.", "route"
        )
        self._busy = Gauge(
            "hat_ray_requests_in_progress", "Requests in progress.", ["ingress"], registry=self._registry
        ).labels(self._own)
        self._seconds = Histogram(
            "hat_ray_request_seconds",
            "Seconds from a request to its answer.",
            ["ingress", "route"],
            registry=self._registry,
            buckets=_SECONDS,
        )

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"hat_ray_{name}", words, ["ingress", *labels], registry=self._registry)

    @contextmanager
    def request(self, route: str, method: str) -> Iterator[Callable[[int], None]]:
        """Count a request while it is answered; yields a function that takes the status of its answer."""
        statuses: list[int] = []
        began = time.monotonic()
        self._busy.inc()
        try:
            yield statuses.append
        finally:
            self._busy.dec()
            known = method if method in _METHODS else OTHER
            status = str(statuses[-1]) if statuses else "gone"
            self._answered.labels(self._own, route, known, status).inc()
            self._seconds.labels(self._own, route).observe(time.monotonic() - began)

    def translated(self, route: str, lines: Iterable[str]) -> None:
        """Count lines that were translated."""
        lengths = [len(line) for line in lines]
        self._lines.labels(self._own, route).inc(len(lengths))
        self._characters.labels(self._own, route).inc(sum(lengths))

    def protected(self, route: str, sentences: int, repaired: int) -> None:
        """Count sentences with protected parts, and those of them that were repaired."""
        self._protected.labels(self._own, route).inc(sentences)
        self._repaired.labels(self._own, route).inc(repaired)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics, and their content type, in the format that a header `Accept` prefers."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


class _Facts:
    """Metrics that are read when they are asked for."""

    def __init__(self, own: str, retries: Callable[[], int]) -> None:
        self._own, self._retries = own, retries

    def collect(self) -> Iterator[Metric]:
        retried = CounterMetricFamily(
            "hat_ray_retries", "Requests asked again because a replica was lost.", labels=["ingress"]
        )
        retried.add_metric([self._own], self._retries())
        yield retried
        yield InfoMetricFamily("hat_ray", "The version of the service.", value={"version": hat_ray.__version__})
