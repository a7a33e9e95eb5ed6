"""What a measured row tells of the machine, of energy, of a mix of lengths and of the numbers it computed in."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import detect, device_of, require_device
from hat_ray.latency.here import measure
from hat_ray.latency.table.row import SCHEMA, LatencyRow
from hat_ray.latency.table.table import part_names, read_table, write_rows
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.sensors.machine_state import MachineState
from hat_ray.latency.timing.session import TimingSession
from hat_ray.model.config import ModelConfig
from hat_ray.runtime.processor import emulated
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.timed import timed_again

SPACE = PRESETS["toy"]
CONFIG = LatencyConfig(
    source_length=4,
    target_length=3,
    warmup=1,
    min_repetitions=5,
    max_repetitions=5,
    accelerator="cpu",
    canary_tolerance=50.0,
    calibration_s=0.05,
    budget_s=1.0,
    patience_s=1.0,
)
WITH_BF16 = pytest.mark.skipif(emulated("bf16") is not None, reason="needs a CPU with bf16")


def job(root: Path, pairs: tuple[tuple[int, int], ...] = (), **settings: object) -> TimingJob:
    config = CONFIG.model_copy(update=settings)
    return TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root), length_pairs=pairs)


@contextmanager
def machine_that_draws(root: Path, watts: float) -> Iterator[None]:
    """A real RAPL tree whose counter rises with time, as the hardware's does."""
    folder = root / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0")
    (folder / "max_energy_range_uj").write_text("262143328850")
    (folder / "energy_uj").write_text("0" * 16)
    stop, started = threading.Event(), time.perf_counter()
    file = os.open(folder / "energy_uj", os.O_WRONLY)

    def count() -> None:
        while not stop.wait(0.001):
            os.pwrite(file, f"{int((time.perf_counter() - started) * watts * 1e6):016d}".encode(), 0)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        yield
    finally:
        stop.set()
        counter.join()
        os.close(file)


def test_a_row_tells_the_machines_state_and_comes_back_whole(tmp_path: Path) -> None:
    row = timed_again(job(tmp_path), SPACE.smallest())
    told = row.context.machine_state
    if Path("/proc/self/clear_refs").exists():
        assert told.peak_resident_bytes is not None
        assert told.peak_resident_bytes > 50e6  # PyTorch alone takes more
        assert told.other_load_cpus is None or 0 <= told.other_load_cpus <= (os.cpu_count() or 1) + 0.5
    assert told.peak_device_bytes is None
    whole = MachineState(2400.0, "performance", 61.5, ("thermal", "power-cap"), 0.25, 0.0, 10**10, 10**11)
    unthrottled = replace(whole, throttled=())
    rows = [
        replace(row, context=replace(row.context, machine_state=state), energy=energy)
        for state, energy in ((whole, Energy(1.5, "nvml")), (unthrottled, None), (MachineState(), None))
    ]
    write_rows(tmp_path / "whole", rows)
    assert read_table(tmp_path / "whole", every_measurement=True) == rows


def test_files_from_before_these_columns_are_read(tmp_path: Path) -> None:
    row = timed_again(job(tmp_path), SPACE.smallest())
    folder, name = Folder.at(tmp_path), part_names(tmp_path)[0]
    new = ["length_mix", "cpu_mhz", "governor", "temperature_c", "throttled", "other_load_cpus", "steal_cpus"]
    new += ["peak_resident_bytes", "peak_device_bytes", "energy_j", "energy_source"]
    assert not [column for column in new if not SCHEMA.field(column).nullable]
    folder.write_table(name, folder.read_table(name).drop_columns(new))
    without = replace(row, context=replace(row.context, machine_state=MachineState()), energy=None)
    assert read_table(tmp_path) == [without]
    assert measure(job(tmp_path), [SPACE.smallest()]).skipped == 1


