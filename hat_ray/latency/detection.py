"""The device that this process runs on, found by asking the processor, the GPU and the runtime."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from hat_ray.errors import HatRayError, LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo, this_processor
from hat_ray.runtime.choice import AUTO, Choice, ModelFacts, fastest_runtime, why_none_on
from hat_ray.runtime.protocol import RUNTIMES, Isa, RuntimeSettings, why_not_on, why_unsupported

log = logging.getLogger(__name__)


Accelerator = Literal["auto", "cpu", "cuda"]


def device_of(
    config: LatencyConfig, selector: DeviceSelector | None = None, largest: ModelFacts | None = None
) -> DeviceInfo:
    """Describe the device that settings mean on this machine; a fleet's selector names it and chooses CPU or GPU.

    Runtime auto becomes the fastest one that executes the `largest` model.
    """
    name = "" if selector is None else selector.name
    own, runtime = config.of(selector), runtime_of(config, selector, largest).runtime
    accelerator = _accelerator(config, selector)
    return detect(threads=own.threads, name=name, accelerator=accelerator, runtime=runtime, dtype=own.dtype)


def runtime_of(
    config: LatencyConfig, selector: DeviceSelector | None = None, largest: ModelFacts | None = None
) -> Choice:
    """Return the runtime that settings mean on this machine, and why.

    Raises LatencyError where none computes in the dtype that they name.
    """
    own = config.of(selector)
    if own.runtime != AUTO:
        return Choice(own.runtime, "the settings name it")
    gpu, _, _ = _gpu(_where(AUTO, own.dtype, _accelerator(config, selector)))
    return _fastest(own.dtype, gpu, largest)


def devices_of(
    config: LatencyConfig, selectors: Sequence[DeviceSelector | None], largest: ModelFacts | None = None
) -> list[tuple[DeviceSelector | None, DeviceInfo]]:
    """Describe each device that settings mean on this machine, and warn of those that it cannot be.

    Entries that turn out to be one device are that device once. Raises LatencyError when it can be none of them.
    """
    found: dict[str, tuple[DeviceSelector | None, DeviceInfo]] = {}
    refused: list[LatencyError] = []
    for selector in selectors:
        try:
            device = device_of(config, selector, largest)
        except LatencyError as error:
            refused.append(error)
            continue
        if found.setdefault(device.slug, (selector, device))[0] is not selector:
            log.warning("two entries of latency.devices are %s, which is timed once: leave one out", device.slug)
    if not found:
        raise refused[0]
    for why in refused:
        log.warning("a device is left out: %s", why)
    return list(found.values())


def _accelerator(config: LatencyConfig, selector: DeviceSelector | None) -> Accelerator:
    """Return where a device computes. A GPU that no selector asks for need not be one that PyTorch can use."""
    if selector is None:
        return config.accelerator
    if selector.num_gpus == 0:
        return "cpu"
    return "cuda" if config.devices else config.accelerator


def detect(
    *,
    threads: int = 1,
    name: str = "",
    accelerator: Accelerator = "auto",
    runtime: str = AUTO,
    dtype: str = "fp32",
) -> DeviceInfo:
    """Describe the machine that this process runs on.

    Raises LatencyError when a GPU is asked for and none is seen, and when it cannot run the runtime in the dtype.
    """
    gpu, gpu_memory, driver = _gpu(_where(runtime, dtype, accelerator))
    if runtime == AUTO:
        runtime = _fastest(dtype, gpu).runtime
    require_device(runtime, dtype, None, gpu)
    quantisation = RUNTIMES.facts(runtime).dtypes[dtype]
    host = this_processor(name=name, threads=threads, runtime=runtime, dtype=dtype, quantisation=quantisation)
    return replace(host, accelerator=gpu, accelerator_memory_bytes=gpu_memory, driver=driver)


def _fastest(dtype: str, gpu: str, largest: ModelFacts | None = None) -> Choice:
    """Return the fastest runtime of this machine that computes in a dtype and executes the largest model."""
    try:
        return fastest_runtime(RuntimeSettings(dtype, "cuda" if gpu else "cpu", timed=True), largest)
    except HatRayError as error:
        raise LatencyError(str(error)) from error


def require_device(runtime: str, dtype: str, isa: Isa | None, gpu: str) -> None:
    """Raise LatencyError where a device cannot run a runtime in a dtype, or only emulates the dtype.

    Times of an emulation do not represent a device that computes in the dtype. `isa`: another machine's flags; None:
    this one's.
    """
    settings = RuntimeSettings(dtype, "cuda" if gpu else "cpu", timed=True)
    if reason := why_unsupported(runtime, settings, isa=isa):
        raise LatencyError(reason)


def _where(runtime: str, dtype: str, accelerator: str) -> str:
    """Return the processor that a runtime runs on; raise LatencyError when only the GPU is allowed and it cannot."""
    reason = why_none_on(dtype, "cuda") if runtime == AUTO else why_not_on(runtime, RUNTIMES.facts(runtime), "cuda")
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
