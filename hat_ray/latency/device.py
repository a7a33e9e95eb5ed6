"""What a device is: hardware, and the software settings that change its speed.

Decisions
- The slug holds what changes speed and nothing that differs between two runs on the same machine (clock, memory and
  driver are recorded beside it).
- A GPU's slug names the host's processor too: with batch 1, an eager decoder waits for the launches of the CPU.
"""

import logging
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from hat_ray.core.processor import allowed_isa, isa_level, read_cpu
from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.runtime.protocol import RUNTIMES, Isa, RuntimeSettings, why_not_on, why_unsupported

log = logging.getLogger(__name__)

_NOISE = re.compile(r"\((r|tm|c)\)|@.*$|\bcpus?\b|\bprocessor\b|\b\d+-core\b|\bwith .*$", re.IGNORECASE)


@dataclass(frozen=True)
class DeviceInfo:
    """One device. `slug` is its id: equal for equal speed, different otherwise."""

    name: str
    """What the user calls it, or empty."""
    model: str
    """The CPU's or board's model; the host's CPU for a GPU."""
    machine: str
    """`platform.machine()`, such as "x86_64" or "aarch64"."""
    logical_cores: int
    threads: int
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


def hardware_of(slug: str) -> str:
    """Return the part of a device's id that tells the hardware: devices that share it differ in software alone."""
    return _settings().sub("", slug)


def settings_of(slug: str) -> str:
    """Return what a device's id says of its software, such as "onnx int8, 2 threads"; the id where it says nothing."""
    found = _settings().search(slug)
    if found is None:
        return slug
    threads, runtime, dtype, _ = found.groups()
    return f"{runtime} {dtype}, {threads} thread{'' if threads == '1' else 's'}"


@cache
def _settings() -> re.Pattern[str]:
    """Return what finds threads, runtime, dtype and quantisation at the end of a device's id."""
    names = "|".join(slugify(name) for name in RUNTIMES.names)
    return re.compile(rf"-(\d+)t-({names})-([a-z0-9]+)(-[a-z0-9]+)?$")


def slugify(text: str) -> str:
    """Keep lower-case letters and digits, everything else becomes single dashes; at most 100 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:100].strip("-") or "unknown"


def device_of(config: LatencyConfig, selector: DeviceSelector | None = None) -> DeviceInfo:
    """Describe the device that settings mean on this machine; a fleet's selector names it and chooses CPU or GPU."""
    name, accelerator = "", config.accelerator
    if selector is not None:
        name, accelerator = selector.name, "cuda" if selector.num_gpus else "cpu"
    own = config.of(selector)
    return detect(threads=own.threads, name=name, accelerator=accelerator, runtime=own.runtime, dtype=own.dtype)


def devices_of(
    config: LatencyConfig, selectors: Sequence[DeviceSelector | None]
) -> list[tuple[DeviceSelector | None, DeviceInfo]]:
    """Describe each device that settings mean on this machine, and warn of those that it cannot be.

    Raises LatencyError when it can be none of them.
    """
    found: list[tuple[DeviceSelector | None, DeviceInfo]] = []
    refused: list[LatencyError] = []
    for selector in selectors:
        try:
            found.append((selector, device_of(config, selector)))
        except LatencyError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for why in refused:
        log.warning("a device is left out: %s", why)
    return found


def detect(
    *,
    threads: int = 1,
    name: str = "",
    accelerator: Literal["auto", "cpu", "cuda"] = "auto",
    runtime: str = "eager",
    dtype: str = "fp32",
) -> DeviceInfo:
    """Describe the machine that this process runs on.

    Raises LatencyError when a GPU is asked for and none is seen, and when it cannot run the runtime in the dtype.
    """
    cpu = read_cpu()
    gpu, gpu_memory, driver = _gpu(_where(runtime, accelerator))
    require_device(runtime, dtype, None, gpu)
    return DeviceInfo(
        name=name,
        model=cpu.model,
        machine=platform.machine(),
        logical_cores=cpu.logical_cores,
        threads=threads,
        clock_mhz=cpu.clock_mhz,
        memory_bytes=cpu.memory_bytes,
        isa=allowed_isa(cpu.isa),
        accelerator=gpu,
        accelerator_memory_bytes=gpu_memory,
        driver=driver,
        runtime=runtime,
        dtype=dtype,
        quantisation=RUNTIMES.facts(runtime).dtypes[dtype],
        os=f"{platform.system()} {platform.release()}",
    )


def require_device(runtime: str, dtype: str, isa: Isa | None, gpu: str) -> None:
    """Raise LatencyError where a device cannot run a runtime in a dtype, or only emulates the dtype.

    Times of an emulation say nothing of a device that computes in it. `isa`: another machine's flags; None: this one's.
    """
    settings = RuntimeSettings(dtype, "cuda" if gpu else "cpu", timed=True)
    if reason := why_unsupported(runtime, settings, isa=isa):
        raise LatencyError(reason)


def _where(runtime: str, accelerator: str) -> str:
    """Return where a runtime can run of what was asked for; raise LatencyError when that is nowhere."""
    reason = why_not_on(runtime, RUNTIMES.facts(runtime), "cuda")
    if reason and accelerator == "cuda":
        raise LatencyError(reason)
    return "cpu" if reason else accelerator


def _gpu(accelerator: str) -> tuple[str, int | None, str]:
    """Return a GPU's model, memory in bytes and driver; ("", None, "") for the CPU."""
    if accelerator == "cpu":
        return "", None, ""
    if not torch.cuda.is_available():
        if accelerator == "cuda":
            raise LatencyError("a CUDA device was asked for, but torch sees none here: set latency.accelerator to cpu")
        return "", None, ""
    properties = torch.cuda.get_device_properties(0)
    driver = f"CUDA {torch.version.cuda}, compute {properties.major}.{properties.minor}"
    return properties.name, int(properties.total_memory), driver
