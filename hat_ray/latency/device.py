"""A device: hardware, and the software settings that change its speed.

Decisions
- The slug holds what changes speed and nothing that differs between two runs on the same machine (clock, memory and
  driver are recorded beside it).
- A board that times without hat-ray (`latency/kit`) describes itself by this very file.
- A GPU's slug also names the host's processor: with batch 1, an eager decoder waits for the launches of the CPU.
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from hat_ray.core.columns.marks import Int32
from hat_ray.core.processor import allowed_isa, isa_level, read_cpu

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


def this_processor(
    *, name: str, threads: int, runtime: str, dtype: str, quantisation: str, root: Path = Path("/")
) -> DeviceInfo:
    """Describe this machine's processor as a device; `root` stands for the file system's root."""
    cpu = read_cpu(root)
    return DeviceInfo(
        name=name,
        model=cpu.model,
        machine=platform.machine(),
        logical_cores=cpu.logical_cores,
        threads=threads,
        clock_mhz=cpu.clock_mhz,
        memory_bytes=cpu.memory_bytes,
        isa=allowed_isa(cpu.isa),
        accelerator="",
        accelerator_memory_bytes=None,
        driver="",
        runtime=runtime,
        dtype=dtype,
        quantisation=quantisation,
        os=f"{platform.system()} {platform.release()}",
    )


def slugify(text: str) -> str:
    """Keep lower-case letters and digits, everything else becomes single dashes; at most 100 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100].strip("-") or "unknown"
