"""A made-up run that looks like a real one: two devices, three limits, every kind of model."""

# ruff: noqa: E501

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hat_ray.evaluate.evaluate import Score
from hat_ray.latency.effects import SweepResult, SweptDevice, TimedPoint, TimedSweep, effect_of
from hat_ray.latency.sweep import SweepPoint, plan_sweep
from hat_ray.predictor.assess import Assessment, CurvePoint, DepthError, Outlier
from hat_ray.predictor.quality import Quality
from hat_ray.predictor.quantities import QuantityQuality
from hat_ray.report.bounds import Prices, prices
from hat_ray.report.data import (
    ChosenModel,
    CorpusFacts,
    Device,
    Latency,
    LossCurve,
    PredictionPair,
    PredictorFacts,
    Provenance,
    ReportData,
    RuntimeContest,
    SearchTrack,
    SpaceFacts,
    StageTime,
    TimedArchitecture,
    TrainingFacts,
    Translation,
)
from hat_ray.report.ledger import Ledger, LedgerLine, TimedOn, WorkDone
from hat_ray.search.candidates import Candidate
from hat_ray.search.limits import Limit
from hat_ray.search.selection import Kind, RetrainedModel, TrainedOnce
from hat_ray.search.winners import LimitWinner
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.space.presets import preset
from hat_ray.space.search_space import SearchSpace
from hat_ray.studies.rating import Truth, random_regrets, rank_all, rank_policies
from hat_ray.studies.results import PolicyStudy, RankingResult, ScoredSupernet, ScratchTrained
from hat_ray.studies.stratify import PROXY, LatencySource, stratify
from hat_ray.train.state import CurvePoint as TrainingPoint

if TYPE_CHECKING:
    from selenium import webdriver

sys.path.insert(0, str(Path(__file__).parent))  # for `browsing`

XEON, BOARD = "xeon-1t-eager-fp32", "raspberry-pi-4-1t-eager-fp32"
LIMITS = {XEON: (40.0, 70.0), BOARD: (300.0,)}


def made_up_ms(architecture: Architecture, device: str) -> float:
    """Made-up physics: a constant, the encoder once, and every decoder layer once a token."""
    d, e = architecture.decoder, architecture.encoder
    layers = sum(0.9 + 0.25 * d.embed_dim / 512 + ffn / 3072 for ffn in d.ffn_dims)
    ms = 6 + 10 * layers + 0.004 * e.embed_dim + 0.0006 * sum(e.ffn_dims)
    return ms if device == XEON else 18 + 7.4 * ms + 0.02 * sum(d.ffn_dims)


def made_up_loss(architecture: Architecture) -> float:
    """Made-up loss: falls with depth and, more slowly, with width."""
    d, e = architecture.decoder, architecture.encoder
    size = sum(d.ffn_dims) / 3072 + 0.5 * sum(e.ffn_dims) / 3072 + 0.002 * (d.embed_dim + e.embed_dim)
    return 3.9 + 0.9 * math.exp(-0.45 * d.depth) + 0.6 * math.exp(-0.22 * size)


def made_up_score(bleu: float, chrf: float | None = None) -> Score:
    return Score(bleu, "BLEU", chrf, None if chrf is None else "chrF", 1.0, 1000, 5, 1.0, 30.0, 33.3, 1 << 30)


def made_up_model(kind: Kind, architecture: Architecture, rng: random.Random, **more: object) -> ChosenModel:
    costs, loss = cost(architecture), made_up_loss(architecture)
    latency = {}
    for device in (XEON, BOARD):
        predicted = made_up_ms(architecture, device)
        measured = predicted * rng.uniform(0.97, 1.03)
        latency[device] = Latency(predicted, measured, measured * 0.985, measured * 1.06)
    model = ChosenModel(
        kind=kind,
        architecture=architecture,
        params=costs.params,
        flops=costs.flops,
        latency=latency,
        trained=RetrainedModel(
            loss, (TrainedOnce("scratch", 0, architecture.id, loss - 0.08, 1000, 60.0),)
        ),
        score=made_up_score(max(0.0, 61.0 - 7.5 * (loss - 0.2)), max(0.0, 80.0 - 6 * loss)),
        samples=(
            Translation("A man in an orange hat starring at something.", "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.", "Ein Mann mit einem orangefarbenen Hut starrt etwas an."),
            Translation("Two dogs run across the snow.", "Zwei Hunde laufen über den Schnee.", "Zwei Hunde laufen über den Schnee."),
            Translation("People are fixing the roof of a house.", "Leute reparieren das Dach eines Hauses.", "Menschen reparieren ein Dach."),
        ),
    )  # fmt: skip
    return replace(model, **more)  # type: ignore[arg-type]


