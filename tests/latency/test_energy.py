"""Energy from a real little /sys tree, whose counters a translation moves as the hardware would."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hat_ray.latency.canary import CanaryWatch
from hat_ray.latency.protocol import Protocol, repeat
from hat_ray.latency.sensors.energy import NoMeter, RaplMeter, cpu_meter, joules_since
from hat_ray.latency.translation import Sample, Workload

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

    def taking(ms: float, microjoules: int) -> Callable[[], Sample]:
        def translate() -> Sample:
            machine.draw(d0=microjoules)
            return Sample(0.0, ms)

        return translate

    protocol = Protocol(Workload(), warmup=2, min_repetitions=20, max_repetitions=20)
    watch = CanaryWatch(taking(8.0, 900_000), tolerance=0.1)
    watch.calibrate(0.0)
    timing = repeat(taking(20.0, 250_000), protocol, None, watch, cpu_meter(tmp_path))
    assert timing.energy_j == pytest.approx(0.25)
    assert repeat(taking(20.0, 250_000), protocol, meter=cpu_meter(tmp_path)).energy_j == pytest.approx(0.25)


def test_disturbed_repetitions_are_left_out(tmp_path: Path) -> None:
    machine, turn = PowerCap(tmp_path), iter(range(10**6))

    def translate() -> Sample:
        machine.draw(d0=100_000)
        return Sample(0.0, 20.0)

    def canary() -> Sample:
        slow = next(turn) % 4 == 3
        if slow:
            machine.draw(d0=7_000_000)
        return Sample(0.0, 16.0 if slow else 8.0)

    watch = CanaryWatch(canary, tolerance=0.1)
    watch.calibrate(0.0)
    protocol = Protocol(Workload(), warmup=1, min_repetitions=20, max_repetitions=20)
    timing = repeat(translate, protocol, None, watch, cpu_meter(tmp_path))
    assert timing.disturbed > 0
    assert timing.energy_j == pytest.approx(0.1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_counter_that_only_root_may_read_is_no_meter(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)
    (machine.folder / "intel-rapl:1/energy_uj").chmod(0)
    assert isinstance(cpu_meter(tmp_path), NoMeter)


def test_a_counter_that_does_not_answer_makes_the_sum_unknown(tmp_path: Path) -> None:
    machine = PowerCap(tmp_path)
    meter = RaplMeter(tmp_path)
    (machine.folder / "intel-rapl:1/energy_uj").write_text("")
    assert meter.read() is None
    assert isinstance(cpu_meter(tmp_path), NoMeter)
    assert isinstance(cpu_meter(tmp_path / "nothing"), NoMeter)


def test_without_a_meter_a_timing_has_no_energy() -> None:
    protocol = Protocol(Workload(), warmup=1, min_repetitions=5, max_repetitions=5)
    assert repeat(lambda: Sample(0.1, 1.0), protocol).energy_j is None
