"""The runtime of those who name none: the fastest one that executes a model exactly on its processor.

Measured at batch 1 on a CPU (`bench_runtime.py`), ONNX Runtime is fastest, then packed PyTorch, then PyTorch as it
stands; on a GPU only the last one runs.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hat_ray.errors import HatRayError
from hat_ray.runtime.protocol import Isa, RuntimeSettings, load_engine, require_runtime, why_unsupported
from hat_ray.space.architecture import Architecture

if TYPE_CHECKING:
    from hat_ray.model.config import ModelConfig
    from hat_ray.model.protocol import Engine
    from hat_ray.model.subtransformer import SubTransformer

log = logging.getLogger(__name__)

_LARGEST_GRAPH_BYTES = 2**31 - 2**24
AUTO = "auto"
"""What settings name instead of a runtime: the fastest one."""
FASTEST_FIRST = ("onnx", "packed", "eager")


@dataclass(frozen=True)
class Choice:
    """A runtime, and why it was chosen."""

    runtime: str
    reason: str


def fastest_runtime(
    settings: RuntimeSettings,
    architecture: Architecture | None = None,
    config: "ModelConfig | None" = None,
    isa: Isa | None = None,
) -> Choice:
    """Choose the fastest runtime that executes an architecture, or anything, with these settings.

    `isa` holds another machine's flags, whose packages are not known; None: this machine. Raises HatRayError where no
    runtime does.
    """
    passed: list[str] = []
    for name in FASTEST_FIRST:
        refused = why_unsupported(name, settings, architecture, isa, config)
        if refused is None:
            return Choice(name, "; ".join(["the fastest that executes this model here", *passed]))
        passed.append(f"not {name}, because {refused}")
    raise HatRayError(passed[0].removeprefix(f"not {FASTEST_FIRST[0]}, because "))


def choose(settings: RuntimeSettings, model: "SubTransformer") -> Choice:
    """Choose the fastest runtime that executes a model, and log it with the reason."""
    choice = fastest_runtime(settings, model.architecture, model.config)
    if choice.runtime == "onnx" and sum(weight.nbytes for weight in model.parameters()) > _LARGEST_GRAPH_BYTES:
        choice = Choice("eager", "not onnx, because its graphs hold at most 2 GB of weights")
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
        fastest_runtime(settings, None, config, isa)
    except HatRayError as error:
        return str(error)
    return None
