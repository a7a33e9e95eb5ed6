"""Sensors on real little /proc and /sys trees, one for each kind of machine, and on this machine."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hat_ray.latency.timing.sensors.clocks import CoreWatch, cpu_mhz, governor
from hat_ray.latency.timing.sensors.cuda import sensors_of
from hat_ray.latency.timing.sensors.heat import Thermometer, ThrottleWatch, cpu_throttle_sources
from hat_ray.latency.timing.sensors.host import LoadWatch, PeakMemory
from hat_ray.latency.timing.sensors.machine_state import MachineState, Sensors, advice
from hat_ray.latency.timing.sensors.nvml import Gpu, GpuMeter, GpuThrottling, find_gpu

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CPU = "sys/devices/system/cpu"
PI_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def task(ticks: int, core: int) -> str:
    """A thread's line in /proc: its command may hold brackets and blanks."""
    fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 23, str(core), "0"]
    return f"77 (a) b) {' '.join(fields)}"


def proc_stat(*, busy_s: float, idle_s: float, steal_s: float = 0.0) -> str:
    user, system = int(busy_s * 0.6 * TICKS_PER_S), int(busy_s * 0.4 * TICKS_PER_S)
    fields = [user, 0, system, int(idle_s * TICKS_PER_S), 500, 0, 0, int(steal_s * TICKS_PER_S), user, 0]
    return f"cpu  {' '.join(map(str, fields))}\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5"


def server(root: Path) -> Path:
    """Two packages of two cores, with cpufreq, coretemp and throttling counters; the process runs on core 3."""
    files: dict[str, object] = {
        "proc/thread-self/stat": task(500, 3),
        "proc/self/task/1/stat": task(500, 3),
        "proc/self/task/2/stat": task(480, 1),
        "proc/self/task/3/stat": task(2, 0),
        "proc/stat": proc_stat(busy_s=1000, idle_s=5000),
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": 99000,
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": 61000,
        "sys/class/hwmon/hwmon0/name": "coretemp",
        "sys/class/hwmon/hwmon0/temp1_input": 63500,
        "sys/class/hwmon/hwmon0/temp2_input": 90000,
        "sys/class/hwmon/hwmon1/name": "nvme",
        "sys/class/hwmon/hwmon1/temp1_input": 88000,
    }
    for core in range(4):
        files |= {
            f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq": 1_000_000 * (core + 1),
            f"{CPU}/cpu{core}/cpufreq/scaling_governor": "performance",
            f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count": 7,
            f"{CPU}/cpu{core}/thermal_throttle/package_throttle_count": 3,
            f"{CPU}/cpu{core}/topology/physical_package_id": core // 2,
        }
    return tree(root, files)


def raspberry_pi(root: Path) -> Path:
    files: dict[str, object] = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/thread-self/stat": task(50, 0),
        "proc/stat": proc_stat(busy_s=100, idle_s=500),
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": 2_400_000,
        f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": 81250,
        "sys/class/thermal/thermal_zone1/type": "cpu-broken",
        "sys/class/thermal/thermal_zone1/temp": -274000,
    }
    return tree(root, files)


def test_a_server_tells_its_state_and_the_cores_that_worked(tmp_path: Path) -> None:
    sensors = Sensors(1, root=server(tmp_path))
    sensors.start()
    told = sensors.stop()
    assert (told.cpu_mhz, told.governor, told.temperature_c, told.throttled) == (4000.0, "performance", 63.5, ())
    assert advice(told) == {}


