"""`hat-ray doctor` reports a build of PyTorch that does not suit an ARM machine, without importing it."""

from pathlib import Path

import pytest

from hat_ray.doctor.torch_build import examine_torch

PI_4, PI_5 = (
    "fp asimd evtstrm crc32 cpuid",
    "fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp",
)


@pytest.mark.parametrize(
    ("build", "features", "gpu", "verdict"),
    [
        ("2.9.1", PI_4, False, None),
        ("2.10.0", PI_4, False, "missing"),
        ("2.10.0", PI_5, False, None),
        ("2.13.0", PI_5, False, "advice"),
        ("2.13.0+cpu", PI_4, False, None),
        ("2.13.0", PI_5, True, None),
        ("2.12.1+cu130", PI_5, False, "advice"),
    ],
)
def test_a_wrong_build_on_an_arm_machine_is_named_with_the_right_one(
    tmp_path: Path, build: str, features: str, gpu: bool, verdict: str | None
) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd08\n")
    (tmp_path / "dev").mkdir()
    if gpu:
        (tmp_path / "dev/nvidia0").touch()
    found = examine_torch(tmp_path, "aarch64", build)
    assert (found.verdict if found else None) == verdict
    if found:
        assert f"torch {build} " in found.seen
        assert found.remedy == "pip install 'torch==2.9.*'"
    assert examine_torch(tmp_path, "x86_64", build) is None