def chosen_models(space: SearchSpace, candidates: list[Architecture], rng: random.Random) -> list[ChosenModel]:
    models = [made_up_model("largest", space.largest(), rng)]
    for device, limits in LIMITS.items():
        for limit in limits:
            winner = min((a for a in candidates if made_up_ms(a, device) <= limit), key=made_up_loss)
            slower = [a for a in candidates if made_up_ms(a, device) >= made_up_ms(winner, device) and a != winner]
            rival = min(slower, key=lambda a: made_up_ms(a, device))
            models.append(made_up_model("winner", winner, rng, limit=Limit.of(device, latency_ms=limit)))
            models.append(made_up_model("random", rival, rng, limit=Limit.of(device, latency_ms=limit)))
    return models


def made_up_candidates(architectures: list[Architecture]) -> list[Candidate]:
    return [
        Candidate(
            architecture=a,
            loss_bits=made_up_loss(a),
            latency_ms={d: made_up_ms(a, d) for d in (XEON, BOARD)},
            quantities={BOARD: {"model_mb": 4e-6 * cost(a).params}},
        )
        for a in architectures
    ]


def made_up_prices(candidates: list[Candidate], chosen: list[ChosenModel]) -> Prices | None:
    """Return what the bounds cost: those of the models' limits, and of one that also bounds the model size."""
    won = [(one.limit, one.architecture) for one in chosen if one.kind == "winner" and one.limit]
    won.append(
        (
            Limit.of(BOARD, latency_ms=300, model_mb=120),
            min(candidates, key=lambda one: one.takes_ms(BOARD)).architecture,
        )
    )
    winners = [LimitWinner(limit, 0.0, 0.0, None, None, None, one.id, one, "winners/1.yml") for limit, one in won]
    return prices(candidates, winners, None, [one.trained for one in chosen])


def predictor_facts(device: str, architectures: list[Architecture], rng: random.Random) -> PredictorFacts:
    pairs = []
    for a in architectures[:120]:
        ms = made_up_ms(a, device)
        pairs.append(PredictionPair(a.id, ms * rng.gauss(1, 0.012), ms * rng.gauss(1, 0.02), slow=len(pairs) > 110))
    found = Assessment(
        device=device,
        space_id="0123456789ab",
        quality=Quality(1.86, 99.2, 0.964, 111),
        slow_rows=9,
        timing_error_pct=0.7,
        coverage_pct=91.0,
        trees_share=0.5,
        source_predictors=(),
        by_depth=tuple(DepthError(depth, 18, 2.5 - 0.1 * depth, 0.1) for depth in range(1, 7)),
        curve=tuple(CurvePoint(rows, 30 / rows + 1.5, 20 / rows + 1.4, 40 / rows + 1.6) for rows in (10, 20, 50, 100)),
        outliers=(Outlier(architectures[0].id, 10.0, 12.0),),
        quantities=(
            QuantityQuality("p90_ms", Quality(2.5, 98.0, 0.95, 111), 1.9, 89.0),
            QuantityQuality("peak_mb", Quality(0.4, 100.0, 0.99, 9), 0.3, None, "9 rows are too few"),
        ),
    )
    return PredictorFacts(device, found.quality, tuple(pairs), found)


def made_up_tried(space: SearchSpace, rng: random.Random) -> list[ScratchTrained]:
    """Eighteen architectures, each trained from scratch twice."""
    picked = stratify(space, lambda many: np.array([made_up_ms(a, XEON) for a in many]), 18, 3, seed=2)
    tried = []
    for one in picked:
        counted, loss = cost(one.architecture), made_up_loss(one.architecture) / math.log(2)
        losses = (loss + rng.gauss(0, 0.01), loss + rng.gauss(0, 0.01))
        bleu = (40 - 2 * losses[0], 40 - 2 * losses[1])
        tried.append(
            ScratchTrained(one.architecture, one.latency, one.bin, counted.params, counted.flops, losses, bleu)
        )
    return tried