def test_with_several_threads_the_busiest_ones_cores_count(tmp_path: Path) -> None:
    cores = CoreWatch(server(tmp_path), threads=2)
    cores.start()
    tree(tmp_path, {"proc/self/task/1/stat": task(520, 3), "proc/self/task/3/stat": task(90, 0)})
    assert cores.cores() == [0, 3]
    assert cpu_mhz(tmp_path, [0, 3]) == 2500.0
    tree(tmp_path, {f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave"})
    assert governor(tmp_path, [0, 3]) == "performance+powersave"


def test_without_cpufreq_the_clock_is_cpuinfos_of_that_core(tmp_path: Path) -> None:
    cpuinfo = "".join(f"processor\t: {core}\ncpu MHz\t\t: {2000 + core}.5\n\n" for core in range(300))
    tree(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert cpu_mhz(tmp_path, [7]) == 2007.5
    assert cpu_mhz(tmp_path, [7, 299]) == 2153.5
    assert cpu_mhz(tmp_path, [900]) is None
    assert cpu_mhz(tmp_path, []) is None


@pytest.mark.parametrize(
    "counter", ["cpu2/thermal_throttle/core_throttle_count", "cpu2/thermal_throttle/package_throttle_count"]
)
def test_a_throttling_counter_that_rose_is_told_and_one_that_stands_high_is_not(tmp_path: Path, counter: str) -> None:
    watch = ThrottleWatch(cpu_throttle_sources(server(tmp_path)))
    watch.start()
    assert watch.reasons() == ()
    tree(tmp_path, {f"{CPU}/{counter}": 8})
    assert watch.reasons() == ("thermal",)
    watch.start()
    assert watch.reasons() == ()


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("0", "0", ()),
        ("50000", "50000", ()),  # once since boot, not now
        ("50005", "50000", ("throttled", "under-voltage")),
        ("0", "80008", ("soft-temperature-limit",)),
        ("0", "20000", ("frequency-capped",)),  # came and went in between
    ],
)
@pytest.mark.parametrize("by_command", [False, True])
def test_a_raspberry_pi_tells_why_it_slowed_down(
    tmp_path: Path, before: str, after: str, reasons: tuple[str, ...], by_command: bool
) -> None:
    raspberry_pi(tmp_path)

    def tell(flags: str) -> None:
        if by_command:
            command = tmp_path / "usr/bin/vcgencmd"
            tree(tmp_path, {"usr/bin/vcgencmd": f'#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x{flags}'})
            command.chmod(0o755)
        else:
            tree(tmp_path, {PI_FIRMWARE: flags})

    tell(before)
    watch = ThrottleWatch(cpu_throttle_sources(tmp_path))
    watch.start()
    tell(after)
    assert watch.reasons() == reasons


def test_a_raspberry_pi_whose_governor_changes_clocks_and_which_is_hot_is_advised(tmp_path: Path) -> None:
    tree(raspberry_pi(tmp_path), {PI_FIRMWARE: "20002"})
    sensors = Sensors(1, root=tmp_path)
    sensors.start()
    told = sensors.stop()
    assert (told.cpu_mhz, told.governor, told.temperature_c) == (2400.0, "ondemand", 81.25)
    lines = advice(told)
    assert set(lines) == {"governor", "throttled"}
    assert "ondemand" in lines["governor"]
    assert "frequency-capped" in lines["throttled"]
    assert not any("\n" in line for line in lines.values())


def test_a_machine_that_tells_nothing_has_no_conditions_and_never_fails(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        sensors = Sensors(2, root=root)
        sensors.start()
        assert sensors.stop() == MachineState()
        assert sensors.meter.read() is None
    assert advice(MachineState()) == {}


def test_what_cannot_be_read_or_makes_no_sense_is_not_told(tmp_path: Path) -> None:
    files: dict[str, object] = dict.fromkeys((f"{CPU}/cpu3/cpufreq/scaling_cur_freq", PI_FIRMWARE), "no number")
    files |= {"proc/stat": "cpu", "proc/thread-self/stat": "garbage", "proc/cpuinfo": "cpu MHz : fast"}
    files |= {"sys/class/thermal/thermal_zone1/temp": "", "sys/class/hwmon/hwmon0/temp1_input": 65535000}
    server(tmp_path)
    (tmp_path / CPU / "cpu2/thermal_throttle/core_throttle_count").unlink()
    (tmp_path / CPU / "cpu2/thermal_throttle/core_throttle_count").mkdir()
    sensors = Sensors(1, root=tree(tmp_path, files))
    sensors.start()
    assert sensors.stop() == MachineState(throttled=())


def test_only_a_pcs_board_sensor_is_better_than_none(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/class/thermal/thermal_zone0/type": "acpitz", "sys/class/thermal/thermal_zone0/temp": 40000})
    assert Thermometer(tmp_path).read_c() == 40.0


def test_others_load_is_what_is_busy_less_what_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = own = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: 70 + passed)
    monkeypatch.setattr("time.process_time", lambda: 7 + own)
    tree(tmp_path, {"proc/stat": proc_stat(busy_s=1000, idle_s=1000, steal_s=10)})
    load = LoadWatch(tmp_path)
    load.start()
    passed, own = 5.0, 3.0
    tree(tmp_path, {"proc/stat": proc_stat(busy_s=1009 + own, idle_s=1001, steal_s=12)})
    tick = pytest.approx(0, abs=0.01)
    others, steal = load.others_and_steal()
    assert ((others or 0) - 9 / 5, (steal or 0) - 2 / 5) == (tick, tick)
    load.start()
    passed += 0.05
    tree(tmp_path, {"proc/stat": proc_stat(busy_s=1020, idle_s=1001, steal_s=12)})
    assert load.others_and_steal() == (None, None)  # too short for the kernel's ticks
    tree(tmp_path, {"proc/stat": "cpu  0 0 0 0"})
    load.start()
    passed += 1.0
    assert load.others_and_steal() == (None, None)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc")
def test_a_real_busy_process_beside_is_seen() -> None:
    load = LoadWatch(Path("/"))

    def others_over(seconds: float) -> float:
        load.start()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:  # our own work must not count
            pass
        return load.others_and_steal()[0] or 0.0

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        # its share depends on what else runs here: on two cores it gets half of one at least
        assert others_over(0.7) > 0.3
    finally:
        busy.kill()
        busy.wait(240)


def take_and_give_back(megabytes: int) -> None:
    """Fill memory and return it to the system, which an allocator need not do."""
    with mmap.mmap(-1, megabytes * 1_000_000) as block:
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_peak_memory_is_the_timings_own_and_not_an_earlier_one() -> None:
    memory = PeakMemory(Path("/"))
    take_and_give_back(200)
    memory.start()
    before = memory.resident_bytes() or 0
    take_and_give_back(48)
    after = memory.resident_bytes() or 0
    assert 40e6 < after - before < 100e6
    memory.start()
    assert (memory.resident_bytes() or 0) < after - 40e6
    assert memory.device_bytes() is None


def test_where_a_peak_cannot_be_forgotten_only_a_higher_one_is_told(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/status": "Name:\tx\nVmHWM:\t  100 kB\nVmRSS:\t 50 kB"})
    (tmp_path / "proc/self/clear_refs").mkdir()
    memory = PeakMemory(tmp_path)
    memory.start()
    assert memory.resident_bytes() is None
    tree(tmp_path, {"proc/self/status": "Name:\tx\nVmHWM:\t  120 kB"})
    assert memory.resident_bytes() == 120 * 1024


def test_a_full_reading_opens_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timing waits for it: how long, `bench_sensors.py` prints."""
    sensors, opened, open_file = Sensors(1), [], os.open
    monkeypatch.setattr("os.open", lambda path, *how: opened.append(path) or open_file(path, *how))
    sensors.start()
    sensors.stop()
    assert len(opened) < 40, opened


class FakeNvmlError(Exception):
    """What NVML raises."""


def nvml(**functions: object) -> SimpleNamespace:
    """A stand-in for NVIDIA's library, which needs a GPU: a GPU answers what is given, and refuses the rest."""

    def refuse(*_: object) -> None:
        raise FakeNvmlError("Not Supported")

    names = ("nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTemperature", "nvmlDeviceGetTotalEnergyConsumption")
    answers = dict.fromkeys(names, refuse) | {"nvmlInit": lambda: None, **functions}
    return SimpleNamespace(NVMLError=FakeNvmlError, **answers)


def test_a_gpu_tells_energy_temperature_and_why_its_clocks_are_down() -> None:
    millijoules = iter([1_000, 3_500])
    library = nvml(
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTemperature=lambda handle, sensor: 55,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(millijoules),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x1 | 0x4 | 0x40,  # the older name
    )
    gpu = find_gpu("GPU-1", library)
    assert gpu == Gpu(library, "handle of GPU-1")
    meter, throttling = GpuMeter(gpu), ThrottleWatch([GpuThrottling(gpu)])
    before = meter.read() or 0.0
    assert (meter.read() or 0.0) - before == pytest.approx(2.5)
    assert gpu.read_c() == 55.0
    throttling.start()
    assert throttling.reasons() == ("gpu-hardware-thermal", "gpu-power-cap")


def test_a_gpu_that_answers_nothing_and_an_absent_library_are_none() -> None:
    assert find_gpu("GPU-1", None) is None
    assert find_gpu("GPU-1", nvml()) is None
    gpu = find_gpu("GPU-1", nvml(nvmlDeviceGetHandleByUUID=lambda uuid: uuid))
    assert gpu is not None
    assert (gpu.read_c(), gpu.energy_j(), gpu.clock_reasons()) == (None, None, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_tells_its_peak_memory() -> None:
    sensors = sensors_of(1, on_gpu=True)
    sensors.start()
    block = torch.ones(1_000_000, device="cuda")
    del block
    told = sensors.stop()
    assert told.peak_device_bytes is not None
    assert told.peak_device_bytes >= 4_000_000
