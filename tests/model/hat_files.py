"""HAT checkpoints as HAT's code would write them, sound ones and others, in PyTorch's zipped and legacy formats."""

import argparse
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.search_space import SearchSpace

SPACE = SearchSpace(
    "tiny",
    qkv_dim=16,
    encoder_embed_dims=(16, 8),
    encoder_depths=(2,),
    encoder_ffn_dims=(24, 16),
    encoder_heads=(2, 1),
    decoder_embed_dims=(16, 8),
    decoder_depths=(2, 1),
    decoder_ffn_dims=(24, 16),
    decoder_self_heads=(2, 1),
    decoder_cross_heads=(2, 1),
    decoder_cross_layers=(1, 2),
)
VOCAB = 20
ARGUMENTS: dict[str, Any] = {
    "arch": "transformersuper",
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_embed_dim": 16,
    "decoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "decoder_ffn_embed_dim": 24,
    "encoder_embed_choice": [16, 8],
    "decoder_embed_choice": [16, 8],
    "encoder_layer_num_choice": [2],
    "decoder_layer_num_choice": [2, 1],
    "encoder_ffn_embed_dim_choice": [24, 16],
    "decoder_ffn_embed_dim_choice": [24, 16],
    "encoder_self_attention_heads_choice": [2, 1],
    "decoder_self_attention_heads_choice": [2, 1],
    "decoder_ende_attention_heads_choice": [2, 1],
    "decoder_arbitrary_ende_attn_choice": [-1, 1],
    "qkv_dim": 16,
    "share_all_embeddings": True,
    "dropout": 0.1,
}


def weights() -> "OrderedDict[str, Tensor]":
    model = SuperTransformer(SPACE, VOCAB, ModelConfig())
    state = OrderedDict((name, p.detach()) for name, p in model.named_parameters(remove_duplicate=False))
    state["encoder.version"] = torch.tensor([3.0])
    state["encoder.embed_positions._float_tensor"] = torch.zeros(1)
    return state


def content(**arguments: Any) -> dict[str, Any]:
    """Return a whole checkpoint, some of its arguments changed; `...` takes one away."""
    chosen = {key: value for key, value in (ARGUMENTS | arguments).items() if value is not ...}
    history = [{"num_updates": 7, "criterion_name": "x"}]
    return {"args": argparse.Namespace(**chosen), "model": weights(), "optimizer_history": history}


class Claim:
    """A storage that a pickle refers to."""

    def __init__(self, key: str, numel: Any, kind: type = torch.FloatStorage, view: Any = None) -> None:
        self.told = ("storage", kind, key, "cpu", numel)
        self.view = view


class Spread:
    """A tensor that says of itself where it lies in its storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        self.told = (storage, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.told


class Call:
    """Something that a pickle asks to be called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.told = function, arguments

    def __reduce__(self) -> Any:
        return self.told


class _Pickler(pickle._Pickler):  # in Python: it may write a tuple that cannot be hashed as a key
    def __init__(self, file: io.BytesIO, legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self.legacy = legacy

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Claim):
            return (*obj.told, obj.view) if self.legacy else obj.told
        return None


def pickled(value: Any, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    _Pickler(file, legacy).dump(value)
    return file.getvalue()


def write(path: Path, value: Any, storages: dict[str, bytes], legacy: bool = False, compressed: bool = False) -> Path:
    """Write a checkpoint whose claims need not be true."""
    if legacy:
        heads = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
        blocks = [struct.pack("<q", len(block) // 4) + block for block in storages.values()]
        path.write_bytes(b"".join(map(pickled, heads)) + pickled(value, True) + pickled([*storages]) + b"".join(blocks))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", pickled(value))
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/version", "3\n")
        for key, block in storages.items():
            archive.writestr(f"x/data/{key}", block)
    return path
