"""Write tensors as a safetensors file, piece by piece.

Decisions
- The library builds the whole file in memory first (seen: 2.9 s for 420 MB, with the interpreter held, beside a
  training that needs it). Here each tensor goes to the file and into the checksum as it lies in memory.
- Reading stays the library's.
"""

import hashlib
import json
from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(stream: pa.NativeFile, tensors: Mapping[str, Tensor]) -> str:
    """Write CPU tensors to an open file; returns the SHA-256 of what was written, in hex."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # aligned, as the library's
    checksum = hashlib.sha256()
    for piece in (_header(ordered), *(_bytes(tensor) for _, tensor in ordered)):
        checksum.update(piece)
        stream.write(piece)
    return checksum.hexdigest()


def _header(ordered: list[tuple[str, Tensor]]) -> memoryview:
    entries, offset = {}, 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