def made_up_ranking(space: SearchSpace, rng: random.Random) -> RankingResult:
    tried = made_up_tried(space, rng)
    inherited = tuple(one.scratch_mean_bits + 0.4 + rng.gauss(0, 0.05) for one in tried)
    truth, bleu = Truth.of(tried, 200, 1), Truth.of(tried, 200, 1, bleu=True)
    return RankingResult(
        latency=LatencySource(XEON, "ms", proxy=False),
        tried=tuple(tried),
        inherited_loss_bits=inherited,
        inherited_bleu=tuple(40 - 2 * loss for loss in inherited),
        loss_ranks=rank_all(truth, tried, {"inherited loss": inherited}),
        bleu_ranks=rank_all(bleu, tried, {"inherited BLEU": inherited, "inherited loss": inherited}),
        random_regrets=random_regrets(truth),
        bleu_sentences=200,
    )


def made_up_study(space: SearchSpace, rng: random.Random) -> PolicyStudy:
    tried = made_up_tried(space, rng)
    truth, nets = Truth.of(tried, 200, 1), []
    for policy, noise in (("front/uniform", 0.1), ("front/sandwich+distill", 0.03)):
        for seed in range(3):
            losses = tuple(one.scratch_mean_bits + 0.4 + rng.gauss(0, noise) for one in tried)
            taus = truth.tau(losses, within=False), truth.tau(losses, within=True)
            nets.append(ScoredSupernet(policy, seed, 6000, 9_000_000, 710.5, 4e15, 5.1, 6.2, losses, *taus))
    losses_of = {net.policy: [one.inherited_loss_bits for one in nets if one.policy == net.policy] for net in nets}
    ranks = rank_policies(truth, tried, losses_of)
    return PolicyStudy(PROXY, tuple(tried), tuple(nets), ranks, rank_all(truth, tried, {}))


def made_up_sweep(space: SearchSpace) -> SweepResult:
    """Both devices' sweep, by the made-up physics."""
    plan = plan_sweep(space)

    def point(one: SweepPoint, device: str) -> TimedPoint:
        ms, encoder = made_up_ms(one.architecture, device), 0.004 * one.architecture.encoder.embed_dim
        spread = ms * 0.985, ms * 1.06, encoder, ms - encoder
        return TimedPoint(one.choice, one.architecture, cost(one.architecture).flops, ms, *spread, 0.008)

    sweeps = []
    for device in (XEON, BOARD):
        for one in plan.dimensions:
            points = tuple(point(each, device) for each in one.points)
            sweeps.append(TimedSweep(device, one.dimension, effect_of(points), points))
    devices = [SweptDevice(d, f"{d} <1 thread>", made_up_ms(plan.base, d)) for d in (XEON, BOARD)]
    return SweepResult(space.name, plan.base, "middle", tuple(devices), tuple(sweeps))


def made_up_runtimes() -> tuple[RuntimeContest, ...]:
    """Two limits of one board, the first kept by one of its runtimes only."""
    small, large, onnx = preset("toy").smallest(), preset("toy").largest(), "raspberry-pi-4-1t-onnx-int8"
    tight, loose, same = (
        Limit.of(device, latency_ms=ms) for device, ms in ((onnx, 250.0), (onnx, 400.0), (BOARD, 400.0))
    )
    fast = LimitWinner(tight, 4.6, 240.0, None, None, 244.0, small.id, small, "winners/1.yml")
    slow = LimitWinner(same, 4.9, 390.0, None, None, None, large.id, large, "winners/2.yml")
    return (
        RuntimeContest("raspberry-pi-4", (fast,), ("eager fp32, 1 thread",)),
        RuntimeContest("raspberry-pi-4", (replace(fast, limit=loose), slow)),
    )


def made_up_ledger() -> Ledger:
    """A day's work on one core, a part of it metered."""
    return Ledger(
        lines=(
            LedgerLine("corpus", 8.2, 8.2, 0.0, "wall time, one core"),
            LedgerLine("supernet", 4210.0, 8420.0, 0.0, "training by 2 workers, 1 thread each"),
            LedgerLine("latency", 904.0, 600.0, 300.0, "320 timings", 9000.0, 300.0, 300.0),
        ),
        core_watts=10.0,
        gpu_watts=300.0,
        grid_g_co2e_per_kwh=473.0,
        timed=(TimedOn(XEON, 160, 300.0, 9000.0, "rapl package-0"), TimedOn(BOARD, 160, 300.0)),
        work=WorkDone(40_000, 812_000_000, 160.0, 3, 700, 7, 20_000),
    )


