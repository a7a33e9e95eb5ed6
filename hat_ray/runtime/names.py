"""Which runtimes there are, and the numbers that each computes in."""

from collections.abc import Mapping
from typing import Literal

RuntimeName = Literal["eager", "packed", "onnx"]
DtypeName = Literal["fp32", "bf16", "int8"]

DTYPES: Mapping[str, tuple[str, ...]] = {
    "eager": ("fp32", "bf16"),
    "packed": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),
}

_INT8 = "pairs"
"""How onnx quantises: activations row by row, large weights channel by channel such that two neighbours' products fit
into 16 bits. Another way is another name: "rows" was the same without that, and meant another thing without VNNI."""


def quantisation_of(dtype: str) -> str:
    """Return how numbers of a dtype are quantised, which is part of what a device is; "none" for floats."""
    return _INT8 if dtype == "int8" else "none"


def why_unsupported(runtime: str, dtype: str) -> str | None:
    """Return why a runtime cannot compute in a dtype, or None when it can."""
    if runtime not in DTYPES:
        return f"the runtime must be one of {', '.join(DTYPES)}, got {runtime!r}"
    if dtype in DTYPES[runtime]:
        return None
    others = [name for name, dtypes in DTYPES.items() if dtype in dtypes]
    other = f", or runtime {' or '.join(others)}" if others else ""
    return f"runtime {runtime} computes in {' or '.join(DTYPES[runtime])}, got dtype {dtype}: take one of these{other}"
