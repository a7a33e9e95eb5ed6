"""Our timing protocol beside HAT's on this machine: under a load that comes and goes, and at rest.

The truth is this machine left alone: start this when nothing else runs on it. HAT's protocol repeats a timing (300
times in its paper, 20 as shipped), drops the slowest and the fastest tenth, and takes the mean. Both time the same
translations of the same models.

    pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_drift.py
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.engines import ready, translation
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.protocol import Protocol, Timing
from hat_ray.latency.timing.session import TimingSession
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import TranslationTime, Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

pytestmark = pytest.mark.benchmark

ARCHITECTURES = int(os.environ.get("HAT_RAY_BENCH_ARCHITECTURES", "100"))
WORKLOAD = Workload(source_length=20, target_length=20, vocab_size=1000)
OURS = Protocol(WORKLOAD, budget_s=5.0, patience_s=5.0)
CAREFUL = Protocol(WORKLOAD, relative_error=0.002, min_repetitions=30, max_repetitions=200, budget_s=1.2)
PASSES = 3
TOLERANCE = 0.1
LOAD_LASTS_S = 20.0
MOST_LOAD = 3
BURN = "while True: sum(i * i for i in range(100000))"
WANDER = """
import random, time
rng, share, period_s = random.Random(1), 0.5, 0.002
while True:
    share = abs(share + rng.gauss(0, 0.15))
    share = min(share, max(0.0, 2 - share))
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pause = time.perf_counter() + period_s * share
        while time.perf_counter() < pause:
            pass
        time.sleep(period_s * (1 - share))
"""
"""Computes for a share of every two milliseconds that wanders between none and all over minutes."""


@pytest.fixture(scope="module")
def watch() -> Iterator[CanaryMonitor]:
    canary = SubTransformer(TOY.smallest(), WORKLOAD.vocab_size, ModelConfig())
    watch = CanaryMonitor(translation(canary, WORKLOAD), tolerance=TOLERANCE)
    with ready(canary, 1):
        watch.calibrate(3.0)
        yield watch


@pytest.fixture(scope="module")
def translations(watch: CanaryMonitor) -> dict[Architecture, Callable[[], TranslationTime]]:
    chosen = choose_architectures(TOY, ARCHITECTURES, seed=1)
    return {a: translation(SubTransformer(a, WORKLOAD.vocab_size, ModelConfig()).eval(), WORKLOAD) for a in chosen}


@dataclass(frozen=True)
class Truth:
    """What each architecture takes on the machine at rest."""

    canaries: NDArray[np.float64]
    canary_ms: float

    def of_canaries(self, told: list[float]) -> NDArray[np.float64]:
        """Return the log of how far times in canaries are off, (N,)."""
        return np.asarray(np.log(np.array(told) / self.canaries), dtype=np.float64)

    def of_ms(self, told: list[float]) -> NDArray[np.float64]:
        """Return the log of how far milliseconds are off, (N,)."""
        return self.of_canaries([one / self.canary_ms for one in told])


@pytest.fixture(scope="module")
def truth(watch: CanaryMonitor, translations: dict[Architecture, Callable[[], TranslationTime]]) -> Truth:
    """Time everything a few times on the machine at rest, and say how far the times agree.

    Each pass has an order of its own: what the machine does meanwhile must not look like a trend over neighbours.
    """
    passes, every = np.zeros((PASSES, ARCHITECTURES)), list(translations.values())
    for number, told in enumerate(passes):
        for i in np.random.default_rng(number).permutation(ARCHITECTURES):
            told[i] = _ours(every[i], CAREFUL, watch)
    middle = np.median(passes, axis=0)
    off = np.abs(np.log(passes / middle)).mean()
    print(f"\na pass of the truth is off the median of all {PASSES} by {off:.2%} on average")
    return Truth(middle, watch.level_ms)


class WithHats(TimingSession):
    """A timing session; after each of its timings HAT's protocol has the same seconds for the same architecture."""

    def beside(
        self,
        truths_canary: Callable[[], TranslationTime],
        translations: dict[Architecture, Callable[[], TranslationTime]],
        burning: Callable[[], int],
    ) -> "WithHats":
        self._bench.watch.translate = truths_canary  # two copies of one model differ by some per cent in speed
        self._translations, self._burning = translations, burning
        self.hats: dict[Architecture, list[float]] = {}
        self.busy: dict[Architecture, int | None] = {}
        self.seconds = 0.0
        self.timings = 0
        return self

    def visit(self, architecture: Architecture) -> LatencyRow:
        before, began = self._burning(), time.perf_counter()
        row = super().visit(architecture)
        seconds = time.perf_counter() - began
        self.busy[architecture] = before if before == self._burning() else None
        with ready(self._canary_model, 1):
            hats = _samples_for(self._translations[architecture], seconds)
        self.hats[architecture] = self.hats.get(architecture, []) + hats
        self.seconds, self.timings = self.seconds + seconds, self.timings + 1
        return row


