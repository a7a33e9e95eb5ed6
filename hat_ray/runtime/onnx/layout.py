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
