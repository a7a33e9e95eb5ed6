"""The default search: what it finds, what it learns from, and what cannot lead it astray."""

import math
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from search_stand_ins import ODD, bigger_is_better, depth_ms, macs_ms

from hat_ray.errors import SearchError, SpaceError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.algorithms.surrogate import algorithm as room
from hat_ray.search.algorithms.surrogate import planner
from hat_ray.search.algorithms.surrogate.algorithm import frontier_share
from hat_ray.search.algorithms.surrogate.model import Posterior
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.frontier import pareto_front
from hat_ray.search.limits import Limit
from hat_ray.search.reach import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import SPACE0, TOY
from hat_ray.space.search_space import SearchSpace

LIMIT = Limit.of("macs", latency_ms=100.0)
Loss = Callable[[Architecture], float]


def search_for(config: SearchConfig, seed: int = 0, space: SearchSpace = TOY, limit: Limit = LIMIT) -> Evolution:
    return Evolution(space, {"macs": {LATENCY: macs_ms}}, [limit], config, seed)


def run(search: Evolution, loss: Loss = bigger_is_better, at_a_time: int = 2) -> Evolution:
    while not search.finished:
        batch = search.ask(at_a_time)
        assert batch or search.finished
        for architecture in batch:
            search.tell(architecture, loss(architecture))
    return search


def best_loss(search: Evolution, limit: Limit = LIMIT) -> float:
    best = search.best(limit)
    assert best is not None
    return search.losses[best]


def lawful(architecture: Architecture) -> float:
    """A loss without luck: every second decoder layer wants few heads, and wide layers dislike wide neighbours."""
    d = architecture.decoder
    heads = sum(0.03 * (heads - 3) * (-1) ** layer for layer, heads in enumerate(d.cross_heads))
    wide = 0.02 * (d.ffn_dims[0] == d.ffn_dims[-1] == 64)
    return 6 - 0.4 * math.log(float(macs_ms([architecture])[0])) + heads + wide + 0.01 * d.cross_layers[0]


def luck(architecture: Architecture) -> float:
    return random.Random(architecture.id).random()