@pytest.mark.parametrize("kind", ["wanders", "comes and goes"])
def test_under_a_load_that(
    kind: str,
    watch: CanaryMonitor,
    translations: dict[Architecture, Callable[[], TranslationTime]],
    truth: Truth,
    tmp_path: Path,
) -> None:
    """A whole session, with what it times again by itself, and its table as a reader sees it."""
    quick = {
        "accelerator": "cpu",
        "runtime": "eager",
        "budget_s": 5.0,
        "patience_s": 5.0,
    }  # HAT's protocol times PyTorch
    config = LatencyConfig.model_validate({"source_length": 20, "target_length": 20, **quick})
    job = TimingJob(TOY, ModelConfig(), WORKLOAD.vocab_size, config, Folder.at(tmp_path))
    with load(seed=1) if kind == "comes and goes" else wandering() as burning:
        session = WithHats(job, detect(accelerator="cpu", runtime="eager")).beside(
            watch.translate, translations, burning
        )
        session.run(list(translations))
    rows = {row.architecture: row for row in read_table(tmp_path)}
    quiet_ms = float(np.median([row.canary.quiet_ms for row in rows.values() if row.canary and row.canary.quiet_ms]))
    corrected = [rows[architecture].corrected_ms / quiet_ms for architecture in translations]
    disturbed = sum(_correction(row) * (1 + TOLERANCE) < 1 for row in rows.values())
    print(
        f"\nunder a load that {kind}, {session.seconds / ARCHITECTURES:.1f} s an architecture each, {ARCHITECTURES} "
        f"architectures, {session.timings - ARCHITECTURES} timings repeated, {disturbed} never calm"
    )
    ours_off = truth.of_canaries(corrected)
    hats_off = truth.of_ms([_trimmed_mean(session.hats[architecture]) for architecture in translations])
    for name, residuals in (("between canaries", ours_off), ("HAT's, equal time", hats_off)):
        print(f"  {name:18} error {np.abs(residuals).mean():6.2%}  lag-1 autocorrelation {_lag_1(residuals):5.2f}")
        for number in (*range(MOST_LOAD + 1), None):
            of_number = [busy is number or busy == number for busy in (session.busy[one] for one in translations)]
            here = residuals[of_number]
            beside = "while it changed" if number is None else f"beside {number} processes"
            if len(here):
                print(f"    {beside:18} {len(here):3} architectures, {here.mean():+6.2%} +- {here.std():.2%}")


def test_architectures_an_hour(
    watch: CanaryMonitor, translations: dict[Architecture, Callable[[], TranslationTime]], truth: Truth
) -> None:
    protocols: dict[str, Callable[[Callable[[], TranslationTime]], float]] = {
        "between canaries, 1 %": lambda one: _ours(one, OURS, watch),
        "HAT's, 300": lambda one: _hats(one, 300),
        "HAT's, 20": lambda one: _hats(one, 20),
    }
    told: dict[str, list[float]] = {name: [] for name in protocols}
    seconds = dict.fromkeys(protocols, 0.0)
    for one in translations.values():
        for name, protocol in protocols.items():
            began = time.perf_counter()
            told[name].append(protocol(one))
            seconds[name] += time.perf_counter() - began
    print("\nat rest")
    for name, values in told.items():
        error = np.abs((truth.of_ms if name.startswith("HAT") else truth.of_canaries)(values)).mean()
        ratio = seconds[name] / seconds["between canaries, 1 %"]
        rate = 3600 * ARCHITECTURES / seconds[name]
        print(f"  {name:22} {rate:7.0f} architectures an hour, error {error:5.2%}; ours times {ratio:.2f} as many")


def _ours(translate: Callable[[], TranslationTime], protocol: Protocol, watch: CanaryMonitor) -> float:
    return _in_canaries(repeat(translate, protocol, watch=watch))


def _in_canaries(timing: Timing) -> float:
    """Return a time in canaries on the quiet device: so a reader of the table brings sessions together."""
    assert timing.canary is not None
    assert timing.canary.quiet_ms is not None
    return timing.total.typical_ms * timing.canary.drift_correction / timing.canary.quiet_ms


def _correction(row: LatencyRow) -> float:
    assert row.canary is not None
    return row.canary.drift_correction


def _hats(translate: Callable[[], TranslationTime], repetitions: int) -> float:
    return _trimmed_mean([translate().total_ms for _ in range(repetitions)])


def _samples_for(translate: Callable[[], TranslationTime], seconds: float) -> list[float]:
    until, samples = time.perf_counter() + seconds, [translate().total_ms for _ in range(5)]
    while time.perf_counter() < until:
        samples.append(translate().total_ms)
    return samples


def _trimmed_mean(samples_ms: list[float]) -> float:
    tenth = max(1, len(samples_ms) // 10)
    return float(np.mean(sorted(samples_ms)[tenth:-tenth]))


def _lag_1(residuals: NDArray[np.float64]) -> float:
    centred = residuals - residuals.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())


@contextmanager
def wandering() -> Iterator[Callable[[], int]]:
    """Let one process compute beside us for a share of the time that wanders over minutes."""
    burner = subprocess.Popen([sys.executable, "-c", WANDER])
    try:
        yield lambda: 1
    finally:
        burner.kill()
        burner.wait()


@contextmanager
def load(seed: int) -> Iterator[Callable[[], int]]:
    """Let up to three processes compute beside us, another number every `LOAD_LASTS_S` on average; tell how many."""
    rng, over, busy = random.Random(seed), threading.Event(), [0]
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(MOST_LOAD)]

    def change() -> None:
        while not over.is_set():
            busy[0] = rng.randrange(MOST_LOAD + 1)
            for i, burner in enumerate(burners):
                burner.send_signal(signal.SIGCONT if i < busy[0] else signal.SIGSTOP)
            over.wait(rng.expovariate(1 / LOAD_LASTS_S))

    changer = threading.Thread(target=change)
    changer.start()
    try:
        yield lambda: busy[0]
    finally:
        over.set()
        changer.join()
        for burner in burners:
            burner.kill()
            burner.wait()
