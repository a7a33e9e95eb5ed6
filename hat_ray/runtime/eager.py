"""Plain PyTorch: the model itself, moved to its device and dtype."""

import torch

from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import StepwiseEngine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.base import BaseRuntime
from hat_ray.runtime.protocol import RUNTIMES, Isa, RuntimeSettings
from hat_ray.space.architecture import Architecture

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class EagerRuntime(BaseRuntime):
    """PyTorch as it stands, on a CPU or a GPU."""

    name, facts = "eager", RUNTIMES.facts("eager")

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: ModelConfig | None = None,
    ) -> str | None:
        """Return the rule that the settings break; a GPU of this machine must compute in the dtype when it is timed."""
        if reason := super().unsupported(architecture, settings, isa, config):
            return reason
        timed_in_bf16 = settings.timed and settings.dtype == "bf16" and settings.device.startswith("cuda")
        if not timed_in_bf16 or torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        gpu = torch.cuda.get_device_name(settings.device)
        return f"bf16 needs a GPU of compute capability 8.0, {gpu} has less: set latency.dtype to fp32"

    def load(self, model: SubTransformer, settings: RuntimeSettings) -> StepwiseEngine:
        """Move the model to the device and dtype."""
        return model.to(settings.device, TORCH_DTYPES[settings.dtype]).eval()


EAGER = EagerRuntime()
