"""Which bound decides, and what a looser one buys: against definitions spelt out over a made-up archive."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from markupsafe import escape

from hat_ray.core.codec import read, write
from hat_ray.report.bounds import best_by_bound, loss_noise, price, prices, step_of
from hat_ray.report.data import ReportData
from hat_ray.report.render import page
from hat_ray.report.topics.limits.fronts import LEVELS, fronts
from hat_ray.report.topics.limits.section import decided, sentence
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.finalists import Finalist, Finals
from hat_ray.search.limits import Limit
from hat_ray.search.selection import RetrainedModel, TrainedOnce
from hat_ray.search.winners import LimitWinner
from hat_ray.space.presets import preset
from hat_ray.storage.folder import Folder

Make = Callable[..., ReportData]
BOARD = "board"
NAMES = ("latency_ms", "model_mb", "peak_mb")


def archive(seed: int, count: int = 60) -> list[Candidate]:
    """Candidates with few distinct values, so that ties occur; some are measured, estimated or without a number."""
    rng, space = random.Random(seed), preset("space0")
    found = []
    for order, one in enumerate(dict.fromkeys(space.sample(rng) for _ in range(count))):
        quantities = {"model_mb": float(rng.randrange(6, 20)), "peak_mb": float(rng.randrange(80, 400, 10))}
        loss = math.inf if order % 13 == 5 else 7 - quantities["model_mb"] / 8 + rng.randrange(20) / 10
        latency = {BOARD: float(rng.randrange(20, 60))}
        made = Candidate(one, loss, latency, order, quantities={BOARD: quantities})
        if order % 7 == 3:
            made = replace(made, measured_ms={BOARD: latency[BOARD] + 3})
        if order % 11 == 4:
            made = replace(made, loss_bits=0.5, scored_share=0.25)
        found.append(made)
    return found


def least(candidates: list[Candidate], bounds: dict[str, float]) -> float:
    """Return the least whole loss of the candidates that keep some bounds, by looking at each."""
    losses = [math.inf]
    for one in candidates:
        values = {"latency_ms": one.measured_ms.get(BOARD, one.latency_ms[BOARD]), **one.quantities[BOARD]}
        if one.scored_share == 1 and all(values[name] <= most for name, most in bounds.items()):
            losses.append(one.loss_bits)
    return min(losses)


@pytest.mark.parametrize("seed", range(3))
def test_prices_are_those_of_trying_every_candidate(seed: int) -> None:
    candidates, rng = archive(seed), random.Random(seed)
    for _ in range(8):
        names = rng.sample(NAMES, rng.randint(1, 3))
        most = {"latency_ms": rng.randint(22, 60), "model_mb": rng.randint(8, 20), "peak_mb": rng.randint(100, 400)}
        bounds = {name: float(most[name]) for name in names}
        limit, inside = Limit.of(BOARD, **bounds), least(candidates, bounds)
        found = price(candidates, limit)
        if math.isinf(inside):
            assert found is None
            continue
        assert found is not None
        assert found.best_loss_bits == inside
        assert found.together_gain_bits == inside - least(candidates, {})
        assert {one.name for one in found.bounds} == set(names)
        for one in found.bounds:
            others = {name: value for name, value in bounds.items() if name != one.name}
            assert one.lifted_gain_bits == inside - least(candidates, others)
            assert one.decides == (least(candidates, others) < inside)
            looser = {**bounds, one.name: bounds[one.name] + step_of(bounds[one.name])}
            assert one.step_gain_bits == inside - least(candidates, looser)
            values = sorted({any_.known(BOARD)[one.name] for any_ in candidates})
            tried = [value for value in values if least(candidates, {**others, one.name: value}) < inside]
            assert one.next_value == (tried[0] if tried else None)
            beyond = {**others, one.name: tried[0]} if tried else bounds
            assert one.next_gain_bits == inside - least(candidates, beyond)
            curve = best_by_bound(candidates, limit, one.name)
            for value in values:
                under = [loss for x, loss in curve if x <= value]
                assert (under[-1] if under else math.inf) == least(candidates, {**others, one.name: value})


def test_a_step_is_one_unit_or_a_round_share_of_the_bound() -> None:
    steps = {40: 1, 12: 1, 10: 1, 100: 1, 300: 10, 2000: 100, 8: 0.2, 2.3: 0.1, 0.5: 0.02, 0.02: 0.001}
    assert {most: step_of(most) for most in steps} == steps


def test_the_noise_is_that_of_finalists_and_else_of_models_that_were_built() -> None:
    space, rng = preset("toy"), random.Random(1)
    some = [space.sample(rng) for _ in range(4)]
    models = [RetrainedModel(5.0, (TrainedOnce("scratch", 0, str(i), 4 + i / 10, 9, 1.0),)) for i in range(3)]
    outside = RetrainedModel(math.inf, (TrainedOnce("scratch", 0, "o", 9.0, 9, 1.0),))
    found = loss_noise(None, [*models, models[0], outside])
    assert found is not None
    assert (found.trained, found.finalists) == (3, False)
    assert found.bits == pytest.approx(0.1 * math.sqrt(2))  # the deviation of 4.0, 4.1 and 4.2
    assert loss_noise(None, models[:2]) is None
    limit = Limit.of(BOARD, latency_ms=40)
    finals = Finals(
        (9, 9), tuple(Finalist(one, 5.0, (limit,), (5 - i / 5, 1.0)[: 1 + i % 2]) for i, one in enumerate(some))
    )
    found = loss_noise(finals, models)
    assert found is not None
    assert (found.trained, found.finalists) == (4, True)
    assert found.bits == pytest.approx(math.sqrt(2) * 0.2 * math.sqrt(5 / 3))


def unbeaten(points: set[tuple[float, float]]) -> set[tuple[float, float]]:
    """Return the points that no other one beats, by comparing each with each."""
    return {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}


@pytest.mark.parametrize("seed", range(3))
def test_any_two_quantities_have_the_frontier_of_comparing_all_candidates(small_report: Make, seed: int) -> None:
    known = [one for one in archive(seed) if not one.estimated]
    device = replace(small_report().devices[0], slug=BOARD)
    finite = [one for one in known if math.isfinite(one.loss_bits)]
    won = replace(
        small_report().first("winner"), architecture=finite[7].architecture, limit=Limit.of(BOARD, peak_mb=90)
    )
    data = small_report(devices=(device,), candidates=tuple(known), chosen=(won,))
    drawn = fronts(data, device, "f")
    values = {name: [one.known(BOARD)[name] for one in finite] for name in NAMES}
    losses = [one.loss_bits for one in finite]
    alone = {figure.columns[-1]: figure for figure in drawn[:2]}
    assert set(alone) == {"model_mb", "peak_mb"}
    for name, figure in alone.items():
        [line] = [trace for trace in figure.traces if trace["name"] == "Frontier"]
        assert set(zip(line["x"], line["y"], strict=True)) == unbeaten(set(zip(values[name], losses, strict=True)))  # type: ignore[call-overload]
    assert {tuple(figure.columns[-2:]) for figure in drawn[2:]} == set(combinations(NAMES, 2))
    for figure in drawn[2:]:
        x, y = figure.columns[-2:]
        steps = {
            level: {(a, b) for loss_level, _, _, _, a, b in figure.rows if loss_level == level}
            for level, *_ in figure.rows
        }
        assert {min(losses), finite[7].loss_bits} <= steps.keys()
        assert any("as chosen for ≤ peak 90 MB" in str(trace["name"]) for trace in figure.traces)
        for level, front in steps.items():
            good = {(a, b) for a, b, loss in zip(values[x], values[y], losses, strict=True) if loss <= level}
            assert front == unbeaten(good)
        for share in LEVELS[1:]:
            reached = [level for level in steps if sum(loss <= level for loss in losses) >= share * len(losses)]
            assert sum(loss < min(reached) for loss in losses) < share * len(losses)


def made(loss: float, ms: float, mb: float, order: int) -> Candidate:
    space, rng = preset("space0"), random.Random(order)
    return Candidate(space.sample(rng), loss, {BOARD: ms}, order, quantities={BOARD: {"model_mb": mb}})


def test_one_sentence_names_the_bound_its_price_and_the_noise() -> None:
    limit = Limit.of(BOARD, latency_ms=40, model_mb=12)
    inside, heavier, slower = made(5.0, 39, 12, 1), made(4.97, 40, 13, 2), made(4.5, 50, 12.5, 3)
    found = price([inside, heavier, slower], limit, inside.architecture)
    assert found is not None
    assert sentence(found, None) == (
        "bound by model size (12 MB): one more megabyte would lower the loss by 0.030 bits, one more millisecond by "
        "nothing."
    )
    models = [RetrainedModel(5.0, (TrainedOnce("scratch", 0, str(i), 4 + i / 10, 9, 1.0),)) for i in range(3)]
    within = sentence(found, loss_noise(None, models))
    assert within.startswith(
        "bound by model size (12 MB, within the noise): one more megabyte would lower the loss by "
    )
    assert "0.030 bits (within the noise), one more millisecond by nothing." in within
    apart = price([inside, slower], limit, inside.architecture)
    assert apart is not None
    assert sentence(apart, None).startswith("bound by its bounds together: lifting all lowers the loss by 0.50 bits")
    alone = price([inside], limit, inside.architecture)
    assert alone is not None
    assert sentence(alone, None) == "bound by nothing: no candidate has a lower loss."
    far = price([inside, made(4.9, 40, 15, 4)], limit, inside.architecture)
    assert far is not None
    assert "one more megabyte or one more millisecond would buy nothing; the next better candidate needs 15.00 MB" in (
        sentence(far, None)
    )
    by_training = price([inside, made(5.2, 30, 10, 5)], limit, made(5.2, 30, 10, 5).architecture)
    assert by_training is not None
    assert f"The gains are over {inside.architecture.id}" in sentence(by_training, None)


def test_page_and_json_show_the_prices_of_each_winner(small_report: Make, tmp_path: object) -> None:
    data, known = small_report(), archive(1)
    device = replace(data.devices[0], slug=BOARD, title="A <board>")
    limits = [Limit.of(BOARD, latency_ms=45, model_mb=14), Limit.of(BOARD, latency_ms=30)]
    winners = []
    for limit in limits:
        best = min(
            (one for one in known if not one.estimated and limit.keeps(one.known(BOARD))), key=lambda c: c.loss_bits
        )
        one = best.architecture
        winners.append(
            LimitWinner(limit, best.loss_bits, best.latency_ms[BOARD], None, None, None, one.id, one, "w.yml")
        )
    whole = tuple(one for one in known if not one.estimated)
    priced = prices(whole, winners, None, [model.trained for model in data.chosen])
    data = replace(data, devices=(device,), candidates=whole, prices=priced, chosen=())
    folder = Folder.at(str(tmp_path))
    write(folder, "report.json", data)
    assert read(folder, "report.json", ReportData, "again").prices == priced
    shown = decided(data)
    assert shown is not None
    assert [len(device.figures) for device in shown.devices] == [2]
    text = page(data)
    for name, words in shown.devices[0].sentences:
        assert f"<strong>{escape(name)}</strong>: {escape(words)}</li>" in text
    assert "models that were built" in text
    assert decided(replace(data, prices=None)) is None
