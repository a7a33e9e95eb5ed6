import gc
import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hat_ray.errors import LatencyError
from hat_ray.latency.timing.canary import CanaryMonitor, Group, local_levels
from hat_ray.latency.timing.engines import time_architecture, timing_state, translation
from hat_ray.latency.timing.process import collected
from hat_ray.latency.timing.protocol import Protocol, Timing
from hat_ray.latency.timing.statistics import relative_error_of_median, spread
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import TranslationTime, Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.presets import PRESETS
from tests.bounded import bounded

SPACE = PRESETS["toy"]
QUICK = Protocol(
    Workload(source_length=5, target_length=4, vocab_size=50), warmup=1, min_repetitions=5, max_repetitions=8
)


class GivenTimes:
    """A device that takes given times, a tenth for the encoder; its own clock is moved by them and by nothing else."""

    def __init__(self, values_ms: list[float]) -> None:
        self.now_s, self._values_ms = 0.0, itertools.cycle(values_ms)

    def clock(self) -> float:
        return self.now_s

    def translate(self) -> TranslationTime:
        ms = next(self._values_ms)
        self.now_s += ms / 1e3
        return TranslationTime.of_parts(*np.array([0.1, 0.9]) * ms)


def timed(values_ms: list[float], protocol: Protocol) -> Timing:
    device = GivenTimes(values_ms)
    return repeat(device.translate, protocol, clock=device.clock)


def a_model(architecture: str = "smallest") -> SubTransformer:
    return SubTransformer(getattr(SPACE, architecture)(), 50, ModelConfig())


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
@pytest.mark.parametrize("size", [11, 40, 150])
def test_the_error_of_a_median_is_what_repeated_experiments_show(draw: str, size: int) -> None:
    rng = np.random.default_rng(0)
    samples = 100 + 10 * getattr(rng, draw)(size=(2000, size))
    truth = np.median(samples, axis=1).std() / np.median(samples)
    estimates = [relative_error_of_median(row) for row in samples]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.25)


def test_a_quiet_device_is_timed_briefly_and_a_noisy_one_until_its_median_is_sure() -> None:
    protocol = replace(QUICK, relative_error=0.01, max_repetitions=5000, budget_s=60)
    noise = (100 * np.random.default_rng(1).lognormal(0, 0.15, 5000)).tolist()
    quiet, noisy = timed([100.0, 100.1], protocol), timed(noise, protocol)
    assert quiet.repetitions == protocol.min_repetitions
    assert 100 < noisy.repetitions < 5000
    assert noisy.relative_error <= 0.01
    assert noisy.total.typical_ms == pytest.approx(100, rel=0.03)
    assert noisy.encoder.typical_ms == pytest.approx(10, rel=0.03)


def test_repetitions_and_seconds_are_bounded() -> None:
    assert timed([10.0, 1000.0], replace(QUICK, relative_error=1e-9)).repetitions == QUICK.max_repetitions
    hard = replace(QUICK, relative_error=1e-9, max_repetitions=10**6, budget_s=0.3)
    timing = timed([20.0, 60.0], hard)
    assert timing.warmups == 2
    assert timing.repetitions == 8  # 20, 60, ... ms: the eighth passes 0.3 s
    assert timing.seconds == pytest.approx(0.4)
    never_enough = replace(hard, min_repetitions=10**6, budget_s=0.05)
    assert timed([20.0], never_enough).repetitions == 8  # three budgets
    assert timed([1000.0], never_enough).repetitions == 3  # three, however slow the device is


def test_warming_up_goes_on_while_it_gets_faster() -> None:
    timing = timed([90, 90, 60, 60, *[50] * 100], replace(QUICK, warmup=2))
    assert timing.warmups == 8
    assert timing.total_samples_ms == pytest.approx([50] * timing.repetitions)


