"""A device: hardware, and the software settings that change its speed.

Decisions
- The slug holds what changes speed and nothing that differs between two runs on the same machine (clock, memory and
  driver are recorded beside it).
- A GPU's slug also names the host's processor: with batch 1, an eager decoder waits for the launches of the CPU.
"""

import logging
import re
from dataclasses import dataclass
from functools import cache

from hat_ray.core.columns import Int32
from hat_ray.core.processor import isa_level
from hat_ray.runtime.protocol import RUNTIMES

log = logging.getLogger(__name__)

_NOISE = re.compile(r"\((r|tm|c)\)|@.*$|\bcpus?\b|\bprocessor\b|\b\d+-core\b|\bwith .*$", re.IGNORECASE)


@dataclass(frozen=True)
class DeviceInfo:
    """One device. `slug` is its id: equal for equal speed, different otherwise."""

    name: str
    """The user's name for it, or empty."""
    model: str
    """The CPU's or board's model; the host's CPU for a GPU."""
    machine: str
    """`platform.machine()`, such as "x86_64" or "aarch64"."""
    logical_cores: Int32
    threads: Int32
    """Torch threads used for timing."""
    clock_mhz: float | None
    memory_bytes: int | None
    isa: tuple[str, ...]
    """Instruction-set flags that matter, such as ("avx512f", "avx2")."""
    accelerator: str
    """The GPU's model, or empty: the CPU times."""
    accelerator_memory_bytes: int | None
    driver: str
    """CUDA's version and the GPU's compute capability, or empty."""
    runtime: str
    dtype: str
    quantisation: str
    os: str

    @property
    def slug(self) -> str:
        """A stable readable id: lower-case letters, digits and dashes."""
        hardware = [self.name, self.accelerator, "on" if self.accelerator else "", _NOISE.sub(" ", self.model)]
        settings = [isa_level(self.isa) or self.machine, f"{self.threads}t", self.runtime, self.dtype]
        if self.quantisation != "none":
            settings.append(self.quantisation)
        return f"{slugify(' '.join(hardware))}-{slugify(' '.join(settings))}"

    @property
    def title(self) -> str:
        """The device's name for readers, such as "here: Intel Xeon, 1 thread, eager fp32"."""
        named = f"{self.name}: " if self.name else ""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{named}{self.accelerator or self.model}, {threads}, {self.runtime} {self.dtype}"

    @property
    def torch_device(self) -> str:
        return "cuda" if self.accelerator else "cpu"


def names_device(key: str, device: str) -> bool:
    """Return whether a key names a device: by its whole id, or by its name in the recipe, the first part of the id."""
    return device == key or device.startswith(f"{key}-")


def hardware_name(model: str) -> str:
    """Return a processor's or board's model as it stands in a device's id, such as "intel-xeon-e5-2640-v4"."""
    return slugify(_NOISE.sub(" ", model))


def hardware_of(slug: str) -> str:
    """Return the part of a device's id that names the hardware: devices that share it differ in software alone."""
    return _settings().sub("", slug)


def settings_of(slug: str) -> str:
    """Return the software in a device's id, such as "onnx int8, 2 threads"; the whole id where it names none."""
    found = _settings().search(slug)
    if found is None:
        return slug
    threads, runtime, dtype, _ = found.groups()
    return f"{runtime} {dtype}, {threads} thread{'' if threads == '1' else 's'}"


@cache
def _settings() -> re.Pattern[str]:
    """Return the pattern of threads, runtime, dtype and quantisation at the end of a device's id."""
    names = "|".join(slugify(name) for name in RUNTIMES.names)
    return re.compile(rf"-(\d+)t-({names})-([a-z0-9]+)(-[a-z0-9]+)?$")


def slugify(text: str) -> str:
    """Keep lower-case letters and digits, everything else becomes single dashes; at most 100 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100].strip("-") or "unknown"
