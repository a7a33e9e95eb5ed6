"""How weights are laid out in an exported ONNX model. Imports no ONNX: sizes are computed from it."""

BLOCKS = (128, 64, 32)
"""Inputs of an int8 channel that share one scale: the first that divides them, else the last."""

LARGE = 1 << 18
"""Numbers of an int8 weight from which on it has scales by channel and not by block."""
LARGE_OF_MANY_ROWS = 1 << 12
"""The same in a graph that always has many rows."""

OUTSIDE_BYTES = 1024
"""Constants of fewer bytes stay in their graph."""
PAGE = 4096
"""Every constant outside begins at a multiple of it."""

_LARGEST_GRAPH_BYTES = 2**31 - 2**24
"""What a graph in memory holds: its format counts bytes in 31 bits, and the nodes need some."""
_INT8_SHARE = 4


def why_too_large(weight_bytes: int, dtype: str) -> str | None:
    """Return why a graph in memory cannot hold weights, whose bytes are those in fp32; None: it can."""
    held = weight_bytes // (_INT8_SHARE if dtype == "int8" else 1)
    if held <= _LARGEST_GRAPH_BYTES:
        return None
    return f"graphs of onnx hold at most 2 GB of weights, got {held / 1e9:.1f} GB"
