"""ONNX Runtime on the CPU."""

from pathlib import Path

import onnxruntime

from hat_ray.errors import HatRayError
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.base import BaseRuntime
from hat_ray.runtime.onnx.engine import OnnxEngine, build_graphs
from hat_ray.runtime.onnx.export import OnnxExporter, write_graphs
from hat_ray.runtime.onnx.graph import graph_dtype
from hat_ray.runtime.onnx.layout import why_too_large
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings


class OnnxRuntime(BaseRuntime):
    """ONNX Runtime, fp32 or int8."""

    name, facts, exporter = "onnx", RUNTIMES.facts("onnx"), OnnxExporter()

    def load(self, model: SubTransformer, settings: RuntimeSettings) -> OnnxEngine:
        """Build a model's graphs in memory; raise HatRayError where no graph can hold its weights."""
        sides = (sum(weight.nbytes for weight in side.parameters()) for side in (model.encoder, model.decoder))
        if reason := why_too_large(max(sides), settings.dtype):
            raise HatRayError(f"{reason}: take runtime packed or eager")
        return OnnxEngine.of(model, graph_dtype(settings.dtype), settings.threads, settings.short_lists)

    def store(self, model: SubTransformer, folder: Path, settings: RuntimeSettings) -> None:
        """Write a model's graphs and weights."""
        write_graphs(folder, build_graphs(model, graph_dtype(settings.dtype)))

    def versions(self) -> dict[str, str]:
        """Return the versions of PyTorch and ONNX Runtime."""
        return {**super().versions(), "onnxruntime": str(onnxruntime.__version__)}


ONNX = OnnxRuntime()