def made_up_report(num_candidates: int = 700) -> ReportData:
    rng, space = random.Random(7), preset("space0")
    architectures = list(dict.fromkeys(space.sample(rng) for _ in range(num_candidates)))
    timed = [
        TimedArchitecture(a, d, cost(a).params, cost(a).flops, made_up_ms(a, d) * rng.gauss(1, 0.02))
        for d in (XEON, BOARD)
        for a in architectures[:160]
    ]
    searches = [
        SearchTrack(
            Limit.of(d, latency_ms=limit),
            tuple((n, 4.2 + 0.4 * math.exp(-n / 180) + 4 / limit) for n in range(25, 701, 25)),
        )
        for d, limits in LIMITS.items()
        for limit in limits
    ]
    steps = range(0, 40_001, 4000)
    supernet = [
        LossCurve(name, tuple((n, None if n == 0 else floor + 5 * math.exp(-n / 7000)) for n in steps))
        for name, floor in (("smallest", 4.9), ("largest", 4.1))
    ]
    retraining = [
        LossCurve(name, tuple((n, floor + 5 * math.exp(-n / 6000)) for n in steps))
        for name, floor in (("chosen ≤ 40 ms", 4.5), ("chosen ≤ 70 ms", 4.25), ("largest", 4.1), ("random", 4.6))
    ]
    trainings = [
        TrainingFacts(
            name,
            "updates",
            40_000,
            90_000_000,
            4000.0,
            made_of=(40_000,),
            best_update=36_000,
            bleu=scores,
            curve=tuple(
                TrainingPoint(
                    n,
                    1e-3 * math.cos(n / 30_000),
                    4 + 5 * math.exp(-n / 6000),
                    1.5 + 400 / n,
                    21_000.0 + n / 100,
                    n / 10,
                )
                for n in range(400, 40_001, 400)
            ),
        )
        for name, scores in (
            ("SuperTransformer", {model: tuple((n, n / 2000) for n in steps[1:]) for model in ("largest", "smallest")}),
            ("winner", {"model": tuple((n, n / 1500) for n in steps[1:])}),
        )
    ]
    candidates, chosen = made_up_candidates(architectures), chosen_models(space, architectures, rng)
    return ReportData(
        name="multi30k.en-de",
        corpus=CorpusFacts("en", "de", 29_000, 1014, 1000, 8000, copy_bleu=0.48, nearest_bleu=9.61),
        space=SpaceFacts(space.name, space.id, f"{space.size():,}"),
        devices=(
            Device(XEON, "Intel Xeon 2.2 GHz, 1 thread, eager fp32", {"Cores": "2", "Memory": "8 GiB", "Timed": "160 architectures"}),
            Device(BOARD, "Raspberry Pi 4, 1 thread, eager fp32", {"Cores": "4", "Memory": "4 GiB", "Timed": "160 architectures"}),
        ),
        chosen=tuple(chosen),
        provenance=Provenance(
            recipe_yaml="corpus:\n  source: files\nspace: space0\nsearch:\n  limits_ms: [40, 70]\n",
            seed=1,
            created="2026-03-01T09:30:00Z",
            commit="0123456789ab",
            versions={"hat-ray": "0.1.0", "torch": "2.13.0", "ray": "2.60.0"},
            stages=(
                StageTime("corpus", 8.2),
                StageTime("supernet", 4210),
                StageTime("latency", 904),
                StageTime("predictor", 3.1),
                StageTime("search", 612),
                StageTime("retrain", 6120),
                StageTime("evaluate", 221),
            ),
        ),
        candidates=tuple(candidates),
        prices=made_up_prices(candidates, chosen),
        supernet=tuple(supernet),
        retraining=tuple(retraining),
        trainings=tuple(trainings),
        timed=tuple(timed),
        predictors=(predictor_facts(XEON, architectures, rng), predictor_facts(BOARD, architectures, rng)),
        searches=tuple(searches),
        bleu_signature="nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        chrf_signature="nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
        sweep=made_up_sweep(space),
        ranking=made_up_ranking(space, rng),
        policies=made_up_study(space, rng),
        runtimes=made_up_runtimes(),
        ledger=made_up_ledger(),
        protocol={"Batch": "1 sentence", "Beam": "5", "Source length": "30 tokens", "Target length": "30 tokens"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    """One browser for all pages."""
    from browsing import start_browser

    started = start_browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def report() -> ReportData:
    """A made-up run, with figures of the size that a real one has."""
    return made_up_report(300)


@pytest.fixture(scope="session")
def small_report() -> Callable[..., ReportData]:
    """Make a small made-up run with some fields replaced."""
    small = made_up_report(60)  # frozen: all tests may share it

    def make(**changes: object) -> ReportData:
        return replace(small, **changes)  # type: ignore[arg-type]

    return make
