"""Whether a processor can run a runtime in a dtype, and by which instructions: asked before anything is built on it.

Decisions
- Of this processor oneDNN itself is asked, by one tiny product in bf16: what the flags promise may be forbidden by
  `ONEDNN_MAX_CPU_ISA`, or be missing from this PyTorch. Of another machine its flags are all that is known.
- To run and to compute in are two things: PyTorch's own layers emulate bf16 anywhere, which is slow and right; times of
  an emulation say nothing of a device that computes in it.
- int8 of onnx runs on every processor, and means the same on each (`graph.py` says why): only its speed differs.
"""

from functools import cache

import torch

from hat_ray.core.processor import allowed_isa, max_isa, read_cpu
from hat_ray.errors import HatRayError
from hat_ray.runtime.names import why_unsupported
from hat_ray.runtime.packed import PackedLinear, is_available

Isa = tuple[str, ...]

_NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
_PACKED_BF16 = (*_NATIVE_BF16, "avx512f", "avx_ne_convert")
"""oneDNN's bf16 products need one of these; with avx512f alone it converts within the product."""
_EXACT_INT8 = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "i8mm": "ARM's i8mm"}
_EXACT_INT8 |= {"asimddp": "ARM's dot products"}


def unsupported(runtime: str, dtype: str, isa: Isa | None = None) -> str | None:
    """Return why a processor cannot run a runtime in a dtype, what is missing and what to take; None: it can.

    `isa` are another machine's flags; None: this processor, within what the environment allows.
    """
    if reason := why_unsupported(runtime, dtype):
        return reason
    if runtime != "packed":
        return None
    if isa is None and not is_available():
        return "runtime packed needs a PyTorch with oneDNN, this one has none: take runtime eager or onnx"
    if dtype != "bf16" or (_multiplies_bf16() if isa is None else set(_PACKED_BF16) & set(isa)):
        return None
    return (
        f"runtime packed in bf16 needs avx512f, avx_ne_convert or ARM's bf16, {_told(isa)}: "
        "take dtype fp32, or runtime onnx with dtype int8"
    )


def emulated(dtype: str, isa: Isa | None = None) -> str | None:
    """Return why a processor computes in a dtype only by emulating it, and what to take; None: it computes in it."""
    flags = allowed_isa(read_cpu().isa) if isa is None else isa
    if dtype != "bf16" or set(_NATIVE_BF16) & set(flags):
        return None
    return f"bf16 needs a CPU with avx512_bf16, amx_bf16 or ARM's bf16, {_told(isa)} and would emulate it: take fp32"


def require(runtime: str, dtype: str) -> None:
    """Raise HatRayError where this processor cannot run a runtime in a dtype."""
    if reason := unsupported(runtime, dtype):
        raise HatRayError(reason)


def arithmetic(runtime: str, dtype: str, isa: Isa | None = None) -> str:
    """Describe by which instructions a processor multiplies, such as "bytes by AVX-512 VNNI"."""
    if runtime == "ctranslate2":
        return f"{dtype} by CTranslate2's choice of instructions"
    flags = read_cpu().isa if isa is None else isa
    if dtype == "int8":
        own = next((name for flag, name in _EXACT_INT8.items() if flag in flags), None)
        return f"bytes by {own}" if own else "bytes in pairs of 16 bits, which these weights cannot overflow"
    if dtype == "bf16":
        flags = allowed_isa(flags) if isa is None else flags
        own = next((flag for flag in _NATIVE_BF16 if flag in flags), None)
        return f"bf16 by {own}" if own else "bf16 emulated in fp32"
    return "fp32"


def saturates(quantisation: str, isa: Isa | None = None) -> bool:
    """Tell whether a processor's products of bytes saturate with weights that were quantised in a way of `names.py`."""
    flags = read_cpu().isa if isa is None else isa
    return quantisation == "rows" and "avx2" in flags and not set(_EXACT_INT8) & set(flags)


@cache
def _multiplies_bf16() -> bool:
    """Let oneDNN multiply a small matrix in bf16; it refuses what it, or `ONEDNN_MAX_CPU_ISA`, cannot."""
    try:
        with torch.inference_mode():
            PackedLinear.of(torch.ones(16, 16, dtype=torch.bfloat16))(torch.ones(1, 16, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


def _told(isa: Isa | None) -> str:
    """Name a processor and what it has."""
    if isa is not None:
        return f"the processor has {', '.join(isa) or 'none of the known instruction sets'}"
    cpu = read_cpu()
    flags, limit = allowed_isa(cpu.isa), max_isa()
    within = f" within ONEDNN_MAX_CPU_ISA={limit}" if limit and flags != cpu.isa else ""
    return f"{cpu.model} has {', '.join(flags) or 'none of the known instruction sets'}{within}"
