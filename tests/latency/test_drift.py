"""A device whose speed wanders, with a simulated clock: our protocol beside HAT's, at equal time spent.

HAT's protocol repeats a timing, drops the slowest and the fastest tenth, and takes the mean. Both protocols see the
same kind of device: 1.5 % scatter of each translation, one in fifty half as long again (an interrupt), and a speed that
wanders. The truth is the undisturbed device. The same on a real machine under a real load: bench_drift.py.
"""

import math
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import TranslationTime, Workload

ARCHITECTURES = 120
SEEDS = (1, 2, 3)
CANARY_MS = 20.0


@dataclass
class Device:
    """Its own clock is moved by what it computes."""

    slowness: Callable[[float], float]
    seed: int
    now_s: float = 0.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def clock(self) -> float:
        return self.now_s

    def takes(self, undisturbed_ms: float) -> Callable[[], TranslationTime]:
        def translate() -> TranslationTime:
            scatter = math.exp(self.rng.normal(0, 0.015)) * (1.5 if self.rng.random() < 0.02 else 1.0)
            ms = undisturbed_ms * scatter * self.slowness(self.now_s)
            self.now_s += ms / 1e3
            return TranslationTime.of_parts(0.1 * ms, 0.9 * ms)

        return translate


def wandering(seconds: float) -> float:
    """Up to 40 % slower, that is 20 % either way about its mean, within three minutes."""
    return 1.2 + 0.2 * math.sin(2 * math.pi * seconds / 180)


def bursts() -> Callable[[float], float]:
    """Now and then 40 % slower, for 20 seconds on average: what a neighbour on the same host does."""
    rng, ends = np.random.default_rng(9), [0.0]
    while ends[-1] < 1e5:
        ends.append(ends[-1] + rng.exponential(20))
    return lambda seconds: 1.4 if bisect_left(ends, seconds) % 2 else 1.0


def ours(device: Device, truths_ms: list[float]) -> tuple[NDArray[np.float64], list[float]]:
    """Return corrected medians, settled as a reader does it, and the seconds that each took."""
    watch = CanaryMonitor(device.takes(CANARY_MS), tolerance=0.1, clock=device.clock)
    watch.calibrate(3.0)
    protocol = Protocol(Workload(), budget_s=10.0, patience_s=10.0)
    corrected, levels, seconds = [], [], []
    for truth in truths_ms:
        began = device.now_s
        timing = repeat(device.takes(truth), protocol, watch=watch, clock=device.clock)
        seconds.append(device.now_s - began)
        assert timing.canary is not None
        assert timing.canary.quiet_ms is not None
        corrected.append(timing.total.typical_ms * timing.canary.drift_correction)
        levels.append(timing.canary.quiet_ms)
    return np.array(corrected) / np.array(levels) * np.median(levels), seconds


def hats(device: Device, truths_ms: list[float], seconds: list[float]) -> NDArray[np.float64]:
    means = []
    for truth, budget in zip(truths_ms, seconds, strict=True):
        translate, until = device.takes(truth), device.now_s + budget
        samples = [translate().total_ms for _ in range(5)]
        while device.now_s < until:
            samples.append(translate().total_ms)
        tenth = max(1, len(samples) // 10)
        means.append(np.mean(sorted(samples)[tenth:-tenth]))
    return np.array(means)


def lag_1(residuals: NDArray[np.float64]) -> float:
    centred = residuals - residuals.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())


@pytest.mark.parametrize("name", ["wandering", "bursts"])
def test_a_wandering_device_is_timed_as_if_it_were_undisturbed(name: str) -> None:
    slowness = {"wandering": wandering, "bursts": bursts()}[name]
    errors, lags, spent = [], [], []
    for seed in SEEDS:
        rng = random.Random(seed)
        truths = [rng.uniform(20, 200) for _ in range(ARCHITECTURES)]
        told, seconds = ours(Device(slowness, seed), truths)
        theirs = hats(Device(slowness, seed + 100), truths, seconds)
        residuals = [np.log(ms / truths) for ms in (told, theirs)]
        errors.append([np.abs(side).mean() for side in residuals])
        lags.append([lag_1(side) for side in residuals])
        spent += seconds
    (our_error, their_error), (our_lag, their_lag) = np.mean(errors, axis=0), np.mean(lags, axis=0)
    print(
        f"\n{name}: error {our_error:.1%} against {their_error:.1%} of HAT's protocol in {np.mean(spent):.1f} s an "
        f"architecture; lag-1 autocorrelation {our_lag:.2f} against {their_lag:.2f}"
    )
    assert our_error <= their_error / 4
    assert abs(our_lag) < 0.1
    assert their_lag > 0.5


def test_a_quiet_device_is_timed_as_well_as_ever() -> None:
    rng = random.Random(2)
    truths = [rng.uniform(20, 200) for _ in range(40)]
    told, seconds = ours(Device(lambda _: 1.0, seed=1), truths)
    assert np.abs(np.log(told / truths)).mean() < 0.015
    assert np.mean(seconds) < 4
