"""Models in hat-ray's own format that are damaged or claim what their weights do not hold."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hat_files import SPACE, VOCAB

from hat_ray.core.codec import SEAL, write
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.storage.folder import Folder
from tests.bounded import bounded

LOADERS: dict[str, Callable[[Folder, str], Any]] = {"super": load_super, "sub": load_sub}


def saved(folder: Path, kind: str) -> Folder:
    model = SuperTransformer(SPACE, VOCAB, ModelConfig())
    save_model(Folder.at(folder), "m", model if kind == "super" else model.extract(SPACE.smallest()))
    return Folder.at(folder)


def refusal(folder: Folder, kind: str) -> str:
    def load() -> str:
        with pytest.raises(CheckpointError) as refused:
            LOADERS[kind](folder, "m")
        return str(refused.value)

    told: str = bounded(load, more_bytes=1 << 29, seconds=20)
    assert "\n" not in told
    assert str(folder) in told
    return told


def forge(folder: Folder, description: dict[str, Any]) -> None:
    """Write a description with a seal that fits: whoever means harm computes it as well."""
    write(folder, "m.json", {key: value for key, value in description.items() if key != SEAL})


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("source_vocab_size", 10**12, "parameters, its weights hold"),
        ("source_vocab_size", "20", "source_vocab_size: Input should be a valid integer"),
        ("target_vocab_size", -1, "target_vocab_size: Input should be greater than or equal to 1"),
        ("target_vocab_size", None, "target_vocab_size: Input should be a valid integer"),
        ("config.max_positions", 10**12, "config.max_positions: Input should be less than or equal to 1000000"),
        ("config.max_positions", -1, "config.max_positions: Input should be greater than"),
        ("config.dropout", "much", "config.dropout: Input should be a valid number"),
        ("super_dims", [16, 10**12], "times max_positions must be at most"),
        ("super_dims", [16], "super_dims.1: Field required"),
        ("super_dims", 16, "super_dims: Input should be a valid tuple"),
        ("space", None, ""),
        ("space.encoder_depths", [10**9], ""),
        ("space.qkv_dim", 131072, ""),
        ("architecture", None, ""),
        ("architecture.encoder.ffn_dims", [131072], ""),
        ("architecture.qkv_dim", "16", ""),
        ("architecture.qkv_dim", 131072, "parameters, its weights hold"),
    ],
)
def test_a_description_that_its_weights_do_not_keep_is_refused_before_memory_is_taken(
    tmp_path: Path, kind: str, path: str, value: Any, rule: str
) -> None:
    if path.startswith("space" if kind == "sub" else "architecture"):
        pytest.skip("the other kind of model has it")
    folder = saved(tmp_path, kind)
    description = place = folder.read_json("m.json")
    *above, last = path.split(".")
    for key in above:
        place = place[key]
    place[last] = value
    forge(folder, description)
    assert rule in refusal(folder, kind)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "sub")
    weights = safetensors.torch.load(folder.read_bytes("m.safetensors"))
    name = "decoder.layers.0.fc2.weight"
    for changed in (torch.zeros(3, 500), torch.zeros(8 * 16)):
        content = safetensors.torch.save(weights | {name: changed})
        description = folder.read_json("m.json") | {"sha256": hashlib.sha256(content).hexdigest()}
        folder.write_bytes("m.safetensors", content)
        forge(folder, description)
        assert f"{name} has shape {tuple(changed.shape)}" in refusal(folder, "sub")


VALUES = (None, True, -1, 0, 10**12, 1.5, "", "x", [], {}, [[]], "\ud800", 1e308)


def _swapped(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one part of it replaced, taken away or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: _swapped(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value + [value[place]] * rng.randrange(1, 200)
        return [*value[:place], _swapped(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def _damage(folder: Path, rng: random.Random) -> None:
    """Swap types in the description, or cut or change either file; sometimes with a check sum that fits again."""
    description, weights = folder / "m.json", folder / "m.safetensors"
    kind = rng.randrange(4)
    if kind == 0:
        told = _swapped(json.loads(description.read_text()), rng)
        description.write_text(json.dumps(told))
        return
    path = description if kind == 1 else weights
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(rng.choice([1, 1, 5, 50])):
            content[rng.randrange(len(content) if rng.random() < 0.3 else 600)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    if path == weights and kind == 3:
        told = json.loads(description.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        description.write_text(json.dumps(told))


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("seeds", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_whatever_is_damaged_is_refused_in_one_line_or_loads(tmp_path: Path, seeds: int, kind: str) -> None:
    folder = saved(tmp_path, kind)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def load_all() -> list[bool]:
        told = []
        for seed in range(seeds):
            for path, content in whole.items():
                path.write_bytes(content)
            _damage(tmp_path, random.Random(seed))
            try:
                model = LOADERS[kind](folder, "m")
                told.append(isinstance(model, SuperTransformer | SubTransformer))
            except HatRayError as error:
                told.append(len(str(error).splitlines()) == 1)
            except BaseException as error:
                raise AssertionError(f"seed {seed}") from error
        return told

    told = bounded(load_all, more_bytes=1 << 29, seconds=30 + seeds // 4)
    assert told == [True] * seeds
