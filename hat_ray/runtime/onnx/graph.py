"""Build an ONNX graph node by node: names, weights, and the layers that encoder and decoder share.

D width, Q query-key-value width, H heads, K head width.

Decisions
- Graphs are written with `onnx.helper`, not exported from PyTorch: they are the same whatever PyTorch's version, hold
  the operators that ONNX Runtime runs fastest on skinny inputs, and their dynamic axes are ours.
- All layers run on 2-D inputs (rows, width): a linear layer is one Gemm with its bias.
- int8 weights are quantised symmetrically. Large ones have a scale for each channel, and each row of activations has
  one (`MatMulIntegerToFloat`): with 160 rows it takes half the time of scales for blocks, with 5 rows two thirds, with
  one row a third more. Small ones have scales for each block of a channel (128 inputs, where that divides them), which
  one node quantises and multiplies (`MatMulNBits`, accuracy level 4): there the number of nodes counts. Either way a
  row's result does not depend on the other rows; a scale for all rows together (`DynamicQuantizeMatMul`) would be no
  faster. The errors are alike.
- The products mean the same on every processor. x86 without VNNI multiplies an unsigned by a signed byte and adds two
  such products in 16 bits, which saturate: 255 * (127 + 127) is twice what they hold. So a channel's scale is chosen
  such that no two neighbours reach that (`PAIR`): most channels lose a quarter of a step, where seven bits of eight
  would lose a whole one. Bytes of blocks are multiplied signed by signed, 127 * (127 + 127), which fits. Signed
  activations (30 to 60 times slower on x86) and unsigned weights (2 to 3 times slower with VNNI) would be right as
  well.
"""

import hashlib
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from hat_ray.model.config import Activation
from hat_ray.model.layers import ElasticLayerNorm
from hat_ray.runtime.onnx.layout import BLOCKS, LARGE

OPSET = 17
IR_VERSION = 9
PAIR = 128
"""What the bytes of two neighbouring inputs of a channel may add up to: 255 times that fits into 16 bits."""

_ACTIVATIONS: dict[Activation, tuple[str, dict[str, float]]] = {
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("FastGelu", {}),
    "gelu_sigmoid": ("QuickGelu", {"alpha": 1.702}),
    "swish": ("QuickGelu", {"alpha": 1.0}),
}
"""ONNX Runtime's own operators, one node each; QuickGelu is x * sigmoid(alpha * x)."""

GraphDtype = Literal["fp32", "int8"]
Array = NDArray[Any]


def graph_dtype(dtype: str) -> GraphDtype:
    """Return the numbers of a graph for a dtype that ONNX Runtime computes in."""
    return "int8" if dtype == "int8" else "fp32"


