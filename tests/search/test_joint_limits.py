"""Limits on several quantities: what is refused, what is kept, and that a search resumes under them."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from search_stand_ins import CONFLICT, ODD, InParts, bigger_is_better, depth_ms, encoder_mb, macs_ms, shallow_p90_ms

from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_predictions import DevicePredictions, Measurements, Prediction
from hat_ray.search.engine.local import run_search
from hat_ray.search.engine.measured import MeasuredSearch
from hat_ray.search.engine.session import Phase
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit, Measured, Predictions, QuantityFunction, Verdict, verdict
from hat_ray.search.reach import imprecise_bounds, resolve_limits
from hat_ray.search.winners import describe_winners
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import SPACE0
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

DEVICES: Predictions = {
    "macs": {LATENCY: macs_ms, "model_mb": encoder_mb, "p90_ms": shallow_p90_ms},
    "depth": {LATENCY: depth_ms, "model_mb": encoder_mb},
}
LIMITS = (
    Limit.of("macs", latency_ms=12.0, model_mb=8.0, p90_ms=18.0),
    Limit.of("macs", model_mb=6.0, p90_ms=16.0),
    Limit.of("depth", latency_ms=22.0, model_mb=8.0),
)


def resolved(space: SearchSpace, **bounds: float) -> tuple[Limit, ...]:
    return resolve_limits(space, {"macs": DEVICES["macs"]}, SearchConfig(limits={"macs": bounds}))  # type: ignore[dict-item,arg-type]


def named_in(refusal: str) -> dict[str, float]:
    """Return the values that a refusal says to hold."""
    text = refusal.split("the nearest values that hold are ")[1].split(":", maxsplit=1)[0]
    return {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)", text)}


@pytest.mark.parametrize("space", [CONFLICT, SPACE0], ids=["small", "large"])
def test_a_bound_that_nothing_keeps_is_named_with_a_value_that_holds(space: SearchSpace) -> None:
    least = float(encoder_mb([space.smallest()])[0])
    with pytest.raises(SearchError, match=r"no architecture keeps .* on macs; model size fails, .*: raise") as refusal:
        resolved(space, latency_ms=1e4, model_mb=0.9 * least)
    assert named_in(str(refusal.value)) == {"latency_ms": 1e4, "model_mb": pytest.approx(least, rel=1e-3)}
    assert "latency fails" not in str(refusal.value)
    assert resolved(space, **named_in(str(refusal.value)))


@pytest.mark.parametrize("space", [CONFLICT, SPACE0], ids=["small", "large"])
def test_bounds_that_hold_alone_and_not_together_are_refused_with_values_that_do(space: SearchSpace) -> None:
    smallest, largest = [space.smallest()], [space.largest()]
    bounds = {"latency_ms": 1.1 * float(macs_ms(smallest)[0]), "p90_ms": 1.05 * float(shallow_p90_ms(largest)[0])}
    for name, most in bounds.items():
        assert resolved(space, **{name: most})
    with pytest.raises(SearchError, match="no architecture keeps") as refusal:
        resolved(space, **bounds)
    named = named_in(str(refusal.value))
    assert all(named[name] >= most for name, most in bounds.items())
    assert resolved(space, **named)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 98765.4321])
def test_values_that_a_refusal_names_are_taken_whatever_their_size(scale: float) -> None:
    functions = {name: partial(scaled, of, scale) for name, of in DEVICES["macs"].items()}
    bounds = {"latency_ms": 6.0 * scale, "p90_ms": 10.9 * scale, "model_mb": 8.123456789 * scale}
    config = SearchConfig.model_validate({"limits": [bounds]})
    with pytest.raises(SearchError, match="the nearest values that hold are") as refusal:
        resolve_limits(CONFLICT, {"macs": functions}, config)
    named = named_in(str(refusal.value))
    assert named["model_mb"] == bounds["model_mb"], "a bound that is kept stays as it is"
    again = SearchConfig.model_validate({"limits": [named]})
    assert resolve_limits(CONFLICT, {"macs": functions}, again) == (Limit.of("macs", **named),)


def scaled(function: QuantityFunction, scale: float, architectures: Sequence[Architecture]) -> FloatArray:
    return scale * function(architectures)


def test_a_bound_nearer_to_the_least_value_than_ten_errors_is_warned_of() -> None:
    least = float(min(shallow_p90_ms(GeneCode(CONFLICT).all())))
    limits = [Limit.of("macs", latency_ms=99.0, p90_ms=most) for most in (1.1 * least, 2 * least)]
    limits.append(Limit.of("macs", model_mb=1.01 * float(encoder_mb([CONFLICT.smallest()])[0])))

    def warned(error: float) -> list[str]:
        return list(imprecise_bounds(CONFLICT, DEVICES, limits, {"macs": {"p90_ms": error}}))

    assert warned(0.009) == []  # a tenth of 0.1 of 1.1
    [line] = warned(0.01)
    assert line.startswith("p90_ms should be predicted to within a tenth of the distance from its least value to the")
    assert f"to {1.1 * least:.4g} ms on macs, got an error of 1.0 %" in line
    assert "\n" not in line
    assert len(warned(0.049)) == 1
    assert len(warned(0.051)) == 2


def test_a_refusal_of_a_small_space_names_the_nearest_values_of_all() -> None:
    bounds = {"latency_ms": 6.0, "p90_ms": 10.9}
    with pytest.raises(SearchError) as refusal:
        resolved(CONFLICT, **bounds)
    every = GeneCode(CONFLICT).all()
    shares = [np.maximum(function(every) / most - 1, 0) for function, most in ((macs_ms, 6.0), (shallow_p90_ms, 10.9))]
    named = named_in(str(refusal.value))
    assert sum(named[name] / most - 1 for name, most in bounds.items()) == pytest.approx(
        float(min(sum(shares))), rel=0.01
    )


def test_settings_of_joint_limits_and_their_mistakes() -> None:
    one = SearchConfig.model_validate({"limits": {"macs": {"latency_ms": 8, "model_mb": 6}}})
    several = SearchConfig.model_validate({"limits": {"macs": [{"latency_ms": 8}, {"model_mb": 6}]}})
    for_all = SearchConfig.model_validate({"limits": [{"model_mb": 6}]})
    assert one.limits_of("macs-x") == ({"latency_ms": 8.0, "model_mb": 6.0},)
    assert one.bounded == (("macs", ("latency_ms", "model_mb")),)
    assert for_all.bounded == (("", ("model_mb",)),)
    assert len(several.limits_of("macs")) == 2
    assert for_all.limits_of("anything") == ({"model_mb": 6.0},)
    assert not for_all.as_fractions
    for wrong, message in (
        ({"limits": {"macs": {"latency_sm": 8}}}, "did you mean latency_ms"),
        ({"limits": {"macs": {"latency_ms": 0}}}, r"above zero, got latency_ms 0"),
        ({"limits": {"macs": {}}}, "must bound a quantity"),
        ({"limits": {"macs": []}}, "give every device a limit"),
        ({"limits": {"macs": {"model_mb": 6}}, "limits_ms": [40]}, r"must not both be set: set search\.limits_ms="),
    ):
        with pytest.raises(ValueError, match=message):
            SearchConfig.model_validate(wrong)
    with pytest.raises(SearchError, match=r"search\.limits names the device pi; known are macs"):
        resolve_limits(CONFLICT, DEVICES, SearchConfig.model_validate({"limits": {"pi": {"model_mb": 6}}}))
    with pytest.raises(SearchError, match=r"search\.limits names no limit for depth"):
        resolve_limits(CONFLICT, DEVICES, one)


def test_the_worst_bound_is_the_verdict_of_a_limit() -> None:
    limit = Limit.of("pi4", latency_ms=40.0, model_mb=20.0, p90_ms=60.0)
    kept = {LATENCY: Measured(39.0, 0.01), "model_mb": Measured(20.0), "p90_ms": Measured(55.0)}
    assert verdict(limit, kept) is Verdict.KEPT
    assert verdict(limit, {**kept, LATENCY: Measured(40.5, 0.01)}) is Verdict.WITHIN_ERROR
    assert verdict(limit, {**kept, "model_mb": Measured(20.1)}) is Verdict.MISSED  # computed: no error excuses it
    assert verdict(limit, {LATENCY: kept[LATENCY], "model_mb": kept["model_mb"]}) is Verdict.NOT_MEASURED
    assert verdict(limit, {LATENCY: Measured(50.0, 0.01)}) is Verdict.MISSED
    assert verdict(Limit.of("pi4", model_mb=20.0), {"model_mb": Measured(20.0)}) is Verdict.KEPT
    assert str(limit) == "40 ms, model 20 MB, p90 60 ms on pi4"


def search(folder: Path, score: InParts, **changes: object) -> SearchResult:
    config = SearchConfig(algorithm_options={"population": 16, "parents": 6}, evaluations=160, early_stop=True)
    return run_search(ODD, DEVICES, LIMITS, score, config.model_copy(update=changes), Folder.at(folder), 0)


def test_no_candidate_is_stopped_early_that_would_win_a_joint_limit(tmp_path: Path) -> None:
    result = search(tmp_path, InParts(), algorithm="random", algorithm_options={}, evaluations=500)
    assert sum(one.estimated for one in result.candidates) > 50
    assert [winner.limit for winner in result.winners] == list(LIMITS)
    for winner in result.winners:
        device, bounds = DEVICES[winner.limit.device], winner.limit.bounds
        kept = [
            one.architecture
            for one in result.candidates
            if all(device[name]([one.architecture])[0] <= most for name, most in bounds)
        ]
        assert winner.candidate.architecture == min(kept, key=bigger_is_better)
        assert winner.candidate.quantities["macs"].keys() == {"model_mb", "p90_ms"}


def test_a_search_under_joint_limits_resumes(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", InParts(), evaluations=80)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", InParts(dies_after=45), evaluations=80)
    second = InParts()
    resumed = search(tmp_path / "killed", second, evaluations=80)
    assert [one.architecture for one in resumed.candidates] == [one.architecture for one in whole.candidates]
    assert [one.quantities for one in resumed.candidates] == [one.quantities for one in whole.candidates]
    assert [one.candidate.loss_bits for one in resumed.winners] == [one.candidate.loss_bits for one in whole.winners]
    assert len(second.scored) == 35


class Small:
    """A device that needs more memory than was thought for every decoder of two layers."""

    def __init__(self) -> None:
        self.refitted: list[int] = []

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Measurements]:
        columns = zip(architectures, macs_ms(architectures), memory_mb(architectures), strict=True)
        return {"macs": {one: {LATENCY: float(ms), "peak_mb": float(mb)} for one, ms, mb in columns}}

    def refit(self, device: str, round_: int) -> DevicePredictions:
        self.refitted.append(round_)
        return self.load_refitted(device, round_)

    def load_refitted(self, device: str, round_: int) -> DevicePredictions:
        return predicted(memory_mb)

    def scale(self, device: str) -> float:
        return 1.0


def memory_mb(architectures: Sequence[Architecture]) -> FloatArray:
    return np.array([10.0 + sum(a.decoder.ffn_dims) / 8 for a in architectures])


def thought_mb(architectures: Sequence[Architecture]) -> FloatArray:
    deep = np.array([a.decoder.depth > 1 for a in architectures])
    return memory_mb(architectures) * np.where(deep, 0.6, 1.0)


def predicted(memory: QuantityFunction) -> DevicePredictions:
    return {
        name: Prediction(function, function, lambda some, of=function: (0.9 * of(some), 1.1 * of(some)))  # type: ignore[misc]
        for name, function in ((LATENCY, macs_ms), ("peak_mb", memory))
    }


def test_a_bound_that_is_missed_when_measured_is_learned_and_the_winner_keeps_every_bound(tmp_path: Path) -> None:
    limit = Limit.of("macs", latency_ms=14.0, peak_mb=19.0)
    config = SearchConfig(algorithm_options={"population": 10, "parents": 5}, evaluations=60, refine_evaluations=20)
    device, folder = Small(), Folder.at(tmp_path)

    def phase(predictions: Predictions, limits: Sequence[Limit], phase: Phase) -> None:
        run_search(CONFLICT, predictions, limits, bigger_is_better, config, folder, 0, phase=phase)

    search = MeasuredSearch(CONFLICT, [limit], config, folder, {"macs": predicted(thought_mb)}, device, phase)
    outcome = search.run()
    candidates = outcome.result.candidates
    missed = [one for one in candidates if one.measured_quantities.get("macs", {}).get("peak_mb", 0.0) > 19.0]
    assert missed
    assert all(one.measured_ms["macs"] <= 14.0 for one in missed)
    assert device.refitted == [0]
    (winner,) = describe_winners(outcome.result, outcome.devices)
    assert winner.limit == limit
    assert winner.verdict is Verdict.KEPT
    assert winner.quantities["peak_mb"].measured == memory_mb([winner.architecture])[0] <= 19.0
    again = MeasuredSearch(CONFLICT, [limit], config, folder, {"macs": predicted(thought_mb)}, Small(), phase).run()
    assert again.result == outcome.result
