"""Short visits that are spread over a session, and the row that they make."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.here import measure
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table, written_rows
from hat_ray.latency.timing.bench import AT_A_TIME
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.session import TimingSession
from hat_ray.latency.timing.visits import Sitting, visit
from hat_ray.latency.timing.workload import TranslationTime, Workload
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

CONFIG = LatencyConfig(
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 6, "max_repetitions": 6},
    **{"accelerator": "cpu", "canary_tolerance": 5.0, "calibration_s": 0.05, "budget_s": 5.0, "patience_s": 0.0},
    runtime="eager",
)
SOME = choose_architectures(TOY, 4, seed=0)


class Noted(TimingSession):
    """A session that notes its visits. Its canary takes a millisecond, and thirty while `slow`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.visited: list[Architecture] = []
        self.slow = False

    def with_given_canary(self) -> "Noted":
        self._bench.watch = CanaryMonitor(lambda: TranslationTime(30.0**self.slow), self.job.config.canary_tolerance)
        return self

    def visit(self, architecture: Architecture) -> LatencyRow:
        self.visited.append(architecture)
        return super().visit(architecture)


def session(root: Path, **settings: object) -> Noted:
    config = CONFIG.model_copy(update=settings)
    return Noted(TimingJob(TOY, ModelConfig(), 64, config, Folder.at(root)), detect(accelerator="cpu", runtime="eager"))


def test_every_architecture_is_visited_several_times_in_turns_of_random_order(tmp_path: Path) -> None:
    this = session(tmp_path)
    done = [step.done for step in this.steps(SOME)]
    turns = [this.visited[start : start + 4] for start in range(0, len(this.visited), 4)]
    assert all(set(turn) == set(SOME) for turn in turns[:3])
    assert len({tuple(turn) for turn in turns[:3]}) > 1
    assert done == sorted(done)
    assert done[-1] == 4
    rows = read_table(tmp_path, every_measurement=True)
    assert sorted(row.architecture.id for row in rows if row.architecture) == sorted(one.id for one in SOME)
    assert {row.architecture: row.visits for row in rows} == dict(Counter(this.visited))
    assert min(row.repetitions or 0 for row in rows) >= 6


def test_few_architectures_are_begun_when_the_time_is_spent(tmp_path: Path) -> None:
    many = choose_architectures(TOY, AT_A_TIME + 2, seed=0)
    this = session(tmp_path, budget_s=1e-6)
    for step in this.steps(many):
        if step.done < AT_A_TIME:
            assert set(this.visited) <= set(many[:AT_A_TIME])
    assert set(this.visited) == set(many)


def test_visits_of_an_interrupted_session_count_and_only_those_that_lack_are_made(tmp_path: Path) -> None:
    killed = session(tmp_path, flush_s=0.0)
    steps = killed.steps(SOME)
    list(itertools.islice(steps, 6))
    where: dict[str, object] = {"target_length": 3}
    before = written_rows(Folder.at(tmp_path), TOY.id, killed.device.slug, where)
    assert Counter(row.visits for row in before.values()) == {1: 2, 2: 2}
    again = session(tmp_path)
    again.run(SOME)
    for one in SOME:
        made = again.visited.count(one)
        assert made >= 3 - (before[one].visits or 0)
        assert made == again._bench.sittings[one].number - (before[one].visits or 0)
        rows = read_table(tmp_path, session_id=again.job.session_id)
        [row] = [row for row in rows if row.architecture == one]
        assert (row.visits or 0) >= 3
        assert row.encoder_samples_ms[: before[one].repetitions] == before[one].encoder_samples_ms
    steps.close()
    assert measure(again.job, SOME).skipped == 4, "nothing of it is resumed a second time"


def test_a_restless_device_is_visited_until_it_is_calm_and_calm_repetitions_count(tmp_path: Path) -> None:
    this = session(tmp_path, patience_s=60.0, budget_s=0.15).with_given_canary()
    this.run(SOME[:1])
    this.slow = True
    for number, _ in enumerate(this.steps(SOME[1:3])):
        this.slow = number < 7
    rows = {row.architecture: row for row in read_table(tmp_path)}
    for one in SOME[1:3]:
        assert rows[one].disturbed
        assert (rows[one].visits or 0) > 3
        assert rows[one].canary is not None
        assert rows[one].canary.drift_correction == 1.0


