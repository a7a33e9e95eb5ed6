"""Room for training on a cluster: refuse what can never fit, wait for nodes, ask an autoscaler for them."""

import logging
import time

from hat_ray.cluster.growth import SECONDS_BETWEEN_LOOKS, Growth, wait_for
from hat_ray.cluster.placement import ANYWHERE, Place
from hat_ray.train.capacity import Patience, fewest_workers, needs, too_small, workers_that_fit
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob

log = logging.getLogger(__name__)


def require_room(job: TrainJob, workers: int, place: Place = ANYWHERE) -> None:
    """Return once the nodes of a place hold `workers` of them; nodes that an autoscaler may add are waited for.

    Raises HatRayError where the cluster can never hold them, instead of waiting.
    """
    config = job.config
    wait_for(
        lambda: _lacks(config, workers, place),
        [place.bundle(needs(config))] * workers,
        config.max_wait_s,
        f"lower train.workers or train.threads, or add nodes{place.remedy}",
    )


def room_for(config: TrainConfig, place: Place = ANYWHERE) -> int:
    """Return how many workers find room on the nodes of a place that there are now."""
    return workers_that_fit(place.resources(), needs(config))


def wait_for_room(patience: Patience, place: Place = ANYWHERE) -> None:
    """Wait while nodes are missing, and ask an autoscaler for them; raises HatRayError when that takes too long.

    Nodes that were there and were lost may come back without an autoscaler.
    """
    with Growth() as growth:  # it withdraws the request at the end: Ray Train asks for its workers itself
        while (what := missing(patience.config, place)) is not None:
            growth.ask([place.bundle(needs(patience.config))] * patience.config.workers)
            growth.look()
            remind(patience, f"{what}; {growth.words}" if growth.words else what)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def missing(config: TrainConfig, place: Place = ANYWHERE) -> str | None:
    """Return the resources that the nodes lack for the fewest workers; None when they hold them."""
    return _lacks(config, fewest_workers(config), place)


def _lacks(config: TrainConfig, workers: int, place: Place) -> str | None:
    if why := place.lacks_nodes():
        return why
    nodes = place.resources()
    enough = workers_that_fit(nodes, needs(config)) >= workers
    return None if enough else too_small(config, workers, nodes, place.of_cluster)


def remind(patience: Patience, missing: str) -> None:
    """Count a wait between two looks, and warn each minute; raises HatRayError past the limit."""
    reminder = patience.wait(SECONDS_BETWEEN_LOOKS, missing)
    if reminder is not None:
        log.warning("%s", reminder)


def no_room(config: TrainConfig) -> str:
    """Return why workers do not start though the nodes hold them."""
    need = " and ".join(f"{amount:g} {kind}" for kind, amount in needs(config).items())
    return f"training finds no room for its workers, of {need} each: the cluster is busy or still growing"
