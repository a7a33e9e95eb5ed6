"""The runtime of those who name none: the fastest one that executes a model exactly on its processor.

Measured at batch 1 on a CPU (`bench_runtime.py`), ONNX Runtime is fastest, then packed PyTorch, then PyTorch as it
stands; on a GPU only the last one runs.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hat_ray.errors import HatRayError
from hat_ray.runtime.onnx.layout import why_too_large
from hat_ray.runtime.protocol import RUNTIMES, Isa, RuntimeSettings, load_engine, require_runtime, why_unsupported
from hat_ray.space.architecture import Architecture

if TYPE_CHECKING:
    from hat_ray.model.config import ModelConfig
    from hat_ray.model.protocol import Engine
    from hat_ray.model.subtransformer import SubTransformer

log = logging.getLogger(__name__)

AUTO = "auto"
"""What settings name instead of a runtime: the fastest one."""
FASTEST_FIRST = ("onnx", "packed", "eager")


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that decide which runtimes execute it, as far as they are known."""

    architecture: Architecture | None = None
    config: "ModelConfig | None" = None
    weight_bytes: int = 0
    """Bytes of all weights in fp32."""


@dataclass(frozen=True)
class Choice:
    """A runtime, and why it was chosen."""

    runtime: str
    reason: str


def fastest_runtime(settings: RuntimeSettings, model: ModelFacts | None = None, isa: Isa | None = None) -> Choice:
    """Choose the fastest runtime that executes a model, or anything, with these settings.

    `isa` holds another machine's flags, whose packages are not known; None: this machine. Raises HatRayError where no
    runtime does.
    """
    passed: list[str] = []
    model = model or ModelFacts()
    for name in FASTEST_FIRST:
        refused = why_unsupported(name, settings, model.architecture, isa, model.config)
        refused = refused or _why_too_large(name, settings, model)
        if refused is None:
            return Choice(name, "; ".join(["the fastest that executes this model here", *passed]))
        passed.append(f"not {name}, because {refused}")
    raise HatRayError(passed[0].removeprefix(f"not {FASTEST_FIRST[0]}, because "))


def why_none_on(dtype: str, device: str) -> str | None:
    """Return why no runtime is there to choose for a dtype on a kind of device, by their facts alone; None: one is."""
    facts = [RUNTIMES.facts(name) for name in FASTEST_FIRST]
    able = sorted({name for one in facts if device in one.accelerators for name in one.dtypes})
    if dtype in able:
        return None
    where = " on a GPU" if device == "cuda" else ""
    return f"runtime auto computes in {' or '.join(able)}{where}, got dtype {dtype}"


def _why_too_large(runtime: str, settings: RuntimeSettings, model: ModelFacts) -> str | None:
    """Return why a runtime cannot hold a model's weights, or None: it can."""
    if runtime != "onnx" or (reason := why_too_large(model.weight_bytes, settings.dtype)) is None:
        return None
    return f"{reason}: take runtime packed or eager"


def choose(settings: RuntimeSettings, model: "SubTransformer") -> Choice:
    """Choose the fastest runtime that executes a model, and log it with the reason."""
    weight_bytes = sum(weight.nbytes for weight in model.parameters())
    choice = fastest_runtime(settings, ModelFacts(model.architecture, model.config, weight_bytes))
    log.info("runtime %s %s: %s", choice.runtime, settings.dtype, choice.reason)
    return choice


def fastest_engine(model: "SubTransformer", settings: RuntimeSettings) -> tuple[str, "Engine"]:
    """Put a model on the fastest runtime that executes it; return that runtime's name and the engine."""
    name = choose(settings, model).runtime
    return name, load_engine(model, name, settings)


def require(runtime: str | None, settings: RuntimeSettings) -> None:
    """Raise HatRayError where a runtime, or without one any, cannot execute anything with these settings here."""
    if runtime is None:
        fastest_runtime(settings)
    else:
        require_runtime(runtime, settings)


def why_none(settings: RuntimeSettings, isa: Isa | None = None, config: "ModelConfig | None" = None) -> str | None:
    """Return why no runtime executes anything with these settings, or None: one does."""
    try:
        fastest_runtime(settings, ModelFacts(config=config), isa)
    except HatRayError as error:
        return str(error)
    return None
