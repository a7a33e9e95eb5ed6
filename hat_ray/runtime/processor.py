"""By which instructions a processor multiplies in a dtype, and what it only emulates.

Decisions
- To run and to compute in are two things: PyTorch's own layers emulate bf16 anywhere, which is slow and right; times of
  an emulation do not hold for a device that computes in it.
- int8 runs on every processor, and means the same on each (`onnx/graph.py` explains it): only its speed differs.
"""

from hat_ray.core.processor import allowed_isa, max_isa, read_cpu
from hat_ray.runtime.protocol import Isa

NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
_EXACT_INT8 = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "i8mm": "ARM's i8mm"}
_EXACT_INT8 |= {"asimddp": "ARM's dot products"}


def emulated(dtype: str, isa: Isa | None = None) -> str | None:
    """Return why a processor computes in a dtype only by emulating it, and the remedy; None: it computes in it.

    `isa` holds another machine's flags; None: this processor, within what the environment allows.
    """
    flags = allowed_isa(read_cpu().isa) if isa is None else isa
    if dtype != "bf16" or set(NATIVE_BF16) & set(flags):
        return None
    return f"bf16 needs a CPU with avx512_bf16, amx_bf16 or ARM's bf16, {describe(isa)} and would emulate it: take fp32"


def arithmetic(dtype: str, isa: Isa | None = None) -> str:
    """Describe by which instructions a processor multiplies, such as "bytes by AVX-512 VNNI"."""
    flags = read_cpu().isa if isa is None else isa
    if dtype == "int8":
        own = next((name for flag, name in _EXACT_INT8.items() if flag in flags), None)
        return f"bytes by {own}" if own else "bytes in pairs of 16 bits, which these weights cannot overflow"
    if dtype == "bf16":
        flags = allowed_isa(flags) if isa is None else flags
        own = next((flag for flag in NATIVE_BF16 if flag in flags), None)
        return f"bf16 by {own}" if own else "bf16 emulated in fp32"
    return dtype


def saturates(quantisation: str, isa: Isa | None = None) -> bool:
    """Return whether a processor's products of bytes saturate with weights that were quantised in this way."""
    flags = read_cpu().isa if isa is None else isa
    return quantisation == "rows" and "avx2" in flags and not set(_EXACT_INT8) & set(flags)


def describe(isa: Isa | None) -> str:
    """Name a processor and its instruction sets; None: this one."""
    if isa is not None:
        return f"the processor has {', '.join(isa) or 'none of the known instruction sets'}"
    cpu = read_cpu()
    flags, limit = allowed_isa(cpu.isa), max_isa()
    within = f" within ONEDNN_MAX_CPU_ISA={limit}" if limit and flags != cpu.isa else ""
    return f"{cpu.model} has {', '.join(flags) or 'none of the known instruction sets'}{within}"
