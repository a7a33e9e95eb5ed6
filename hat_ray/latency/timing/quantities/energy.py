"""The energy of one translation as a quantity that limits bound: recorded where this machine counts joules."""

from pathlib import Path

from hat_ray.latency.quantities import ENERGY, QUANTITIES, DeviceProfile, Recorded
from hat_ray.latency.timing.sensors.cuda import energy_meter
from hat_ray.space.features import FloatArray

_REMEDY = (
    "let the timing process read RAPL (sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj), time on an NVIDIA "
    "GPU, or leave the limit out"
)


def why_no_energy(profile: DeviceProfile, root: Path = Path("/")) -> str | None:
    """Return why this machine counts no energy as a device, with the remedy, or None where it does.

    `root` stands for the file system's root.
    """
    if energy_meter(on_gpu=profile.device.torch_device == "cuda", root=root).read() is not None:
        return None
    return f"{ENERGY} is not known of {profile.device.slug}: {_REMEDY}"


def _joules(energy_j: FloatArray) -> FloatArray:
    return energy_j


ENERGY_J = Recorded(QUANTITIES.facts(ENERGY), ("energy_j",), _joules, _REMEDY, unavailable=why_no_energy)