def test_a_device_that_stays_restless_is_visited_no_more_once_its_time_is_spent(tmp_path: Path) -> None:
    this = session(tmp_path, budget_s=1e-6).with_given_canary()
    this.run(SOME[:1])
    this.slow = True
    this.run(SOME[1:])
    assert set(Counter(this.visited).values()) == {3}
    rows = {row.architecture: row for row in read_table(tmp_path)}
    for one in SOME[1:]:
        assert rows[one].canary is not None
        assert rows[one].canary.drift_correction == pytest.approx(1 / 30)
        assert (rows[one].relative_error or 0) >= 0.1 * np.log(30)


def test_rows_are_judged_again_without_a_visit_when_the_device_turns_out_to_be_quieter(tmp_path: Path) -> None:
    this = session(tmp_path, visits=1, budget_s=1e-6, calibration_s=0.0).with_given_canary()
    this.slow = True
    this.run(SOME[:1])
    this.slow = False
    this._bench.watch.calibrate(0.0)
    this.run(SOME[1:])
    assert Counter(this.visited)[SOME[0]] == 1
    first = [row for row in read_table(tmp_path, every_measurement=True) if row.architecture == SOME[0]]
    assert [row.canary.quiet_ms for row in first if row.canary] == [30.0, 1.0]


class SharedCore:
    """A core on which others take turns: what passes is more than what a translation computes, by chance."""

    def __init__(self, seed: int) -> None:
        self.rng, self.now_s, self.busy = np.random.default_rng(seed), 0.0, False

    def takes(self, cpu_ms: float, slowness: float = 1.0) -> TranslationTime:
        own_ms = cpu_ms * slowness * float(self.rng.lognormal(0, 0.01))
        total_ms = own_ms + (float(self.rng.exponential(3 * own_ms)) if self.busy else 0.0)
        self.now_s += total_ms / 1e3
        return TranslationTime(total_ms, cpu_ms=own_ms)


def test_other_processes_turns_are_taken_out_by_the_processors_time() -> None:
    core = SharedCore(seed=1)
    watch = CanaryMonitor(lambda: core.takes(5.0), 0.1, clock=lambda: core.now_s)
    watch.calibrate(1.0)
    assert watch.on_cpu_time
    core.busy = True
    protocol = Protocol(Workload(), warmup=1, min_repetitions=9, budget_s=30.0, visits=3, relative_error=0.01)
    for truth_ms in (5.0, 20.0, 80.0):
        sitting = Sitting()
        while not sitting.is_over(watch, protocol):
            sitting.visits.append(
                visit(lambda truth_ms=truth_ms: core.takes(truth_ms), protocol, watch, clock=lambda: core.now_s)
            )
        timing = sitting.timing(watch, protocol)
        assert timing.canary is not None
        assert timing.total.typical_ms > 1.3 * truth_ms
        assert timing.total.typical_ms * timing.canary.drift_correction == pytest.approx(truth_ms, rel=0.02)
        assert timing.relative_error < 0.02, "turns of others cast no doubt on the processor's time"


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_an_engine_that_computes_elsewhere_is_timed_by_what_passes(share: float) -> None:
    watch = CanaryMonitor(lambda: TranslationTime(4.0, cpu_ms=4.0 * share), 0.1)
    watch.calibrate(0.0)
    assert not watch.on_cpu_time
    assert watch.time() == 4.0


def test_the_processors_time_of_a_real_translation_is_what_passes_at_most(tmp_path: Path) -> None:
    this = session(tmp_path)
    this.time(TOY.smallest())
    [groups] = {one.groups for one in this._bench.sittings[TOY.smallest()].visits[:1]}
    for sample in (sample for group in groups for sample in group.samples):
        assert sample.cpu_ms is not None
        assert 0 < sample.cpu_ms < 1.1 * sample.total_ms
