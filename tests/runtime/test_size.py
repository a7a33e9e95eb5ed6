"""The computed size of a stored model against the bytes of real exports and checkpoints."""

import random
from importlib.util import find_spec
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.ctranslate2.size import model_bytes as ctranslate2_bytes
from hat_ray.runtime.ctranslate2.spec import why_not_expressible, write_model
from hat_ray.runtime.onnx.engine import build_graphs
from hat_ray.runtime.onnx.export import write_graphs
from hat_ray.runtime.onnx.graph import graph_dtype
from hat_ray.runtime.onnx.size import model_bytes as onnx_bytes
from hat_ray.runtime.size import StoredModel, checkpoint_bytes
from hat_ray.runtime.space import RuntimeSpaceConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from tests.runtime.models import ARCHITECTURES

TOLERANCE = 0.005
"""Of the whole file, for names, shapes and graphs around the weights."""
CONFIGS = {
    "all": ModelConfig(max_positions=64),
    "decoder": ModelConfig(max_positions=64, share_embeddings="decoder", normalize_before=True),
    "none": ModelConfig(max_positions=64, share_embeddings="none", sharing="importance"),
    "learned": ModelConfig(
        **{"max_positions": 512, "positions": "learned", "sharing": "importance", "output_bias": True},
        **{"normalize_before": True, "decoder_final_norm": False},
    ),
}


def space_for(name: str, preset: str) -> SearchSpace:
    if name.startswith("ctranslate2"):
        return RuntimeSpaceConfig(preset=preset, runtime="ctranslate2").build()
    return RuntimeSpaceConfig(preset=preset).build().replaced(decoder_cells=("attention", "ssru"))


def drawn(space: SearchSpace, count: int) -> list[Architecture]:
    draw = random.Random(3)
    return [space.smallest(), space.largest(), *(space.sample(draw) for _ in range(count))]


def a_trained(one: Architecture, stored: StoredModel) -> SubTransformer:
    """Return a model whose every weight differs, as after a training."""
    source, target = stored.vocab_sizes
    model = SubTransformer(one, source, stored.config, super_dims=stored.super_dims, target_vocab_size=target).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return model


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def write_checkpoint(model: SubTransformer, folder: Path, stored: StoredModel) -> int:
    save_model(Folder.at(folder), "model", model)
    if stored.dtype == "bf16":
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        halved = {name: one.bfloat16() if one.is_floating_point() else one for name, one in weights.items()}
        safetensors.torch.save_file(halved, folder / "model.safetensors")
    return (folder / "model.safetensors").stat().st_size


def write_onnx(model: SubTransformer, folder: Path, stored: StoredModel) -> int:
    write_graphs(folder, build_graphs(model, graph_dtype(stored.dtype)))
    return size_of(folder)


def write_ctranslate2(model: SubTransformer, folder: Path, stored: StoredModel) -> int:
    source, target = (["<s>", "<pad>", "</s>", "<unk>", *map(str, range(4, size))] for size in stored.vocab_sizes)
    write_model(model, source, target, folder, stored.dtype)
    return size_of(folder) - sum(file.stat().st_size for file in folder.glob("*_vocabulary.json"))


RUNTIMES = {
    "checkpoint fp32": (checkpoint_bytes, write_checkpoint, "fp32"),
    "checkpoint bf16": (checkpoint_bytes, write_checkpoint, "bf16"),
    "onnx fp32": (onnx_bytes, write_onnx, "fp32"),
    "onnx int8": (onnx_bytes, write_onnx, "int8"),
}
if find_spec("ctranslate2"):  # an extra
    RUNTIMES |= {f"ctranslate2 {dtype}": (ctranslate2_bytes, write_ctranslate2, dtype) for dtype in ("fp32", "int8")}


@pytest.mark.parametrize("sharing", CONFIGS)
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_computed_size_is_that_of_the_file(tmp_path: Path, name: str, sharing: str) -> None:
    computed, write, dtype = RUNTIMES[name]
    space = space_for(name, "toy")
    widest = space.largest()
    stored = StoredModel(CONFIGS[sharing], 800, dtype, (widest.encoder.embed_dim, widest.decoder.embed_dim))
    ones = drawn(space, 4)
    for place, (one, expected) in enumerate(zip(ones, computed(ones, stored), strict=True)):
        folder = tmp_path / str(place)
        folder.mkdir()
        assert write(a_trained(one, stored), folder, stored) == pytest.approx(expected, rel=TOLERANCE), str(one)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_larger_model_is_as_exact(tmp_path: Path, name: str) -> None:
    computed, write, dtype = RUNTIMES[name]
    space = space_for(name, "small")
    one = space.sample(random.Random(1))
    stored = StoredModel(ModelConfig(), 4000, dtype, (one.encoder.embed_dim, one.decoder.embed_dim))
    assert write(a_trained(one, stored), tmp_path, stored) == pytest.approx(computed([one], stored)[0], rel=0.001)


@pytest.mark.parametrize("sharing", ["decoder", "none"])
@pytest.mark.parametrize("name", RUNTIMES)
def test_each_side_counts_its_own_vocabulary(tmp_path: Path, name: str, sharing: str) -> None:
    computed, write, dtype = RUNTIMES[name]
    one = space_for(name, "toy").sample(random.Random(5))
    widths = one.encoder.embed_dim, one.decoder.embed_dim
    for place, sizes in enumerate([(2_500, 400), (400, 2_500)]):
        stored = StoredModel(CONFIGS[sharing], sizes[1], dtype, widths, sizes[0])
        folder = tmp_path / str(place)
        folder.mkdir()
        expected = computed([one], stored)[0]
        assert write(a_trained(one, stored), folder, stored) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("what", ARCHITECTURES)
def test_shapes_that_no_space_holds(tmp_path: Path, what: str) -> None:
    one = ARCHITECTURES[what]
    for name, (computed, write, dtype) in RUNTIMES.items():
        if name.startswith("ctranslate2") and why_not_expressible(one):
            continue
        stored = StoredModel(ModelConfig(), 801, dtype, (one.encoder.embed_dim, one.decoder.embed_dim))
        folder = tmp_path / name
        folder.mkdir()
        assert write(a_trained(one, stored), folder, stored) == pytest.approx(computed([one], stored)[0], rel=0.01)