def test_the_best_of_a_small_space_by_brute_force_is_found_after_a_part_of_it() -> None:
    everything = GeneCode(ODD).all()
    times = macs_ms(everything)
    limit = Limit.of("macs", latency_ms=float(np.quantile(times, 0.5)))
    optimum = min(lawful(a) for a, ms in zip(everything, times, strict=True) if ms <= limit.ms)
    search = run(search_for(SearchConfig(evaluations=len(everything) // 12), space=ODD, limit=limit), lawful)
    assert best_loss(search, limit) == optimum


def test_turns_whose_limit_cannot_be_served_better_go_to_the_frontier() -> None:
    everything = GeneCode(ODD).all()
    times, losses = macs_ms(everything), [lawful(architecture) for architecture in everything]
    limit = Limit.of("macs", latency_ms=float(np.quantile(times, 0.5)))
    front = [everything[place] for place in pareto_front(losses, times) if times[place] <= limit.ms]
    config = SearchConfig(evaluations=300, algorithm_options={"frontier_share": 0})
    search = run(search_for(config, space=ODD, limit=limit), lawful)
    assert best_loss(search, limit) == min(loss for loss, ms in zip(losses, times, strict=True) if ms <= limit.ms)
    assert sum(architecture in search.losses for architecture in front) > 0.8 * len(front) > 100


def test_a_space_is_gone_through_to_its_last_network() -> None:
    times = np.sort(macs_ms(GeneCode(ODD).all()))
    limit = Limit.of("macs", latency_ms=float(times[149]))
    search = run(search_for(SearchConfig(evaluations=10**4), space=ODD, limit=limit), at_a_time=16)
    assert len(search.losses) == np.count_nonzero(times <= limit.ms)


def test_a_warm_start_is_learned_from_and_never_asked_again() -> None:
    warm, cold = [], []
    for seed in range(3):
        rng = random.Random(seed)
        known = {TOY.sample(rng): None for _ in range(120)}
        search = search_for(SearchConfig(evaluations=20), seed)
        search.budget += len(known)
        for architecture in known:
            search.tell(architecture, bigger_is_better(architecture))
        run(search)
        asked = [proposal for proposal in search.proposals if proposal.origin != "external"]
        assert len(asked) == 20
        assert not {proposal.architecture for proposal in asked} & known.keys()
        assert any(proposal.origin == "surrogate" for proposal in asked)
        warm.append(best_loss(search))
        cold.append(best_loss(run(search_for(SearchConfig(evaluations=20), seed))))
    assert np.mean(warm) < np.mean(cold)
    assert all(w < c for w, c in zip(warm, cold, strict=True))


def test_what_is_told_while_the_search_runs_is_never_asked() -> None:
    search, rng = search_for(SearchConfig(evaluations=120)), random.Random(5)
    told: set[Architecture] = set()
    while not search.finished:
        for architecture in search.ask(3):
            assert architecture not in told
            search.tell(architecture, bigger_is_better(architecture))
        outside = TOY.sample(rng)
        if outside not in search.losses and outside not in search.pending:
            search.tell(outside, bigger_is_better(outside))
            told.add(outside)
    assert len(told) > 20
    with pytest.raises(SpaceError, match="outside"):
        search.tell(SPACE0.largest(), 1.0)


def test_a_loss_of_pure_luck_is_searched_as_widely_as_by_evolution() -> None:
    seen = {}
    for algorithm in ("surrogate", "aging"):
        config = SearchConfig(evaluations=130).model_copy(update={"algorithm": algorithm})
        search = run(search_for(config), luck)
        genes = GeneCode(TOY).encode(list(search.losses))
        seen[algorithm] = [len(np.unique(column)) for column in genes.T]
        assert len(search.losses) == 130
    assert sum(seen["surrogate"]) >= 0.95 * sum(seen["aging"])


def test_failed_scores_are_avoided_and_do_not_stop_the_search() -> None:
    def fails_when_wide(architecture: Architecture) -> float:
        return math.nan if architecture.decoder.embed_dim == 128 else bigger_is_better(architecture)

    search = run(search_for(SearchConfig(evaluations=120)), fails_when_wide)
    assert math.isfinite(best_loss(search))
    late = list(search.losses.values())[60:]
    assert sum(map(math.isinf, late)) < 15
    nothing = run(search_for(SearchConfig(evaluations=60)), lambda _: math.nan)
    assert nothing.best(LIMIT) is None
    assert len(nothing.losses) == 60


def test_several_devices_are_served_by_one_search() -> None:
    devices = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}
    config = SearchConfig(evaluations=120, limits_fraction=(0.2, 0.5))
    limits = resolve_limits(TOY, devices, config)
    search = run(Evolution(TOY, devices, limits, config, 0))
    for limit in (limits[0], limits[-1]):
        alone = run(Evolution(TOY, devices, [limit], SearchConfig(evaluations=60), 0))
        assert best_loss(search, limit) <= best_loss(alone, limit) + 0.03
    parents = Counter(len(proposal.parents) for proposal in search.proposals)
    assert parents[1] + parents[2] > 60


def slower(architectures: list[Architecture]) -> FloatArray:
    return 1.25 * macs_ms(architectures)


def test_refitted_predictors_rank_anew_what_is_known_and_rule_what_is_asked() -> None:
    search = search_for(SearchConfig(evaluations=160))
    while len(search.losses) < 80:
        for architecture in search.ask(2):
            search.tell(architecture, bigger_is_better(architecture))
    before = best_loss(search)
    waiting = search.ask(3)
    search.update_predictions({"macs": {LATENCY: slower}})
    assert all(search.latencies_ms(a)["macs"] == pytest.approx(slower([a])[0]) for a in search.losses)
    within = [loss for a, loss in search.losses.items() if slower([a])[0] <= LIMIT.ms]
    assert best_loss(search) == min(within) > before
    for architecture in waiting:
        search.tell(architecture, bigger_is_better(architecture))
    asked = search.ask(20)
    assert max(slower(asked)) <= LIMIT.ms
    with pytest.raises(SearchError, match="no new predictor for macs"):
        search.update_predictions({"other": {LATENCY: slower}})


def test_a_limit_that_refitted_predictors_put_out_of_reach_ends_the_search_without_a_winner() -> None:
    search = search_for(SearchConfig(evaluations=60))
    for architecture in search.ask(20):
        search.tell(architecture, bigger_is_better(architecture))
    search.update_predictions({"macs": {LATENCY: lambda architectures: 1e3 * macs_ms(architectures)}})
    assert search.best(LIMIT) is None
    assert search.ask(5) == []
    assert search.finished


def test_a_search_is_restored_in_the_middle_of_a_plan_with_its_scales() -> None:
    config = SearchConfig(evaluations=120)
    whole = list(run(search_for(config), at_a_time=1).losses)
    first = search_for(config)
    state = first.state()
    while len(first.losses) < 60 or not state.algorithm.plan:
        (architecture,) = first.ask(1)
        first.tell(architecture, bigger_is_better(architecture))
        state = first.state_type.model_validate_json(first.state().model_dump_json())
    second = search_for(config, seed=1)
    second.load_state(state)
    assert list(run(second, at_a_time=1).losses) == whole


def test_many_workers_that_ask_before_any_tells_get_different_architectures() -> None:
    search = search_for(SearchConfig(evaluations=400))
    for architecture in search.ask(60):
        search.tell(architecture, bigger_is_better(architecture))
    assert len(set(search.ask(64))) == 64


def test_several_devices_share_more_proposals_for_their_frontiers_unless_the_settings_say_how_many() -> None:
    assert [frontier_share(None, devices) for devices in (1, 4)] == [0.5, 0.75]
    assert [frontier_share(0.2, devices) for devices in (1, 4)] == [0.2, 0.2]
    assert frontier_share(0, 2) == 0


def test_of_many_losses_the_models_see_the_best_the_frontiers_and_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan costs the same however many candidates there are, and the search still finds what it found."""
    most, rows = 60, list[int]()
    monkeypatch.setattr(planner, "_MOST_FITTED", most)
    monkeypatch.setattr(planner, "_MOST_KEPT_ROWS", 2 * most)
    monkeypatch.setattr(room, "_PLAN_MOST", 5)
    fit = Posterior

    def counted(features: FloatArray, *rest: object) -> Posterior:
        rows.append(len(features))
        return fit(features, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(planner, "Posterior", counted)
    search = run(search_for(SearchConfig(evaluations=400)), lawful)
    assert len({proposal.architecture for proposal in search.proposals}) == 400
    assert max(rows) < 200  # of 400: those chosen, and a frontier of about a hundred
    assert len(rows) >= (400 - 125) / 5 / 2
    monkeypatch.undo()
    everything = run(search_for(SearchConfig(evaluations=400)), lawful)
    assert best_loss(search) <= best_loss(everything) + 0.01
