"""The hypervolume while a search grows, and the rules that stop it."""

import math
import random
from pathlib import Path

import pytest
from search_stand_ins import bigger_is_better, depth_ms, macs_ms

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.local import run_search
from hat_ray.search.frontier import SearchResult, hypervolume
from hat_ray.search.limits import Limit
from hat_ray.search.stopping import FrontierTracker
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("depth", latency_ms=25.0))
CONFIG = SearchConfig(algorithm_options={"population": 10, "parents": 5}, evaluations=60)


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


class Counting:
    """Scores, and takes seconds of a clock for each."""

    def __init__(self, clock: Clock | None = None, seconds: float = 0.0, dies_after: int = 10**6) -> None:
        self.scored: list[Architecture] = []
        self._clock, self._seconds, self._dies_after = clock or Clock(), seconds, dies_after

    def __call__(self, architecture: Architecture) -> float:
        if len(self.scored) >= self._dies_after:
            raise KeyboardInterrupt
        self.scored.append(architecture)
        self._clock.now += self._seconds
        return bigger_is_better(architecture)


def search(folder: Path, score: Counting, **changes: object) -> SearchResult:
    config = CONFIG.model_copy(update=changes)
    return run_search(
        TOY, {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}, LIMITS, score, config, Folder.at(folder), 0
    )


def test_the_growing_hypervolume_equals_that_of_all_candidates() -> None:
    rng = random.Random(0)
    watch, points = FrontierTracker({"a": 10.0, "b": 20.0}, 5), []
    for _ in range(80):
        loss = rng.choice([math.inf, rng.uniform(2, 6), float(rng.randint(2, 6))])
        points.append((loss, {"a": rng.uniform(1, 12), "b": rng.uniform(1, 20)}))
        watch.add(loss, {device: {LATENCY: ms} for device, ms in points[-1][1].items()})
    worst = max(loss for loss, _ in points[:5] if math.isfinite(loss))
    for device, largest in {"a": 10.0, "b": 20.0}.items():
        area = hypervolume([loss for loss, _ in points], [ms[device] for _, ms in points], (worst, largest))
        assert watch.hypervolumes()[Limit(device, ())] == pytest.approx(area / (worst * largest))


def test_a_search_stops_when_its_seconds_are_over_also_over_a_kill(tmp_path: Path, clock: Clock) -> None:
    whole = search(tmp_path / "whole", Counting(clock, seconds=2), max_seconds=50)
    assert len(whole.candidates) == 25
    assert len(whole.winners) == 2
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", Counting(clock, seconds=10, dies_after=4), max_seconds=50)
    second = Counting(clock, seconds=10)
    assert len(search(tmp_path / "killed", second, max_seconds=50).candidates) == 5
    assert len(second.scored) == 1  # the first call's seconds count


def test_a_search_stops_when_its_frontiers_grow_no_more_also_over_a_kill(tmp_path: Path) -> None:
    rule = {"evaluations": 1000, "patience_evaluations": 25, "patience_growth": 0.01}
    whole = search(tmp_path / "whole", Counting(), **rule)
    assert 45 <= len(whole.candidates) < 1000
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", Counting(dies_after=len(whole.candidates) - 3), **rule)
    second = Counting()
    assert [c.architecture for c in search(tmp_path / "killed", second, **rule).candidates] == [
        c.architecture for c in whole.candidates
    ]
    assert len(second.scored) == 3
    again = Counting()
    search(tmp_path / "whole", again, **rule)
    assert again.scored == []
