"""The search on a real SuperTransformer: `pytest -m benchmark -s tests/benchmarks/bench_search_super.py`.

`HAT_RAY_BENCH_RUN` names a run folder whose SuperTransformer is trained (its latency and predictor stages are used
where they are finished, arithmetic stands in for them where not). Without it the toy recipe's is trained first, which
takes minutes. `HAT_RAY_BENCH_EVALUATIONS` sets how many evaluations each search has.

Every architecture is scored once, in parts and to the end, and all searches look it up: so they differ by what they ask
alone, and a search that stops early can be replayed. A hypervolume is the area that what was scored whole dominates, up
to the smallest architecture's loss and the largest's latency, as a share of the rectangle between these two.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from hat_ray.api import run_recipe
from hat_ray.latency.quantities import LATENCY
from hat_ray.pipeline.context import scorer_of
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.search import predictors_of
from hat_ray.recipe import load_recipe
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import SHARES, Bars, PartScore, early_stopping_summary
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.engine.local import run_search
from hat_ray.search.frontier import hypervolume
from hat_ray.search.limits import Predictions
from hat_ray.search.reach import resolve_limits
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
SEEDS = range(3)
EVALUATIONS = int(os.environ.get("HAT_RAY_BENCH_EVALUATIONS", "250"))
CHECKPOINTS = tuple(n for n in (60, 125, 250, 500, 1000) if n <= EVALUATIONS)
METHODS = ("random", "hat", "surrogate")


@dataclass
class Super:
    """A trained SuperTransformer, the devices of its run, and what was scored."""

    space: SearchSpace
    devices: Predictions
    scorer: Callable[..., CandidateScorer]
    """Makes a scorer that keeps so many megabytes of encoder passes, in parts or not."""
    scores: dict[Architecture, PartScore] = field(default_factory=dict)
    seconds: dict[Architecture, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._whole = self.scorer(0, in_parts=True)

    def score(self, architecture: Architecture) -> PartScore:
        if architecture not in self.scores:
            began = time.perf_counter()
            self.scores[architecture] = self._whole.in_parts(architecture, (np.inf,) * len(SHARES))
            self.seconds[architecture] = time.perf_counter() - began
        return self.scores[architecture]

    def hypervolumes(self, found: list[Architecture]) -> dict[str, float]:
        ends = [self.space.smallest(), self.space.largest()]
        worst, best = (self.score(end).loss_bits for end in ends)
        shares = {}
        for device, functions in self.devices.items():
            fastest_ms, slowest_ms = functions[LATENCY](ends)
            losses, times = [self.scores[one].loss_bits for one in found], functions[LATENCY](found)
            area = hypervolume(losses, times, (worst, slowest_ms))
            shares[device] = area / ((worst - best) * (slowest_ms - fastest_ms))
        return shares


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Super:
    torch.set_num_threads(1)
    place = os.environ.get("HAT_RAY_BENCH_RUN")
    if place is None:
        place = str(tmp_path_factory.mktemp("toy"))
        for stage in ("corpus", "supernet", "latency", "predictor"):
            run_recipe(load_recipe("toy", []), place, only=stage)
    recipe = load_recipe(str(Path(place) / "recipe.yaml"), [])
    context, space = Context(Run.open(place, recipe), LocalExecution()), recipe.space.build()
    fitted = predictors_of(context) if context.run.record("predictor") else {}
    devices = {slug: {LATENCY: predictor.predict} for slug, predictor in fitted.items()}

    def scorer(kept_mb: int, *, in_parts: bool = False) -> CandidateScorer:
        changes = {"encoder_cache_mb": kept_mb, "early_stop": in_parts}
        changed = recipe.model_copy(update={"search": recipe.search.model_copy(update=changes)})
        return scorer_of(replace(context, run=Run(context.run.folder, changed)))

    return Super(space, devices or {"macs": {LATENCY: macs_ms}}, scorer)


def macs_ms(architectures: list[Architecture]) -> np.ndarray:
    return np.array([count_macs(architecture, 30) / 1e6 for architecture in architectures])


def curve(problem: Super, algorithm: str, seed: int) -> list[float]:
    """Return the mean hypervolume over the devices at each checkpoint."""
    config = SearchConfig(algorithm=algorithm, evaluations=EVALUATIONS, limits_fraction=(0.25, 0.5))  # type: ignore[arg-type]
    limits = resolve_limits(problem.space, problem.devices, config)
    search = Evolution(problem.space, problem.devices, limits, config, seed)
    found: list[float] = []
    while not search.finished:
        for architecture in search.ask(2):
            search.tell(architecture, problem.score(architecture).loss_bits)
        while len(found) < len(CHECKPOINTS) and search.done >= CHECKPOINTS[len(found)]:
            found.append(mean(problem.hypervolumes(list(search.losses)).values()))
    return found


def test_print_the_hypervolume_by_number_of_evaluations(problem: Super) -> None:
    print(f"\nmean hypervolume of {len(SEEDS)} seeds{'':8}" + "".join(f"{n:>18}" for n in CHECKPOINTS))
    last = {}
    for method in METHODS:
        columns = list(zip(*(curve(problem, method, seed) for seed in SEEDS), strict=True))
        last[method] = mean(columns[-1])
        cells = (f"{mean(v):.4f} +- {(max(v) - min(v)) / 2:.4f}".rjust(18) for v in columns)
        print(f"{method:34}" + "".join(cells), flush=True)
    print(f"{len(problem.scores)} architectures scored, {1000 * mean(problem.seconds.values()):.0f} ms each")
    assert last["surrogate"] >= max(last["hat"], last["random"])


class Replayed:
    """Scores by looking up, in parts; counts the seconds that this would have taken."""

    def __init__(self, problem: Super) -> None:
        self._problem, self.seconds = problem, 0.0

    def __call__(self, architecture: Architecture) -> float:
        return self.in_parts(architecture, (np.inf,) * len(SHARES)).loss_bits

    def in_parts(self, architecture: Architecture, bars: Bars) -> PartScore:
        whole = self._problem.score(architecture)
        above = [place for place, bar in enumerate(bars) if whole.at_shares[place] > bar]
        share = SHARES[above[0]] if above else 1.0
        self.seconds += share * self._problem.seconds[architecture]
        return PartScore(whole.at_shares[above[0]], share, whole.at_shares[: above[0] + 1]) if above else whole


def test_print_what_early_stop_saves_and_costs(problem: Super, tmp_path: Path) -> None:
    print(f"\n{'margin':>10}{'hypervolume':>16}{'seconds':>12}")
    for margin in (None, 3.0, 2.0):
        volumes, seconds, accounts = [], [], []
        for seed in SEEDS:
            config = SearchConfig(evaluations=EVALUATIONS, limits_fraction=(0.25, 0.5), early_stop=margin is not None)
            config = config.model_copy(update={"early_stop_margin": margin or 0.0})
            score, limits = Replayed(problem), resolve_limits(problem.space, problem.devices, config)
            folder = Folder.at(tmp_path / f"{margin}-{seed}")
            result = run_search(problem.space, problem.devices, limits, score, config, folder, seed)
            whole = [one.architecture for one in result.candidates if not one.estimated]
            volumes.append(mean(problem.hypervolumes(whole).values()))
            seconds.append(score.seconds)
            accounts.append(early_stopping_summary(result.candidates))
        print(f"{'off' if margin is None else margin:>10}{mean(volumes):16.4f}{mean(seconds):12.1f}", flush=True)
        for account in filter(None, accounts):
            print(f"{'':12}{account}", flush=True)


def test_print_what_kept_encoder_passes_save(problem: Super) -> None:
    config = SearchConfig(evaluations=80, limits_fraction=(0.25, 0.5))
    limits = resolve_limits(problem.space, problem.devices, config)
    search = Evolution(problem.space, problem.devices, limits, config, 0)
    scorers = {0: problem.scorer(0), 64: problem.scorer(64), 256: problem.scorer(256)}
    seconds: dict[int, list[float]] = {kept: [] for kept in scorers}
    rng = random.Random(0)
    while not search.finished:
        for architecture in search.ask(2):
            losses = {}
            for kept in rng.sample(list(scorers), len(scorers)):
                began = time.process_time()
                losses[kept] = scorers[kept](architecture)
                seconds[kept].append(time.process_time() - began)
            assert len(set(losses.values())) == 1
            search.tell(architecture, losses[0])
    plain = np.array(seconds[0])
    print(f"\n{len(plain)} candidates in the order of a search, {1000 * np.median(plain):.0f} ms without")
    for kept, taken in seconds.items():
        print(f"{kept:4d} MB kept: {sum(taken) / plain.sum():.3f} of the processor's seconds", flush=True)