def test_energy_is_what_the_machine_draws_times_the_time_of_one_translation(tmp_path: Path) -> None:
    def timed(this: TimingJob) -> tuple[LatencyRow, float]:
        session = TimingSession(this, device_of(this.config), root=tmp_path / "machine")
        clock, processor = time.monotonic(), time.process_time()
        row = session.time(SPACE.largest())
        return row, (time.monotonic() - clock) / (time.process_time() - processor)

    # the counter lags by a thread's turn, a millisecond or more: only over many repetitions is that nothing
    many = {"min_repetitions": 100, "max_repetitions": 100, "budget_s": 5.0}
    with machine_that_draws(tmp_path / "machine", watts=100):
        plain = timed(job(tmp_path, **many))
        mixed = timed(job(tmp_path, ((4, 3), (9, 40)), length_mix=2, **many))
    for row, turns in (plain, mixed):
        assert row.energy is not None
        assert row.total is not None
        expected = 100 * row.total.mean_ms / 1e3
        # milliseconds are the processor's time: in turns of others, the counter's thread among them, it draws on
        assert 0.7 * expected <= row.energy.joules <= 2 * expected * max(1, turns)
        assert row.energy.source == "rapl package-0"


def test_what_can_be_mended_is_told_once_a_session_with_its_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    core = "sys/devices/system/cpu/cpu0/cpufreq"
    for name, text in {
        "proc/thread-self/stat": f"1 (x) S {'0 ' * 36}",
        f"{core}/scaling_governor": "powersave",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    this = job(tmp_path / "table")
    session = TimingSession(this, device_of(this.config), root=tmp_path)
    with caplog.at_level(logging.WARNING):
        first = session.run([SPACE.smallest()])
        second = session.run([SPACE.largest()])
    assert len(first.advice) == 1
    assert "governor powersave" in first.advice[0]
    assert "cpupower frequency-set" in first.advice[0]
    assert second.advice == ()
    assert [record.getMessage() for record in caplog.records] == list(first.advice)
    assert {row.context.machine_state.governor for row in read_table(tmp_path / "table")} == {"powersave"}


def test_a_mix_is_another_workload_than_its_means_and_than_another_mix(tmp_path: Path) -> None:
    pairs, architecture = ((3, 2), (5, 4)), SPACE.smallest()
    assert measure(job(tmp_path, pairs, length_mix=2), [architecture]).timed == 1
    assert measure(job(tmp_path, pairs, length_mix=2), [architecture]).skipped == 1
    assert measure(job(tmp_path), [architecture]).timed == 1
    assert measure(job(tmp_path, ((3, 3), (5, 3)), length_mix=2), [architecture]).timed == 1
    rows = read_table(tmp_path)
    assert {row.workload.length_mix for row in rows} == {None, "3x2,5x4", "3x3,5x3"}
    assert {(row.workload.source_length, row.workload.target_length) for row in rows} == {(4, 3)}
    with pytest.raises(LatencyError, match="length_mix needs a corpus"):
        job(tmp_path, length_mix=2)


@WITH_BF16
def test_bf16_is_another_device_and_its_times_are_real(tmp_path: Path) -> None:
    this = job(tmp_path, runtime="eager", dtype="bf16")
    session = TimingSession(this, device_of(this.config))
    canary = session._canary_model
    assert isinstance(canary, torch.nn.Module)
    assert {tensor.dtype for tensor in canary.parameters() if tensor.is_floating_point()} == {torch.bfloat16}
    assert session.run([SPACE.smallest(), SPACE.largest()]).timed == 2
    assert measure(job(tmp_path), [SPACE.smallest()]).timed == 1
    rows = read_table(tmp_path)
    assert sorted(row.device.dtype for row in rows) == ["bf16", "bf16", "fp32"]
    assert {row.device.slug.endswith("-1t-eager-bf16") for row in rows if row.device.dtype == "bf16"} == {True}
    assert min(row.latency_ms for row in rows) > 0
    with pytest.raises(LatencyError, match=r"latency\.dtype bf16, got fp32"):
        TimingSession(this, detect(accelerator="cpu", runtime="eager"))


def test_bf16_that_would_be_emulated_is_refused() -> None:
    with pytest.raises(LatencyError, match="the processor has avx2, fma and would emulate it: take fp32"):
        require_device("eager", "bf16", ("avx2", "fma"), "")
    for flag in ("avx512_bf16", "amx_bf16", "bf16"):
        require_device("eager", "bf16", (flag,), "")


def test_settings_and_a_selector_say_which_device_is_meant() -> None:
    named = device_of(LatencyConfig(threads=2, accelerator="cuda"), DeviceSelector(name="pi"))
    assert (named.name, named.threads, named.accelerator, named.dtype) == ("pi", 2, "", "fp32")
