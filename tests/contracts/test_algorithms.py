"""What every search algorithm keeps: hat-ray's own, and those of a package that is not hat-ray.

A new algorithm passes all of this. Name it in `EVERY` to try it.
"""

import math
import random
from pathlib import Path

import pytest
from foreign_package import SEARCH, install
from pydantic import ValidationError
from search_stand_ins import CONFLICT, EIGHT, Counted, bigger_is_better, depth_ms, encoder_mb, macs_ms, shallow_p90_ms
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.errors import PluginError, SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.algorithms.registry import ALGORITHMS
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.limits import Limit, Predictions
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import TOY
from hat_ray.space.search_space import SearchSpace

EVERY = (*ALGORITHMS.own_names, "coin_package:CoinSearch", "coin_package:ShySearch")
LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("macs", latency_ms=120.0), Limit.of("depth", latency_ms=25.0))
DEVICES: Predictions = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}
EVALUATIONS = 48
SMALL = {"population": 12, "parents": 4, "tournament": 4}
every_algorithm = pytest.mark.parametrize("algorithm", EVERY)


@pytest.fixture(autouse=True)
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "coin_package", SEARCH)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def search_by(
    algorithm: str,
    seed: int = 0,
    space: SearchSpace = TOY,
    limits: tuple[Limit, ...] = LIMITS,
    devices: Predictions | None = None,
    evaluations: int = EVALUATIONS,
    population: int = SMALL["population"],
) -> Evolution:
    known = ALGORITHMS.facts(algorithm).model_fields
    options = {name: value for name, value in {**SMALL, "population": population}.items() if name in known}
    config = SearchConfig(algorithm=algorithm, algorithm_options=options, evaluations=evaluations)
    return Evolution(space, devices or DEVICES, limits, config, seed)


class Run:
    """A search that is asked and answered in steps, several architectures outstanding, answered in any order."""

    def __init__(self, search: Evolution) -> None:
        self.search, self.asked = search, list[Architecture]()
        self._order, self._waiting = random.Random(5), list[Architecture]()

    def step(self) -> list[Architecture]:
        """Ask for a few architectures and score some; return what was asked for."""
        asked = self.search.ask(self._order.randrange(1, 6))
        assert asked or self._waiting or self.search.finished, "nothing to ask for, and the search is not finished"
        self.asked += asked
        self._waiting += asked
        self._order.shuffle(self._waiting)
        for _ in range(len(self._waiting) if not asked else self._order.randrange(len(self._waiting) + 1)):
            one = self._waiting.pop()
            self.search.tell(one, bigger_is_better(one))
        return asked


def run(search: Evolution) -> list[Architecture]:
    """Return everything that a search asks for until it ends."""
    under_way = Run(search)
    while not search.finished:
        under_way.step()
    return under_way.asked


@every_algorithm
def test_no_architecture_is_asked_for_twice_and_each_keeps_a_limit(algorithm: str) -> None:
    search = search_by(algorithm)
    asked = run(search)
    assert search.spent == EVALUATIONS
    assert len(asked) == len(set(asked)) >= EVALUATIONS / 2
    assert len(asked) == EVALUATIONS or algorithm == "hat"  # HAT counts architectures that it knows
    for architecture in asked:
        times = search.latencies_ms(architecture)
        assert TOY.contains(architecture)
        assert any(times[limit.device] <= limit.ms for limit in LIMITS)


@every_algorithm
def test_a_search_that_is_saved_and_restored_again_and_again_asks_the_same(algorithm: str) -> None:
    tight = Limit.of("macs", latency_ms=1.05 * float(macs_ms([TOY.smallest()])[0]))  # random draws hardly ever keep it
    limits = (*LIMITS, tight)
    whole = run(search_by(algorithm, seed=3, limits=limits))
    under_way, number = Run(search_by(algorithm, seed=3, limits=limits)), 0
    while not under_way.search.finished:
        if number in (1, 4, 8) or under_way.search.spent > 0.8 * EVALUATIONS:
            text = under_way.search.state().model_dump_json()
            under_way.search = search_by(algorithm, seed=99, limits=limits)
            under_way.search.load_state(under_way.search.state_type.model_validate_json(text))
        under_way.step()
        number += 1
    assert number > 8
    assert under_way.asked == whole


@every_algorithm
def test_the_seed_decides(algorithm: str) -> None:
    assert run(search_by(algorithm, seed=3)) == run(search_by(algorithm, seed=3)) != run(search_by(algorithm, seed=4))


@every_algorithm
def test_a_space_of_eight_ends_the_search(algorithm: str) -> None:
    search = search_by(
        algorithm, space=EIGHT, limits=(Limit.of("macs", latency_ms=1e9),), devices={"macs": {LATENCY: macs_ms}}
    )
    asked = run(search)
    assert len(set(asked)) == len(asked) <= EIGHT.size() == 8
    assert search.ask(1) == []


@every_algorithm
def test_where_one_architecture_keeps_the_limit_no_other_is_asked_for(algorithm: str) -> None:
    ms = float(macs_ms([EIGHT.smallest()])[0])
    search = search_by(
        algorithm, space=EIGHT, limits=(Limit.of("macs", latency_ms=ms),), devices={"macs": {LATENCY: macs_ms}}
    )
    assert run(search) == [EIGHT.smallest()]


