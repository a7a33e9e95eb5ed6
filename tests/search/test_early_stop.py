"""Early stop: what is surely beaten is scored in part, never wins, and the error of that is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from search_stand_ins import PART_SPREAD, InParts, bigger_is_better, depth_ms, macs_ms

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import NO_BARS, EarlyStop, early_stopping_summary, is_control, line_through
from hat_ray.search.engine.local import run_search
from hat_ray.search.frontier import SearchResult, favourite, frontier, summarise
from hat_ray.search.limits import Limit
from hat_ray.search.stopping import FrontierTracker
from hat_ray.storage.folder import Folder
from tests.spaces import THREE_LAYERS

DEVICES = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}
LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("depth", latency_ms=25.0))
CONFIG = SearchConfig(algorithm_options={"population": 45}, evaluations=120, early_stop=True)


def search(folder: Path, score: InParts, config: SearchConfig = CONFIG) -> SearchResult:
    return run_search(THREE_LAYERS, DEVICES, LIMITS, score, config, Folder.at(folder), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a whole search that stops early lies."""
    return tmp_path_factory.mktemp("stopping")


@pytest.fixture(scope="module")
def stopping(folder: Path) -> SearchResult:
    return search(folder, InParts())


def test_what_is_stopped_is_beaten_on_every_device_and_its_estimate_is_as_good_as_it_says(
    stopping: SearchResult,
) -> None:
    result = stopping
    stopped = [c for c in result.candidates if c.estimated]
    assert len(stopped) > 10
    truth = {c.architecture: bigger_is_better(c.architecture) for c in result.candidates}
    for one in result.candidates:
        assert one.estimated or one.loss_bits == truth[one.architecture]
    for device in DEVICES:
        for one in stopped:
            assert any(truth[f.architecture] < truth[one.architecture] for f in result.frontiers[device])
            assert one not in result.frontiers[device]
    off = [abs(one.loss_bits - truth[one.architecture]) / one.loss_error_bits for one in stopped]
    assert 0.4 < float(np.sqrt(np.mean(np.square(off)))) < 2.0
    assert not any(is_control(one.architecture) for one in stopped)


def test_the_frontiers_are_nearly_those_of_a_search_that_scores_all(stopping: SearchResult, tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", InParts(), CONFIG.model_copy(update={"early_stop": False}))
    for ours, theirs in zip(stopping.winners, whole.winners, strict=True):
        assert ours.candidate.loss_bits < theirs.candidate.loss_bits + 0.02
    assert all(not c.loss_at_shares for c in whole.candidates)
    assert early_stopping_summary(whole.candidates) is None


@pytest.mark.parametrize("dies_after", [20, 70])
def test_a_killed_search_that_stops_early_goes_on_and_ends_like_one_that_was_not(
    stopping: SearchResult, tmp_path: Path, dies_after: int
) -> None:
    first, second = InParts(dies_after), InParts()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", first)
    resumed = search(tmp_path / "killed", second)
    assert not set(first.scored) & set(second.scored)

    def plain(result: SearchResult) -> list[Candidate]:
        return [replace(c, seconds=0.0, utc_time="", worker="") for c in result.candidates]

    assert plain(resumed) == plain(stopping)


def test_an_estimate_never_wins_however_good_it_looks() -> None:
    good = Candidate(THREE_LAYERS.largest(), 1.0, {"macs": 50.0}, 0, scored_share=0.25, loss_error_bits=0.01)
    true = Candidate(THREE_LAYERS.smallest(), 5.0, {"macs": 40.0}, 1)
    result = summarise([good, true], LIMITS[:1])
    assert [winner.candidate for winner in result.winners] == [true]
    assert frontier([good, true], "macs") == (true,)
    assert favourite([good, true], LIMITS[0]) == true
    assert favourite([good], LIMITS[0]) is None


def at(macs: float, depth: float) -> dict[str, dict[str, float]]:
    return {"macs": {LATENCY: macs}, "depth": {LATENCY: depth}}


def test_nothing_is_stopped_that_some_device_has_no_faster_rival_for() -> None:
    watch = FrontierTracker({"macs": 100.0, "depth": 100.0}, 1)
    early = EarlyStop(watch, margin=0.0)
    rng = np.random.default_rng(0)
    for loss in rng.uniform(4, 6, 40):
        early.learn(loss, (loss, loss, loss))
    victim = next(a for a in (THREE_LAYERS.largest(), THREE_LAYERS.smallest()) if not is_control(a))
    watch.add(4.0, at(10.0, 30.0))
    assert early.bars(victim, at(11.0, 29.0)) == NO_BARS
    assert early.bars(victim, at(11.0, 31.0)) == pytest.approx((4.0, 4.0, 4.0))
    watch.add(4.5, at(12.0, 20.0))
    assert early.bars(victim, at(13.0, 25.0)) == pytest.approx((4.5, 4.5, 4.5))
    watch.add(1.0, at(1.0, 1.0), estimated=True)
    assert early.bars(victim, at(13.0, 25.0)) == pytest.approx((4.5, 4.5, 4.5))


def test_a_candidate_that_a_limit_beside_the_latency_favours_is_not_stopped() -> None:
    small = Limit.of("macs", latency_ms=50.0, model_mb=5.0)
    watch = FrontierTracker({"macs": 100.0}, 1, [Limit.of("macs", latency_ms=50.0), small])
    watch.add(4.0, {"macs": {LATENCY: 10.0, "model_mb": 9.0}})
    assert watch.least_loss({"macs": {LATENCY: 20.0, "model_mb": 9.0}}) == 4.0
    assert watch.least_loss({"macs": {LATENCY: 20.0, "model_mb": 5.0}}) == math.inf  # none that is as small beats it
    watch.add(4.5, {"macs": {LATENCY: 15.0, "model_mb": 4.0}})
    assert watch.least_loss({"macs": {LATENCY: 20.0, "model_mb": 5.0}}) == 4.5
    assert watch.least_loss({"macs": {LATENCY: 20.0, "model_mb": 5.1}}) == 4.0
    assert set(watch.hypervolumes()) == {Limit("macs", ()), small.group}


def test_a_line_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    parts = rng.normal(4, 0.3, 200)
    losses = 1.0 + 0.7 * parts + rng.normal(0, 0.05, 200)
    line = line_through(parts, losses)
    assert (line.slope, line.start) == pytest.approx(tuple(np.polyfit(parts, losses, 1)))
    assert line.error == pytest.approx(0.05, rel=0.2)
    assert line_through(parts, rng.normal(4, 0.3, 200)).bar(3.0, 3.0) == math.inf  # a part that says nothing


def test_the_account_says_what_was_saved_and_what_the_controls_tell(stopping: SearchResult, folder: Path) -> None:
    candidates = stopping.candidates
    account = early_stopping_summary(candidates)
    assert account is not None
    assert account.stopped == sum(c.scored_share < 1 for c in candidates)
    assert account.saved_share == pytest.approx(np.mean([1 - c.scored_share for c in candidates]))
    assert account.spared == sum(c.would_stop_at is not None for c in candidates) > 0
    assert account.spared_on_frontier == 0
    assert 0 < account.error_bits < 5 * PART_SPREAD
    assert CandidateTable(Folder.at(folder)).read() == list(candidates)
