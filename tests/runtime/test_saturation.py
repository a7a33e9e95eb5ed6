"""int8 means the same on every processor: no product of an exported graph can saturate, by arithmetic.

x86 without VNNI multiplies bytes by `vpmaddubsw`: unsigned times signed, two neighbours' products added with saturation
to 16 bits. Here its worst case is computed exactly from the bytes that a graph really holds, and the instruction itself
in NumPy, on any machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import build_graphs
from hat_ray.runtime.onnx.graph import PAIR, GraphBuilder, quantise, quantise_channels
from hat_ray.runtime.onnx.layout import LARGE
from tests.runtime.models import ARCHITECTURES, a_model

INT16 = np.iinfo(np.int16)
SHAPE = ARCHITECTURES["every layer its own, reach 3 1 2"]
OTHERS = {"MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "QGemm", "QAttention"}
Bytes = NDArray[np.int64]


@dataclass(frozen=True)
class Product:
    """One product of a graph: bytes as signed numbers (in, out), and the range of bytes that multiply them."""

    name: str
    weights: Bytes
    lowest: int
    highest: int


def a_large_model(seed: int = 1) -> SubTransformer:
    """Return a model whose vocabulary makes the decoder's output large, and whose weights have outliers in pairs."""
    model = a_model(SHAPE, vocab=LARGE // SHAPE.decoder.embed_dim + 1, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dim() == 2:
                heavy = torch.rand(parameter.shape, generator=draw) < 0.05
                parameter[heavy] = 3 * parameter.abs().max() * torch.randn(int(heavy.sum()), generator=draw).sign()
    return model


def products(graph: onnx.ModelProto) -> Iterator[Product]:
    """Yield every product of bytes in a graph."""
    constants = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    turned = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Transpose"}
    for node in graph.graph.node:
        if node.op_type == "MatMulIntegerToFloat":
            weight, middle = constants[turned[node.input[1]]], constants[node.input[4]]
            assert (weight.dtype, middle.dtype, len(node.input)) == (np.int8, np.uint8, 5), "signed weights around 0"
            yield Product(node.name or node.output[0], weight.T.astype(np.int64), 0, 255)
        elif node.op_type == "MatMulNBits":
            settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            assert (settings["bits"], settings["accuracy_level"], "".join(node.input[3:4])) == (8, 4, "")
            weight = constants[node.input[1]].astype(np.int64) - 128
            yield Product(node.name or node.output[0], weight.reshape(len(weight), -1).T, -127, 127)
        else:
            assert node.op_type not in OTHERS, f"{node.op_type}: what is its worst case?"


def worst(product: Product) -> tuple[int, int]:
    """Return the least and the greatest sum of two neighbours' products that any activations can give."""
    padded = np.pad(product.weights, ((0, len(product.weights) % 2), (0, 0)))
    ends = np.stack([padded * product.lowest, padded * product.highest])
    pairs = ends.min(0), ends.max(0)
    least, greatest = (each.reshape(-1, 2, each.shape[1]).sum(1) for each in pairs)
    return int(least.min()), int(greatest.max())


def saturating(activations: Bytes, weights: Bytes) -> Bytes:
    """(rows, in), (in, out) -> (rows, out), as `vpmaddubsw` and `vpmaddwd` multiply."""
    odd = activations.shape[1] % 2
    a = np.pad(activations, ((0, 0), (0, odd))).reshape(len(activations), -1, 2)
    b = np.pad(weights, ((0, odd), (0, 0))).reshape(-1, 2, weights.shape[1])
    pairs = np.einsum("rpi,pio->rpo", a, b)
    summed: Bytes = np.clip(pairs, INT16.min, INT16.max).sum(1)
    return summed


def worst_rows(weights: Bytes) -> Bytes:
    """Return activations that make each of the first outputs as large, and as small, as it can be."""
    some = weights[:, :64].T
    return np.concatenate([np.where(some > 0, 255, 0), np.where(some < 0, 255, 0)]).astype(np.int64)


def as_before(weight: torch.Tensor) -> Bytes:
    """Quantise as hat-ray did up to quantisation "rows": the largest number of a channel becomes 127."""
    values = weight.numpy()
    return np.rint(values / (np.abs(values).max(1, keepdims=True) / 127)).astype(np.int64)


@pytest.mark.parametrize("listed", [False, True])
def test_no_product_of_a_graph_can_saturate(listed: bool) -> None:
    kinds = set()
    for part, graph in build_graphs(a_large_model(), "int8", listed).items():
        found = list(products(graph))
        assert found or part == "output", part
        for product in found:
            least, greatest = worst(product)
            assert INT16.min <= least <= greatest <= INT16.max, (part, product.name)
            kinds.add((part, product.lowest))
    assert kinds >= {("encoder", 0), ("decoder", -127)}
    assert (("decoder", 0) in kinds) == (not listed), "the output projection of so many words goes by channels"


@pytest.mark.parametrize("inputs", [64, 33, 512])
def test_the_saturating_kernel_multiplies_exactly_what_is_written_now_and_did_not_before(inputs: int) -> None:
    draw = torch.Generator().manual_seed(inputs)
    weight = torch.randn(96, inputs, generator=draw)
    weight[:, :2] = weight.abs().max()  # two large neighbours
    now, before = quantise_channels(weight)[0].T.astype(np.int64), as_before(weight).T
    rng = np.random.default_rng(inputs)
    for rows in (worst_rows(now), rng.integers(0, 256, (200, inputs)), np.full((1, inputs), 255)):
        assert (saturating(rows, now) == rows @ now).all()
    rows = worst_rows(before)
    assert (saturating(rows, before) != rows @ before).any(), "the check sees saturation"


def test_a_channel_loses_little_to_pairs() -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    packed, scales = quantise_channels(weight)
    steps = np.abs(weight.numpy()).max(1) / 127
    assert 1.0 < np.mean(scales / steps) < 1.5, "seven bits of eight would be 2"
    assert (np.abs(packed * scales[:, None] - weight.numpy()) <= 0.5001 * scales[:, None]).all()
    alone = torch.zeros(3, 8)
    alone[0, 3], alone[1, 2], alone[1, 3] = -2.0, 2.0, -2.0  # a pair of two signs does not add up
    assert [list(row) for row in quantise_channels(alone)[0]] == [
        [0, 0, 0, -127, 0, 0, 0, 0],
        [0, 0, 127, -127, 0, 0, 0, 0],
        [0] * 8,
    ]


def test_two_neighbours_add_up_to_the_bound_and_never_beyond() -> None:
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(4000, 16, generator=draw).sign() * torch.rand(4000, 16, generator=draw) ** 0.1
    packed = quantise_channels(weight)[0].astype(np.int64).reshape(4000, 8, 2)
    largest = np.maximum(np.maximum(packed, 0).sum(2), np.maximum(-packed, 0).sum(2)).max(1)
    assert largest.max() == PAIR
    assert 255 * PAIR <= INT16.max < 255 * (PAIR + 1)


@pytest.mark.parametrize("rows", [1, 5, 160])
@pytest.mark.parametrize(("large", "block"), [(0, 1), (1 << 30, 128)], ids=["channels", "blocks"])
def test_the_processor_here_multiplies_as_the_arithmetic_says(large: int, block: int, rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 256, generator=draw)
    weight[:, :64] = 2 * weight.abs().max()  # the bytes of many neighbours are as large as they may be
    x = torch.ones(rows, 256)
    x[:, 64:] = torch.randn(rows, 192, generator=draw).clamp(-1, 1)
    builder = GraphBuilder("product", "int8", large)
    made = builder.linear(builder.input("x", ["rows", 256]), weight)
    builder.output("y", made, ["rows", 96])
    session = onnxruntime.InferenceSession(builder.model().SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.numpy()})[0]
    if block == 1:
        packed, scales = quantise_channels(weight)
        activations = np.rint(x.numpy() * np.float32(127)).astype(np.int64)
        expected = activations @ packed.T.astype(np.int64) * scales.astype(np.float64) / 127
    else:
        blocks, scales = quantise(weight)
        parts = x.double().numpy().reshape(rows, -1, block)
        sizes = np.abs(parts).max(2, keepdims=True) / 127
        values = (blocks.astype(np.int64) - 128) * scales.astype(np.float64)[:, :, None]
        expected = np.einsum("rbk,nbk->rn", np.rint(parts / sizes) * sizes, values)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()  # saturation halves the largest
