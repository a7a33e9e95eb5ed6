"""One search for three devices against one for each: `pytest -m benchmark -s tests/benchmarks/bench_search_devices.py`.

HAT's three published latency predictors and the stand-in loss, in HAT's space. A search is set up in one of two ways:
as it ships (two limits on each device, half of the proposals to widen the frontiers), or with all weight on the
frontiers (eight limits, nine in ten proposals). Each search for one device has the same settings as the one for all
three. A hypervolume is the area that all candidates of a search dominate on a device, up to the loss of the smallest
architecture and to the highest limit, as a share of the whole rectangle between these and the smallest architecture's
latency and the largest's loss.
"""

from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest
from bench_search_replay import NAMES, Problem

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.frontier import hypervolume
from hat_ray.search.reach import resolve_limits
from hat_ray.space.presets import SPACE0

SETTINGS: dict[str, dict[str, object]] = {
    "as it ships": {},
    "all for the frontiers": {
        "algorithm_options": {"frontier_share": 0.9},
        "limits_fraction": tuple(np.round(np.linspace(0.125, 1.0, 8), 3).tolist()),
    },
}
TOGETHER, ALONE = 1000, 900
SEEDS = range(10)


def hypervolumes(
    problems: dict[str, Problem], devices: list[str], evaluations: int, settings: dict[str, object], seed: int
) -> dict[str, float]:
    """Search for the limits of some devices; return the hypervolume on each of them."""
    config = SearchConfig.model_validate({"evaluations": evaluations, **settings})
    latency = {device: {LATENCY: problems[device].latency_ms} for device in devices}
    limits = resolve_limits(SPACE0, latency, config)
    search = Evolution(SPACE0, latency, limits, config, seed)
    loss = problems[devices[0]].loss_bits
    while not search.finished:
        for architecture in search.ask(2):
            search.tell(architecture, loss(architecture))
    found = list(search.losses)
    losses = [search.losses[architecture] for architecture in found]
    highest = {device: max(limit.ms for limit in limits if limit.device == device) for device in devices}
    return {
        device: _share(problems[device], losses, problems[device].latency_ms(found).tolist(), highest[device])
        for device in devices
    }


def _share(problem: Problem, losses: list[float], times: list[float], highest_ms: float) -> float:
    worst, best = (problem.loss(end) for end in (SPACE0.smallest(), SPACE0.largest()))
    fastest_ms = problem.latency_ms([SPACE0.smallest()])[0]
    return hypervolume(losses, times, (worst, highest_ms)) / ((worst - best) * (highest_ms - fastest_ms))


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SETTINGS)
def test_one_search_for_three_devices_serves_each_like_its_own(name: str, shared: Path) -> None:
    problems = {device: Problem(shared, device) for device in NAMES}
    settings = SETTINGS[name]
    together = [hypervolumes(problems, list(NAMES), TOGETHER, settings, seed) for seed in SEEDS]
    print(f"\n{name}: hypervolume, {len(SEEDS)} seeds")
    print(f"{'':22}{f'all three, {TOGETHER} evaluations':36}{f'alone, {ALONE} evaluations':36}ratio of means")
    for device in NAMES:
        alone = [hypervolumes(problems, [device], ALONE, settings, seed)[device] for seed in SEEDS]
        all_three = [volumes[device] for volumes in together]
        both = (f"median {median(v):.5f} ({min(v):.5f} - {max(v):.5f})".ljust(36) for v in (all_three, alone))
        print(f"{device:22}" + "".join(both) + f"{mean(all_three) / mean(alone):.5f}", flush=True)
