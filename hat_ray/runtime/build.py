"""Put a SubTransformer on a runtime."""

import onnxruntime
import torch

from hat_ray.errors import HatRayError
from hat_ray.model.protocol import Translator
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.capability import require
from hat_ray.runtime.names import why_unsupported
from hat_ray.runtime.onnx.runtime import OnnxModel
from hat_ray.runtime.packed import PackedModel
from hat_ray.runtime.shortlist import ShortLists

_TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def on_runtime(
    model: SubTransformer,
    runtime: str,
    dtype: str = "fp32",
    *,
    device: str = "cpu",
    threads: int = 1,
    lists: ShortLists | None = None,
) -> Translator:
    """Return what executes `model` on a runtime; eager is the model itself, moved to the device and dtype.

    `threads` count for runtimes that have threads of their own; PyTorch's are the process's.
    """
    if lists is not None and runtime != "onnx":
        raise HatRayError(f"short-lists are for runtime onnx, got {runtime}: leave them out")
    if runtime == "eager" and not why_unsupported(runtime, dtype):
        return model.to(device, _TORCH_DTYPES[dtype]).eval()
    require(runtime, dtype)
    if device != "cpu":
        raise HatRayError(f"runtime {runtime} runs on the CPU, not on {device}: take runtime eager")
    if runtime == "packed":
        return PackedModel(model, _TORCH_DTYPES[dtype])
    return OnnxModel.of(model, "int8" if dtype == "int8" else "fp32", threads, lists)


def library_versions(runtime: str) -> dict[str, str]:
    """Return the versions of the libraries that execute a model."""
    more = {"onnxruntime": str(onnxruntime.__version__)} if runtime == "onnx" else {}
    return {"torch": torch.__version__, **more}
