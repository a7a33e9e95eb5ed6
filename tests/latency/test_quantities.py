"""Quantities beside the latency: recorded, measured in a process of their own, kept in the table, or refused."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.here import measure
from hat_ray.latency.quantities import LATENCY, QUANTITIES, Computed, DeviceProfile, Measured, QuantityFacts
from hat_ray.latency.quantity_rows import known_values, require_known
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.quantities.energy import why_no_energy
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import Spread, spread
from hat_ray.model.config import ModelConfig
from hat_ray.runtime.eager import EagerRuntime
from hat_ray.runtime.protocol import RUNTIMES, RuntimeFacts, register_runtime
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.test_energy import PowerCap
from tests.latency.test_measure import CONFIG, SPACE
from tests.latency.timed import timed_again
from tests.waiting import wait_for

VOCAB = 64
SMALL, LARGE = PRESETS["toy"].smallest(), PRESETS["toy"].largest()


def job(root: Path, *names: str, config: LatencyConfig = CONFIG, **settings: object) -> TimingJob:
    made = TimingJob(SPACE, ModelConfig(max_positions=32), VOCAB, config, Folder.at(root), bounded=(("", names),))
    return replace(made, **settings)  # type: ignore[arg-type]


def peak_of(one: Architecture, runtime: str, dtype: str, root: Path, vocab: int) -> float:
    config = CONFIG.model_copy(update={"runtime": runtime, "dtype": dtype})
    peak = QUANTITIES.load("peak_mb")
    assert isinstance(peak, Measured)
    value = peak.measure(one, replace(job(root, config=config), vocab_size=vocab).profile(device_of(config)))
    assert value is not None
    return value


@pytest.mark.parametrize(("runtime", "dtype"), [("onnx", "fp32"), ("ctranslate2", "int8"), ("eager", "fp32")])
def test_a_process_of_its_own_holds_more_for_a_larger_model(tmp_path: Path, runtime: str, dtype: str) -> None:
    if runtime == "ctranslate2":
        pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
    small = peak_of(SMALL, runtime, dtype, tmp_path, VOCAB)
    large = peak_of(LARGE, runtime, dtype, tmp_path, 40_000)  # 5 MB of embeddings in int8, 20 in fp32
    assert large > small + 5


def test_an_exported_models_process_loads_no_pytorch() -> None:
    pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
    programs = {RUNTIMES.facts(name).own_process for name in RUNTIMES.own_names} - {None}
    modules = ", ".join(str(program).partition(":")[0] for program in programs)
    code = f"import sys, hat_ray.latency.timing.quantities.peak_process, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert len(programs) == 2
    assert done.stdout.strip() == "False"


def test_what_cannot_be_measured_is_named_and_stays_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = job(tmp_path)
    profile = made.profile(replace(device_of(CONFIG), runtime="eager", dtype="fp7"))
    peak = QUANTITIES.load("peak_mb")
    assert isinstance(peak, Measured)
    assert peak.measure(SMALL, profile) is None
    assert "could not be measured" in caplog.text
    assert "fp7" in caplog.text


def test_peak_memory_is_measured_where_it_is_asked_for_and_kept(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 2, seed=0)
    measure(job(tmp_path), architectures)
    device = device_of(CONFIG)
    assert [row.quantities for row in read_table(tmp_path)] == [(), ()]
    assert known_values(tmp_path, SPACE.id, device.slug, job(tmp_path).protocol.workload, ["peak_mb"]) == {
        "peak_mb": {}
    }
    asked = job(tmp_path, "peak_mb")
    summary = measure(asked, architectures)
    assert (summary.timed, summary.skipped, summary.completed) == (0, 2, 2), "only what rows lack is measured"
    config = CONFIG.model_copy(update={"quantities": ("peak_mb",)})
    summary = measure(job(tmp_path, config=config), architectures)
    assert (summary.timed, summary.completed) == (0, 0)
    known = known_values(tmp_path, SPACE.id, device.slug, asked.protocol.workload, ["peak_mb"])["peak_mb"]
    assert set(known) == set(architectures)
    rows = [dict(row.quantities) for row in read_table(tmp_path, every_measurement=True)]
    assert sorted(known.values()) == sorted(one["peak_mb"] for one in rows if one)


def test_a_completed_row_is_the_same_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [timed_again(job(tmp_path / "one"), one) for one in (SMALL, LARGE)]
    loud = [replace(row, canary=Canary(3.0, 3.0, 0.9, 2.5), context=of_session(row, "loud")) for row in rows]
    other = choose_architectures(SPACE, 3, seed=0)[2]
    quiet = replace(rows[0], architecture=other, canary=Canary(2.0, 2.0, 1.0, 2.0))
    table = tmp_path / "two"
    write_rows(table, [*loud, replace(quiet, context=of_session(quiet, "quiet"))])
    before, groups = {row.key: row.corrected_ms for row in read_table(table)}, describe_table(table)
    assert before[loud[0].key] == pytest.approx(0.8 * loud[0].corrected_ms), "the quiet session's level is theirs too"
    first, second = Counted(), Counted()
    monkeypatch.setattr(QUANTITIES, "_added", {})  # later tests of this process shall not meet them
    for name, counted in (("first", first), ("second", second)):
        QUANTITIES.add(name, Measured(QuantityFacts(name, "1"), counted, "measure it"))
    summary = measure(job(table, "first"), [SMALL, LARGE])
    assert (summary.timed, summary.completed) == (0, 2)
    after = read_table(table)
    assert {row.key: row.corrected_ms for row in after} == pytest.approx(before)
    assert len(read_table(table, every_measurement=True)) == len(after) + 2
    [(was, now)] = zip(groups, describe_table(table), strict=True)
    assert replace(now, files=was.files) == was, "no timing was added"
    more = job(table, "first", config=CONFIG.model_copy(update={"quantities": ("second",)}))
    assert measure(more, [SMALL, LARGE]).completed == 2
    known = known_values(table, SPACE.id, rows[0].device.slug, rows[0].workload, ["first", "second"])
    assert set(known["first"]) == set(known["second"]) == {SMALL, LARGE}
    assert first.asked == second.asked == [SMALL, LARGE]


class Counted:
    """A quantity that remembers what it was measured for."""

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    def __call__(self, architecture: Architecture, profile: DeviceProfile) -> float:
        self.asked.append(architecture)
        return 1.0


def of_session(row: LatencyRow, session: str) -> MeasurementContext:
    return replace(row.context, session_id=session)


def test_the_last_measurement_counts(tmp_path: Path) -> None:
    first = timed_again(job(tmp_path), SMALL)
    for second, value in (("01", 70.0), ("03", 90.0), ("02", 80.0)):
        context = replace(first.context, utc_time=f"2030-01-01T00:00:{second}Z")
        write_rows(tmp_path, [replace(first, context=context, quantities=(("peak_mb", value),))])
    known = known_values(tmp_path, SPACE.id, first.device.slug, first.workload, ["peak_mb"])
    assert known == {"peak_mb": {SMALL: 90.0}}


def test_percentiles_are_corrected_as_the_median_is(tmp_path: Path) -> None:
    row = timed_again(job(tmp_path / "one"), SMALL)
    quiet = at(row, SMALL, p50=10.0, p90=12.0, canary=Canary(2.0, 2.0, 1.0, 2.0), session="quiet")
    loud = at(row, LARGE, p50=30.0, p90=45.0, canary=Canary(3.0, 3.0, 2.5 / 3.0, 2.5), session="loud")
    write_rows(tmp_path / "two", [quiet, loud])
    known = known_values(tmp_path / "two", SPACE.id, row.device.slug, row.workload, [LATENCY, "p90_ms", "p99_ms"])
    assert known[LATENCY] == {SMALL: 10.0, LARGE: pytest.approx(20.0)}
    assert known["p90_ms"] == {SMALL: 12.0, LARGE: pytest.approx(30.0)}
    assert known["p99_ms"] == {SMALL: 24.0, LARGE: pytest.approx(60.0)}


def test_a_99th_percentile_is_of_a_hundred_repetitions_and_a_row_of_fewer_is_refused(tmp_path: Path) -> None:
    samples = [float(value) for value in range(100)]
    assert spread(samples).p99_ms == pytest.approx(98.01)
    assert spread(samples[1:]).p99_ms is None
    with pytest.raises(LatencyError, match=r"^p99_ms is not known of .*: set latency.min_repetitions to 200 or more"):
        measure(job(tmp_path / "few", "p99_ms"), [SMALL])
    many = {"min_repetitions": 200, "max_repetitions": 200, "budget_s": 60.0}
    measure(job(tmp_path / "many", "p99_ms", config=CONFIG.model_copy(update=many)), [SMALL])
    [row] = read_table(tmp_path / "many")
    known = known_values(tmp_path / "many", SPACE.id, row.device.slug, row.workload, [LATENCY, "p90_ms", "p99_ms"])
    assert known["p99_ms"][SMALL] >= known["p90_ms"][SMALL] >= known[LATENCY][SMALL]


def at(row: LatencyRow, one: Architecture, *, p50: float, p90: float, canary: Canary, session: str) -> LatencyRow:
    context = replace(row.context, session_id=session)
    total = Spread(p50, p50, p90, p50, 0.0, 2 * p90)
    return replace(row, architecture=one, total=total, canary=canary, context=context)


def test_a_quantity_that_the_device_does_not_report_is_refused_before_the_first_timing(tmp_path: Path) -> None:
    row = timed_again(job(tmp_path), SMALL)
    if row.energy is not None:
        pytest.skip("this machine reports energy")
    with pytest.raises(LatencyError) as refusal:
        measure(job(tmp_path, "energy_j"), choose_architectures(SPACE, 2, seed=0))
    assert len(read_table(tmp_path)) == 1, "nothing was timed for it"
    text = str(refusal.value)
    assert "\n" not in text
    assert text.startswith(f"energy_j is not known of {row.device.slug}: let the timing process read RAPL")
    with pytest.raises(LatencyError, match=r"^peak_mb is not known of pi4: name it in latency.quantities"):
        require_known("peak_mb", "pi4", {})


def test_energy_is_refused_where_nothing_counts_it_and_only_there(tmp_path: Path) -> None:
    profile = job(tmp_path).profile(device_of(CONFIG))
    assert "let the timing process read RAPL" in str(why_no_energy(profile, tmp_path))
    PowerCap(tmp_path)
    assert why_no_energy(profile, tmp_path) is None


def test_a_runtime_that_does_not_report_its_models_size_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sizeless(EagerRuntime):
        name, facts = "sizeless", RuntimeFacts({"fp32": "none"})

    monkeypatch.setattr(RUNTIMES, "_added", {})
    register_runtime("sizeless", Sizeless())
    config = CONFIG.model_copy(update={"runtime": "sizeless"})
    with pytest.raises(LatencyError, match=r"^runtime sizeless does not report .*: leave model_mb out$"):
        measure(job(tmp_path, "model_mb", config=config), [SMALL])


def test_the_size_is_that_of_the_devices_runtime_and_dtype(tmp_path: Path) -> None:
    size = QUANTITIES.load("model_mb")
    assert isinstance(size, Computed)
    sizes = {}
    for runtime, dtype in (("eager", "fp32"), ("eager", "bf16"), ("onnx", "int8"), ("ctranslate2", "int8")):
        profile = job(tmp_path).profile(replace(device_of(CONFIG), runtime=runtime, dtype=dtype))
        sizes[runtime, dtype] = size.compute([SMALL, LARGE], profile)
    assert sizes["eager", "fp32"] == pytest.approx(2 * sizes["eager", "bf16"], rel=0.02)
    assert (sizes["onnx", "int8"] < sizes["eager", "fp32"]).all()
    assert (sizes["ctranslate2", "int8"] < sizes["onnx", "int8"]).all()


def test_a_device_has_to_know_what_its_own_limits_bound(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"quantities": ("model_mb",)})
    bounded = (("pi4", ("latency_ms", "peak_mb")), ("pi4-fast", ("energy_j",)), ("xeon", ("p90_ms",)))
    made = job(tmp_path, config=config, bounded=bounded)
    assert made.quantities_of("pi4-arm-1t-eager-fp32") == ("model_mb", "peak_mb")
    assert made.quantities_of("pi4-fast-arm-1t-eager-fp32") == ("model_mb", "energy_j")
    assert made.quantities_of("mac") == ("model_mb",)
    assert job(tmp_path, "latency_ms", "p90_ms").quantities_of("mac") == ("p90_ms",)


KILLED = """
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tests.latency.test_quantities import LARGE, peak_of
peak_of(LARGE, "eager", "fp32", Path(sys.argv[1]), 40_000)
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_killed_measurement_leaves_no_folder(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "table")],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: any(str(tmp_path).encode() in line for line in commands_of("peak_process")))
    process.kill()
    process.wait(timeout=240)
    wait_for(lambda: not any(tmp_path.glob("hat-ray-peak-*")))


def commands_of(program: str) -> list[bytes]:
    """Return the command lines of the processes that run a program."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_bytes())
    return [line for line in found if program.encode() in line]
