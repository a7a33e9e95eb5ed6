import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from hat_ray.core.processor import isa_level, read_cpu
from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import detect

PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Revision\t: c03114
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 79
model name\t: Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.40GHz
cpu MHz\t\t: 2399.996
flags\t\t: fpu sse sse2 avx fma avx2
"""
HIDDEN = XEON.replace("Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.40GHz", "AMD EPYC").replace("avx2", "avx2 avx512f")
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def system(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_tree", "-tree")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def slug_of(root: Path) -> str:
    cpu = read_cpu(root)
    return replace(detect(accelerator="cpu", runtime="eager"), model=cpu.model, isa=cpu.isa).slug


def test_a_raspberry_pi_is_named_by_its_board_and_told_by_its_features(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        proc__cpuinfo=PI,
        proc__device_tree__model="Raspberry Pi 4 Model B Rev 1.4\0",
        proc__meminfo="MemTotal:  3884396 kB\n",
        sys__devices__system__cpu__cpu0__cpufreq__cpuinfo_max_freq="1500000\n",
    )
    cpu = read_cpu(root)
    assert (cpu.model, cpu.clock_mhz, cpu.memory_bytes) == ("Raspberry Pi 4 Model B Rev 1.4", 1500.0, 3884396 * 1024)
    assert isa_level(cpu.isa) == "neon"
    assert slug_of(root) == "raspberry-pi-4-model-b-rev-1-4-neon-1t-eager-fp32"


@pytest.mark.parametrize(
    ("cpuinfo", "slug"),
    [
        (XEON, "intel-xeon-e5-2640-v4-avx2-1t-eager-fp32"),
        (HIDDEN, "amd-epyc-family-6-model-79-avx512-1t-eager-fp32"),
        (GRAVITON, "neoverse-v1-sve-1t-eager-fp32"),
    ],
)
def test_the_slug_names_what_changes_speed(tmp_path: Path, cpuinfo: str, slug: str) -> None:
    assert slug_of(system(tmp_path, proc__cpuinfo=cpuinfo)) == slug


def test_a_system_that_tells_nothing_still_has_a_device(tmp_path: Path) -> None:
    cpu = read_cpu(tmp_path)
    assert cpu.model
    assert cpu.clock_mhz is None
    assert cpu.logical_cores >= 1


def test_this_machine_has_one_stable_slug_that_is_a_safe_file_name() -> None:
    device = detect(name="lab-7", accelerator="cpu")
    assert device.slug == detect(name="lab-7", accelerator="cpu").slug
    assert re.fullmatch(r"lab-7-[a-z0-9]+(-[a-z0-9]+)*", device.slug)


def test_the_slug_differs_by_what_changes_speed_and_by_nothing_else() -> None:
    device = detect(accelerator="cpu", runtime="eager")
    for change in ({"threads": 2}, {"runtime": "onnx"}, {"dtype": "bf16"}, {"quantisation": "int8"}, {"name": "x"}):
        assert replace(device, **change).slug != device.slug
    assert replace(device, model="A model with a very long name " * 9, threads=3).slug.endswith("-3t-eager-fp32")
    assert replace(device, accelerator="NVIDIA H200").slug.startswith("nvidia-h200-on-")
    assert replace(device, clock_mhz=1.0, memory_bytes=1, logical_cores=99, os="Other 1").slug == device.slug


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if detect().accelerator:
        pytest.skip("this machine has a GPU")
    with pytest.raises(LatencyError, match="torch sees none here"):
        detect(accelerator="cuda")


@pytest.mark.parametrize("name", ["Pi 4", "a/b", "../x", "-a", "a--b"])
def test_a_device_name_that_would_not_be_kept_as_it_is_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        DeviceSelector(name=name)


def test_two_devices_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="own name"):
        LatencyConfig(devices=(DeviceSelector(name="a"), DeviceSelector(name="a", num_gpus=1)))