def test_a_timing_adds_up_to_the_time_that_passed(time_is_work: FlopCounterMode) -> None:
    model = a_model()
    translate = translation(model.eval(), QUICK.workload)
    with timing_state(1), torch.inference_mode():
        translate()
        before = time_is_work.get_total_flops()
        samples = [translate() for _ in range(20)]
        passed_ms = (time_is_work.get_total_flops() - before) / 1e6
    assert min(map(min, samples)) > 0
    assert sum(one.total_ms for one in samples) == pytest.approx(passed_ms)


@pytest.mark.usefixtures("time_is_work")
def test_more_steps_and_a_larger_model_take_longer() -> None:
    short, long = QUICK, replace(QUICK, workload=replace(QUICK.workload, target_length=40))
    small = time_architecture(a_model(), short)
    assert time_architecture(a_model(), long).decoder.typical_ms > 3 * small.decoder.typical_ms
    assert time_architecture(a_model("largest"), short).total.typical_ms > small.total.typical_ms


def test_timing_leaves_model_and_process_as_they_were() -> None:
    model, threads = a_model().train(), torch.get_num_threads()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    time_architecture(model, replace(QUICK, threads=2, max_repetitions=5))
    assert (model.training, torch.get_num_threads(), gc.isenabled()) == (True, threads, True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_objects_that_were_there_before_a_session_are_not_visited_by_each_timings_collection() -> None:
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        there = len(gc.get_objects())
        with collected():
            assert len(gc.get_objects()) < there / 10
            with collected(), timing_state(1):
                assert not gc.isenabled()
            assert len(gc.get_objects()) < there / 10, "only the outermost brings them back"
        assert (gc.get_freeze_count(), gc.isenabled()) == (0, True)
    finally:
        if frozen:
            gc.freeze()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_a_process_that_was_made_nice_times_at_normal_priority_and_is_nice_again_after() -> None:
    def timed_at_15() -> list[int | None]:
        os.nice(15 - os.nice(0))
        with timing_state(1) as niceness:
            during = os.getpriority(os.PRIO_PROCESS, 0)
        return [niceness, during, os.getpriority(os.PRIO_PROCESS, 0)]

    assert bounded(timed_at_15) == [0, 0, 15]


def test_what_cannot_be_timed_is_refused_in_one_line() -> None:
    with pytest.raises(LatencyError, match="max_positions 1024, got 2000"):
        translation(a_model(), replace(QUICK.workload, source_length=2000))
    with pytest.raises(LatencyError, match="vocabulary of at least 40 at beam 20, got 30"):
        translation(a_model(), replace(QUICK.workload, beam=20, vocab_size=30))


def test_a_spread_is_numpys() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    told = spread(values)
    assert (told.p50_ms, told.mean_ms) == (2.5, 4.0)
    assert told.p90_ms == pytest.approx(np.quantile(values, 0.9))


class WanderingDevice:
    """A clock that a translation moves: the device is slow, by a factor, in every other stretch of time."""

    def __init__(self, slow: float, stretch_ms: float) -> None:
        self.now_ms, self.slow, self.stretch_ms, self.always_slow = 0.0, slow, stretch_ms, False

    def clock(self) -> float:
        return self.now_ms / 1e3

    def watch(self) -> CanaryMonitor:
        return CanaryMonitor(self.takes(8.0), tolerance=0.1, clock=self.clock)

    def takes(self, quiet_ms: float) -> Callable[[], TranslationTime]:
        def translate() -> TranslationTime:
            factor = self.slow if self.always_slow or int(self.now_ms / self.stretch_ms) % 2 else 1.0
            self.now_ms += quiet_ms * factor
            return TranslationTime.of_parts(0.0, quiet_ms * factor)

        return translate


def test_what_is_timed_on_a_disturbed_device_is_what_the_quiet_device_takes() -> None:
    device = WanderingDevice(slow=1.8, stretch_ms=700)
    protocol = replace(QUICK, min_repetitions=10, max_repetitions=20, budget_s=60)
    watch = device.watch()
    while device.now_ms < 3000:
        watch.time()
    for quiet_ms in (8.0, 20.0, 33.0) * 10:
        timing = repeat(device.takes(quiet_ms), protocol, watch=watch, clock=device.clock)
        assert timing.canary is not None
        corrected = timing.total.typical_ms * timing.canary.drift_correction
        assert corrected == pytest.approx(quiet_ms, rel=0.02)
        plain = repeat(device.takes(quiet_ms), protocol, clock=device.clock)
        assert plain.canary is None
    assert watch.level_ms == pytest.approx(8.0)


def test_a_device_that_never_calms_down_is_corrected_by_its_canaries() -> None:
    device = WanderingDevice(slow=2.0, stretch_ms=1e9)
    watch = device.watch()
    for _ in range(2000):
        watch.time()
    device.always_slow = True
    impatient = replace(QUICK, min_repetitions=5, budget_s=0.0, patience_s=0.001)
    timing = repeat(device.takes(20.0), impatient, watch=watch, clock=device.clock)
    assert timing.canary is not None
    assert timing.total.typical_ms == pytest.approx(40.0)
    assert timing.total.typical_ms * timing.canary.drift_correction == pytest.approx(20.0)


def test_a_few_calm_canaries_among_many_disturbed_ones_are_chance() -> None:
    """One canary in four fits between the time slices of a busy core; what is timed, ten times as long, never does."""
    rng = np.random.default_rng(4)
    device = WanderingDevice(slow=2.0, stretch_ms=1e9)
    watch = device.watch()
    for _ in range(50):
        watch.time()
    device.always_slow = True
    slow_canary, quiet_ms = device.takes(8.0), 80.0
    watch.translate = lambda: TranslationTime.of_parts(0.0, 8.0) if rng.random() < 0.25 else slow_canary()
    impatient = replace(QUICK, min_repetitions=10, budget_s=0.0, patience_s=6.0)
    timing = repeat(device.takes(quiet_ms), impatient, watch=watch, clock=device.clock)
    assert not timing.undisturbed
    assert timing.canary is not None
    assert timing.total.typical_ms * timing.canary.drift_correction == pytest.approx(quiet_ms, rel=0.02)


def test_the_error_of_a_row_grows_with_what_had_to_be_corrected() -> None:
    device = WanderingDevice(slow=2.0, stretch_ms=1e9)
    watch = device.watch()
    for _ in range(50):
        watch.time()
    protocol = replace(QUICK, budget_s=0.0, patience_s=1.0)
    calm = repeat(device.takes(20.0), protocol, watch=watch, clock=device.clock)
    device.always_slow = True
    corrected = repeat(device.takes(20.0), protocol, watch=watch, clock=device.clock)
    assert (calm.undisturbed, corrected.undisturbed) == (True, False)
    assert calm.relative_error < 0.001
    assert corrected.relative_error == pytest.approx(0.1 * np.log(2), rel=0.01)


def test_the_level_of_each_group_is_the_median_of_the_canaries_around_it() -> None:
    rng = np.random.default_rng(3)
    for size in range(1, 9):
        marks = rng.uniform(1, 2, size + 1)
        groups = [Group(marks[i], marks[i + 1], ()) for i in range(size)]
        brute = [np.median(marks[[j for j in range(i - 1, i + 3) if 0 <= j <= size]]) for i in range(size)]
        assert local_levels(groups).tolist() == brute


def test_canaries_of_another_state_do_not_count_beside_a_calm_group() -> None:
    calm_between = [Group(9.0, 5.0, ()), Group(5.0, 5.2, ()), Group(5.2, 9.0, ())]
    assert local_levels(calm_between, limit_ms=5.5).tolist() == [5.2, pytest.approx(5.1), 5.2]


def test_the_quiet_level_forgets_what_is_long_ago() -> None:
    times = iter([TranslationTime.of_parts(0.0, 5.0)] * 100 + [TranslationTime.of_parts(0.0, 8.0)] * 6000)
    watch = CanaryMonitor(lambda: next(times), tolerance=0.1)
    for _ in range(100):
        watch.time()
    assert watch.level_ms == 5.0
    for _ in range(800):
        watch.time()
    assert watch.level_ms == 5.0
    for _ in range(5100):
        watch.time()
    assert watch.level_ms == 8.0