class GraphBuilder:
    """Collects nodes and weights; `model` makes the ONNX model of them."""

    def __init__(self, name: str, dtype: GraphDtype, large: int = LARGE) -> None:
        self.name, self.dtype, self.large = name, dtype, large
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> str:
        """Make a node's value an output under this name, which it has from now on: nothing is copied."""
        for node in self._nodes:
            for names in (node.input, node.output):
                renamed = [name if each == value else each for each in names]
                del names[:]
                names.extend(renamed)
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs; return their names."""
        names = [f"{kind.lower()}_{len(self._nodes)}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def weight(self, value: Array | Tensor) -> str:
        """Return the name of a constant; equal constants are stored once."""
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()[:16]
        if digest not in self._weights:
            self._weights[digest] = numpy_helper.from_array(array, f"w_{digest}")
        return f"w_{digest}"

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self.weight(np.array(value, dtype=np.float32))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, initializer=list(self._weights.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="hat-ray")

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """(rows, in) -> (rows, out); `weight` is (out, in) as in PyTorch."""
        offset = [] if bias is None else [self.weight(bias)]
        if self.dtype == "fp32":
            return self.op("Gemm", x, self.weight(weight), *offset, transB=1)
        if weight.numel() >= self.large:
            return self._linear_by_channels(x, weight, bias)
        packed, scales = quantise(weight)
        out_features, in_features = weight.shape
        empty = ["", ""] if offset else []  # zero points and group index
        return self.op(
            "MatMulNBits",
            *(x, self.weight(packed), self.weight(scales.reshape(-1)), *empty, *offset),
            domain="com.microsoft",
            **{"K": in_features, "N": out_features, "bits": 8, "block_size": packed.shape[2], "accuracy_level": 4},
        )

    def _linear_by_channels(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """Divide each row by its largest number, multiply bytes, and give the row its size again."""
        packed, scales = quantise_channels(weight)
        sizes = self.op("ReduceMax", self.op("Abs", x), axes=[1], keepdims=1)
        sizes = self.op("Max", sizes, self.number(1e-12))  # a row of zeros stays one
        step, middle = self.number(1 / 127), self.weight(np.array(128, np.uint8))
        rows = self.op("QuantizeLinear", self.op("Div", x, sizes), step, middle)
        across = self.op("Transpose", self.weight(packed), perm=[1, 0])  # ONNX Runtime does it once, when it loads
        weights = across, step, self.weight(scales), middle
        y = self.op("Mul", self.op("MatMulIntegerToFloat", rows, *weights, domain="com.microsoft"), sizes)
        return y if bias is None else self.op("Add", y, self.weight(bias))

    def embed(self, tokens: str, table: Tensor, scale: float) -> str:
        """Integers of any shape -> (rows, D), scaled."""
        flat = self.op("Reshape", tokens, self.ints(-1))
        if self.dtype == "fp32":
            rows = self.op("Gather", self.weight(table), flat)
            return self.op("Mul", rows, self.number(scale))
        if table.numel() >= LARGE:
            packed, scales = quantise_channels(table)
            rows = self.op("Gather", self.weight(packed), flat)
            sizes = self.op("Unsqueeze", self.op("Gather", self.weight(scales * np.float32(scale)), flat), self.ints(1))
            return self.op("Mul", self.op("Cast", rows, to=TensorProto.FLOAT), sizes)
        blocks, scales = quantise(table)
        whole = self.op("Cast", self.op("Gather", self.weight(blocks), flat), to=TensorProto.FLOAT)
        factors = self.op("Gather", self.weight(scales.reshape(-1)), self.op("Add", *self._blocks_of(flat, scales)))
        shifted = self.op("Sub", whole, self.number(128.0))
        rows = self.op("Mul", shifted, self.op("Mul", factors, self.number(scale)))  # (rows, blocks, block)
        rows = self.op("Reshape", rows, self.ints(0, -1))
        width = table.shape[1]
        return (
            rows
            if width == blocks.shape[1] * blocks.shape[2]
            else self.op("Slice", rows, self.ints(0), self.ints(width), self.ints(1))
        )

    def _blocks_of(self, flat: str, scales: Array) -> tuple[str, str]:
        """Return the terms whose sum is the places (rows, blocks, 1) of a row's scales, stored as one list."""
        blocks = scales.shape[1]
        first = self.op("Mul", self.op("Unsqueeze", flat, self.ints(1, 2)), self.ints(blocks))
        return first, self.weight(np.arange(blocks, dtype=np.int64).reshape(1, blocks, 1))

    def layer_norm(self, x: str, norm: ElasticLayerNorm) -> str:
        return self.op(
            "LayerNormalization", x, self.weight(norm.weight), self.weight(norm.bias), axis=-1, epsilon=norm.eps
        )

    def activate(self, x: str, activation: Activation) -> str:
        """Return a feed-forward network's hidden units."""
        if activation == "relu":
            return self.op("Relu", x)
        kind, attributes = _ACTIVATIONS[activation]
        return self.op(kind, x, domain="com.microsoft", **attributes)

    def split_heads(self, x: str, shape: str, perm: list[int]) -> str:
        """(rows, H*K) -> what `perm` makes of (`shape`..., H, K); `shape` names a value of four numbers."""
        return self.op("Transpose", self.op("Reshape", x, shape), perm=perm)

    def merge_heads(self, x: str, width: int) -> str:
        """(B, H, T, K) -> (B * T, H*K)."""
        return self.op("Reshape", self.op("Transpose", x, perm=[0, 2, 1, 3]), self.ints(-1, width))


def quantise(weight: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(out, in) -> bytes (out, blocks, block) and scales (out, blocks); a value is (byte - 128) * scale.

    The last block is filled with zeros.
    """
    values = weight.detach().cpu().float().numpy()
    out_features, in_features = values.shape
    block = next((size for size in BLOCKS if in_features % size == 0), BLOCKS[-1])
    blocks = -(-in_features // block)
    padded = np.zeros((out_features, blocks * block), np.float32)
    padded[:, :in_features] = values
    grouped = padded.reshape(out_features, blocks, block)
    scales = np.abs(grouped).max(2) / 127.0
    safe = np.where(scales == 0, 1.0, scales)[:, :, None]
    packed = (np.rint(grouped / safe) + 128).astype(np.uint8)
    return packed, scales.astype(np.float32)


def quantise_channels(weight: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(out, in) -> bytes (out, in) and scales (out,); a value is byte * scale.

    The bytes of two neighbouring inputs of one sign add up to `PAIR` at most.
    """
    values = weight.detach().cpu().float().numpy()
    scales = np.maximum(np.abs(values).max(1) / 127.0, _largest_pairs(values) / (PAIR - 0.01))  # 0.01: for rounding
    safe = np.where(scales == 0, 1.0, scales)[:, None]
    return np.rint(values / safe).astype(np.int8), scales.astype(np.float32)


def _largest_pairs(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, in) -> (out,): the largest sum of two neighbours' sizes, counting those of one sign together."""
    padded = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    by_sign = (np.maximum(sign * padded, 0).reshape(len(values), -1, 2).sum(2).max(1) for sign in (1, -1))
    largest: NDArray[np.float32] = np.maximum(*by_sign)
    return largest