JOINT: Predictions = {
    "macs": {LATENCY: macs_ms, "model_mb": encoder_mb, "p90_ms": shallow_p90_ms},
    "depth": {LATENCY: depth_ms, "model_mb": encoder_mb},
}
JOINT_LIMITS = (
    Limit.of("macs", latency_ms=8.0, model_mb=6.0, p90_ms=18.0),  # small models against wide decoders
    Limit.of("macs", latency_ms=9.0),
    Limit.of("macs", model_mb=4.0, p90_ms=16.0),  # whatever the latency
    Limit.of("depth", latency_ms=13.0, model_mb=6.0),
)


def kept_by(limit: Limit, every: list[Architecture]) -> list[Architecture]:
    return [a for a in every if all(JOINT[limit.device][name]([a])[0] <= most for name, most in limit.bounds)]


@every_algorithm
def test_the_winner_of_each_joint_limit_is_that_of_brute_force(algorithm: str) -> None:
    every = GeneCode(CONFLICT).all()
    within = {limit: kept_by(limit, every) for limit in JOINT_LIMITS}
    assert all(10 < len(some) < len(every) / 2 for some in within.values())
    more = {"evaluations": 8000, "population": 200} if algorithm == "hat" else {"evaluations": 1500}  # it converges
    search = search_by(algorithm, space=CONFLICT, limits=JOINT_LIMITS, devices=JOINT, **more)
    assert set(run(search)) <= {one for some in within.values() for one in some}
    for limit, some in within.items():
        assert search.best(limit) == min(some, key=bigger_is_better), limit


@every_algorithm
def test_an_external_architecture_is_never_asked_for(algorithm: str) -> None:
    search, rng = search_by(algorithm), random.Random(1)
    under_way, external = Run(search), set[Architecture]()
    while not search.finished and len(external) < 40:
        assert not external & set(under_way.step())
        outside = TOY.sample(rng)
        if outside not in search.losses and outside not in search.pending:
            search.tell(outside, bigger_is_better(outside))
            search.budget += 1
            external.add(outside)
    assert len(external) > 10


@every_algorithm
def test_losses_that_are_no_numbers_do_not_stop_the_search(algorithm: str) -> None:
    search = search_by(algorithm)
    while not search.finished:
        for architecture in search.ask(2):
            search.tell(architecture, math.nan)
    assert search.spent == EVALUATIONS
    assert search.best(LIMITS[0]) is None


@every_algorithm
def test_new_predictors_are_followed(algorithm: str) -> None:
    search = search_by(algorithm, limits=LIMITS[:2], devices={"macs": {LATENCY: macs_ms}})
    before = 25
    while len(search.losses) < before and not search.finished:
        for architecture in search.ask(1):
            search.tell(architecture, bigger_is_better(architecture))

    def slower(architectures: list[Architecture]) -> object:
        return 1.5 * macs_ms(architectures)

    search.update_predictions({"macs": {LATENCY: slower}})  # type: ignore[dict-item]
    after = run(search)
    if algorithm != "hat":  # the generation that is under way stays as it was bred
        assert after
        assert max(search.latencies_ms(architecture)["macs"] for architecture in after) <= 120


@every_algorithm
def test_the_work_for_a_proposal_is_bounded(algorithm: str) -> None:
    device = Counted(macs_ms)
    tight = 1.2 * float(macs_ms([TOY.smallest()])[0])
    search = search_by(algorithm, limits=(Limit.of("macs", latency_ms=tight),), devices={"macs": {LATENCY: device}})
    device.architectures = 0
    run(search)
    assert device.architectures < 2500 * EVALUATIONS


@every_algorithm
def test_an_option_that_is_not_known_is_refused_by_name(algorithm: str) -> None:
    def begin() -> None:
        Evolution(TOY, DEVICES, LIMITS, SearchConfig(algorithm=algorithm, algorithm_options={"popluation": 3}), 0)

    with pytest.raises((SearchError, ValidationError), match=r"search\.algorithm_options\.popluation.*population"):
        begin()


@every_algorithm
def test_a_state_of_another_shape_is_refused(algorithm: str) -> None:
    search = search_by(algorithm)
    state = search.state().model_dump(mode="json")
    with pytest.raises(ValidationError):
        search.state_type.model_validate({**state, "algorithm": "nothing"})


def test_an_algorithm_that_proposes_twice_is_named() -> None:
    search = search_by("coin_package:Stubborn")
    search.ask(1)
    with pytest.raises(PluginError, match=r"coin_package:Stubborn proposed .* again"):
        search.ask(1)


@pytest.mark.parametrize("algorithm", ALGORITHMS.own_names)
def test_the_recipe_names_every_option(algorithm: str) -> None:
    described = " ".join(str(SearchConfig.model_fields["algorithm_options"].description).split())
    options = described.split(f"`{algorithm}`: ")[1].split(";")[0].removesuffix(".")
    assert options.split(", ") == list(ALGORITHMS.facts(algorithm).model_fields)


def test_the_help_names_every_algorithm() -> None:
    text = CliRunner().invoke(app, ["search", "run", "--help"], env={"COLUMNS": "200"}).output
    line = " ".join(text.split()).split("Algorithms: ")[1]
    assert line.startswith("surrogate (default), aging, random, hat, or one of an installed package")
    assert {"surrogate", "aging", "random", "hat"} == set(ALGORITHMS.own_names)
