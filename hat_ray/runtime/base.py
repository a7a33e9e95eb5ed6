"""The answers that most runtimes have in common."""

from pathlib import Path

import torch

from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Engine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime import processor
from hat_ray.runtime.protocol import Exporter, Isa, RuntimeFacts, RuntimeSettings, why_no_dtype, why_not_on
from hat_ray.space.architecture import Architecture


class BaseRuntime:
    """A `Runtime` to inherit from: set `name` and `facts`, write `load`, and add to `unsupported` and `versions`."""

    name: str
    facts: RuntimeFacts
    exporter: Exporter | None = None

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: ModelConfig | None = None,
    ) -> str | None:
        """Return the rule that is broken: dtype, kind of device, dimensions, short-lists, emulated numbers."""
        reason = why_no_dtype(self.name, self.facts, settings.dtype) or why_not_on(
            self.name, self.facts, settings.device
        )
        if reason:
            return reason
        unread = [name for name, _ in architecture.extra if name not in self.facts.dimensions] if architecture else []
        if unread:
            return f"runtime {self.name} does not read the dimension {unread[0]}: leave it out of the space"
        if settings.short_lists is not None and not self.facts.short_lists:
            return f"short-lists are for runtime onnx, got {self.name}: leave them out"
        return processor.emulated(settings.dtype, isa) if settings.timed and settings.device == "cpu" else None

    def load(self, model: SubTransformer, settings: RuntimeSettings) -> Engine:
        """Return the engine of a model; it may take the model over."""
        raise NotImplementedError

    def store(self, model: SubTransformer, folder: Path, settings: RuntimeSettings) -> None:
        """Write what the program of `facts.own_process` loads."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Return PyTorch's version."""
        return {"torch": torch.__version__}

    def arithmetic(self, dtype: str, isa: Isa | None = None) -> str:
        """Describe by which instructions a processor multiplies in a dtype."""
        return processor.arithmetic(dtype, isa)
