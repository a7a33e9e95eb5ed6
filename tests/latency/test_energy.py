"""Energy from a real little /sys tree, whose counters a translation moves as the hardware would."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.sensors.energy import NoMeter, RaplMeter, cpu_meter, joules_since
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import TranslationTime, Workload

RANGE_UJ = 262_143_328_850


class PowerCap:
    """A server of two packages with memory, as powercap shows it; `draw` adds what the hardware takes."""

    def __init__(self, root: Path) -> None:
        self.counters = {"intel-rapl:0": 1000, "intel-rapl:1": 2000, "intel-rapl:0:0": 300, "intel-rapl:0:1": 40}
        self.folder = root / "sys/class/powercap"
        names = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core"}
        for domain in self.counters:
            (self.folder / domain).mkdir(parents=True)
            (self.folder / domain / "name").write_text(names.get(domain, "dram") + "\n")
            (self.folder / domain / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self._again()
        mmio, platform = self.folder / "intel-rapl-mmio:0", self.folder / "intel-rapl:2"
        for folder, name in ((mmio, "package-0"), (platform, "psys")):  # both count again what packages count
            folder.mkdir()
            (folder / "name").write_text(name)
            (folder / "energy_uj").write_text("5")
        (self.folder / "intel-rapl").mkdir()
        self.now_s = 0.0

    def clock(self) -> float:
        """Seconds: moved by what it computes, and by nothing else."""
        return self.now_s

    def compute(self, ms: float, microjoules: int) -> TranslationTime:
        self.now_s += ms / 1e3
        self.draw(d0=microjoules)
        return TranslationTime.of_parts(0.0, ms)

    def draw(self, **microjoules: int) -> None:
        for domain, amount in microjoules.items():
            name = f"intel-rapl:{domain.removeprefix('d').replace('_', ':')}"
            self.counters[name] = (self.counters[name] + amount) % RANGE_UJ
        self._again()

    def _again(self) -> None:
        for domain, value in self.counters.items():
            (self.folder / domain / "energy_uj").write_text(f"{value}\n")


def test_packages_and_their_memory_are_added_up_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)
    meter = cpu_meter(tmp_path)
    before = meter.read()
    machine.draw(d0=5_000_000, d1=2_000_000, d0_0=3_000_000, d0_1=500_000)
    assert joules_since(meter, before) == pytest.approx(7.5)
    assert meter.source == "rapl dram package-0 package-1"


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)
    meter = cpu_meter(tmp_path)
    spent = 0.0
    for _ in range(12):
        before = meter.read()
        machine.draw(d0=RANGE_UJ // 4)
        spent += joules_since(meter, before) or 0.0
    assert spent == pytest.approx(3 * RANGE_UJ / 1e6, rel=1e-6)


def test_only_the_architectures_own_repetitions_are_counted(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)

    def translate() -> TranslationTime:
        return machine.compute(20.0, 250_000)

    protocol = Protocol(Workload(), warmup=2, min_repetitions=20, max_repetitions=20)
    watch = CanaryMonitor(lambda: machine.compute(8.0, 900_000), tolerance=0.1, clock=machine.clock)
    watch.calibrate(0.0)
    timing = repeat(translate, protocol, None, watch, cpu_meter(tmp_path), machine.clock)
    assert timing.energy_j == pytest.approx(0.25)
    plain = repeat(translate, protocol, meter=cpu_meter(tmp_path), clock=machine.clock)
    assert plain.energy_j == pytest.approx(0.25)


def test_disturbed_repetitions_are_left_out(tmp_path: Path) -> None:
    machine, turn = PowerCap(tmp_path), iter(range(10**6))

    def canary() -> TranslationTime:
        return machine.compute(16.0, 7_000_000) if next(turn) % 4 == 3 else machine.compute(8.0, 0)

    watch = CanaryMonitor(canary, tolerance=0.1, clock=machine.clock)
    watch.calibrate(0.0)
    protocol = Protocol(Workload(), warmup=1, min_repetitions=20, max_repetitions=20)
    timing = repeat(lambda: machine.compute(20.0, 100_000), protocol, None, watch, cpu_meter(tmp_path), machine.clock)
    assert timing.disturbed > 0
    assert timing.energy_j == pytest.approx(0.1)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything, as a container's tests have it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system knows no users")
def test_a_counter_that_only_root_may_read_is_no_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = PowerCap(tmp_path)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above may be closed to others
    with as_nobody():
        assert isinstance(cpu_meter(Path()), RaplMeter)
    (machine.folder / "intel-rapl:1/energy_uj").chmod(0)
    with as_nobody():
        assert isinstance(cpu_meter(Path()), NoMeter)


def test_a_counter_that_does_not_answer_makes_the_sum_unknown(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)
    meter = RaplMeter(tmp_path)
    (machine.folder / "intel-rapl:1/energy_uj").write_text("")
    assert meter.read() is None
    assert isinstance(cpu_meter(tmp_path), NoMeter)
    assert isinstance(cpu_meter(tmp_path / "nothing"), NoMeter)


def test_without_a_meter_a_timing_has_no_energy() -> None:
    protocol = Protocol(Workload(), warmup=1, min_repetitions=5, max_repetitions=5)
    assert repeat(lambda: TranslationTime.of_parts(0.1, 1.0), protocol, clock=lambda: 0.0).energy_j is None
