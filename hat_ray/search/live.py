"""What a cluster's dashboard shows of a search while it runs: metrics by name, told by the driver."""

from collections.abc import Iterator
from dataclasses import dataclass

from hat_ray.search.session import Session

EVALUATIONS = "hat_ray_search_evaluations"
BEST = "hat_ray_search_best_loss_bits"
HYPERVOLUME = "hat_ray_search_hypervolume"

METRICS = {
    EVALUATIONS: "Architectures scored, those of earlier rounds and runs apart",
    BEST: "Least validation loss, in bits a target token, of the architectures that keep a limit",
    HYPERVOLUME: "Share of the plane of loss and latency that a device's frontier dominates, from 0 to 1",
}
"""Descriptions by name."""


@dataclass(frozen=True)
class Sample:
    """One value of one metric; `device` and `limit_ms` are empty where it has none."""

    metric: str
    value: float
    device: str = ""
    limit_ms: str = ""


def samples(session: Session) -> Iterator[Sample]:
    """Return what is known now of a search."""
    evolution = session.evolution
    yield Sample(EVALUATIONS, session.done)
    for limit in evolution.limits:
        best = evolution.best(limit)
        if best is not None:
            yield Sample(BEST, evolution.losses[best], limit.device, f"{limit.ms:g}")
    for device, volume in session.watch.hypervolumes().items():
        yield Sample(HYPERVOLUME, volume, device)
