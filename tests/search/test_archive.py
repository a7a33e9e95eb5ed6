"""The archive against brute force: the best, the latest and the frontier, also of more than it has at hand."""

import math
import random

import numpy as np
import pytest
from search_stand_ins import depth_ms, macs_ms

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.engine import archive as room
from hat_ray.search.engine.archive import Archive, Proposal
from hat_ray.search.frontier import pareto_front
from hat_ray.search.limits import Limit, Predictions
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.space.presets import TOY

LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("macs", latency_ms=120.0), Limit.of("depth", latency_ms=25.0))


def mirrored(of: object) -> Predictions:
    """Return predictors that call the fast slow, so that every place changes."""
    assert callable(of)

    def reverse(architectures: object) -> FloatArray:
        return np.asarray(200.0 - of(architectures))

    return {"macs": {LATENCY: reverse}, "depth": {LATENCY: depth_ms}}


def brute_best(archive: Archive, limit: Limit) -> list[Architecture]:
    whole = [one for one, loss in archive.losses.items() if math.isfinite(loss) and one not in archive.estimated]
    kept = [one for one in whole if archive.keeps(one, limit)]
    return sorted(kept, key=lambda one: (archive.losses[one], archive.proposals[one].order))


def brute_front(archive: Archive, group: Limit) -> list[Architecture]:
    whole = [one for one in archive.losses if one not in archive.estimated and archive.keeps(one, group)]
    losses = [archive.losses[one] for one in whole]
    return [whole[place] for place in pareto_front(losses, [archive.times(one)[group.device] for one in whole])]


def check(archive: Archive) -> None:
    for limit in LIMITS:
        best = brute_best(archive, limit)
        latest = [one for one in reversed(archive.losses) if archive.keeps(one, limit)]
        for count in (1, 4, 5, 6, 50, 1000):
            assert archive.best(limit, count) == best[:count]
            assert archive.latest(limit, count) == latest[:count]
    for group in archive.groups:
        assert archive.front(group) == brute_front(archive, group)


@pytest.mark.parametrize("at_hand", [5, 1024])
def test_places_are_those_of_brute_force(at_hand: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_AT_HAND", at_hand)
    rng, archive = (
        random.Random(3),
        Archive(TOY, {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}, LIMITS),
    )
    some = list(dict.fromkeys(TOY.sample(rng) for _ in range(90)))
    for one in some:
        archive.propose(Proposal(one, "random"))
    for number, one in enumerate(rng.sample(some, len(some))):
        loss = rng.choice([rng.randrange(8) / 2, math.inf, math.nan])  # ties are common
        scored = archive.record(one, loss, estimated=rng.random() < 0.2)
        finite = math.isfinite(loss)
        assert scored.kept == tuple(limit for limit in LIMITS if finite and archive.keeps(one, limit))
        if number % 10 == 9:
            check(archive)
    archive.update_predictions(mirrored(macs_ms))
    check(archive)
    for count in (1, 7, 30, 89, 1000):
        sample = archive.sample(count)
        assert 0 < len(sample) <= count
        assert sample == [one for one in archive.losses if one in set(sample)]
    assert archive.sample(1000) == list(archive.losses)
