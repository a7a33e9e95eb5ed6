"""fairseq's plain Transformer as a HAT SuperTransformer whose every dimension has one choice.

fairseq keeps the three projections of an attention apart (from version 0.9 on), HAT as one; an older file names its
norms by number. Arguments stand in `args`, or in `cfg` (from version 0.10 on).
"""

import argparse
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hat_ray.errors import CheckpointError

_PROJECTION = re.compile(r"(.+_attn)\.([qkv])_proj\.(weight|bias)")
_NUMBERED_NORM = re.compile(r"((encoder|decoder)\.layers\.\d+)\.layer_norms\.(\d)\.(.+)")
_NORMS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
_OUTPUT = "decoder.output_projection.weight"
_LAST_LAYER = -1
"""HAT's code of attention to the last encoder layer."""


def arguments_of(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the arguments of a checkpoint; raise CheckpointError where it has none."""
    found, settings = content.get("args"), content.get("cfg")
    if found is None and isinstance(settings, Mapping):
        found = settings.get("model")
    named = vars(found) if isinstance(found, argparse.Namespace) else found
    if not isinstance(named, Mapping) or named is content.get("args"):
        raise CheckpointError(f"{source} is not a HAT checkpoint: `args` must be a Namespace")
    if odd := [key for key in named if not isinstance(key, str)]:
        raise CheckpointError(f"{source}: arguments must have names, got {odd[0]!r:.80}: correct the checkpoint")
    return dict(named)


def is_plain(arguments: Mapping[str, Any]) -> bool:
    """Return whether arguments are those of fairseq's own Transformer: no choice of HAT's is among them."""
    return "encoder_attention_heads" in arguments and not any(
        name == "qkv_dim" or name.endswith("_choice") for name in map(str, arguments)
    )


def with_choices(arguments: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return plain arguments with HAT's beside them; raise CheckpointError for widths that HAT's network lacks."""
    encoder, decoder = arguments["encoder_embed_dim"], arguments["decoder_embed_dim"]
    if encoder != decoder:
        raise CheckpointError(
            f"{source}: fairseq's attention is as wide as its own side, hat-ray's network has one width for all: "
            f"--encoder-embed-dim {encoder!r:.40} and --decoder-embed-dim {decoder!r:.40} must be equal"
        )
    of_side = {
        f"{side}_{name}_choice": [arguments[f"{side}_{given}"]]
        for side in ("encoder", "decoder")
        for name, given in (
            *(("embed", "embed_dim"), ("layer_num", "layers"), ("ffn_embed_dim", "ffn_embed_dim")),
            ("self_attention_heads", "attention_heads"),
        )
    }
    attended = {
        "decoder_ende_attention_heads_choice": [arguments["decoder_attention_heads"]],
        "decoder_arbitrary_ende_attn_choice": [_LAST_LAYER],
    }
    return {**arguments, **of_side, **attended, "qkv_dim": decoder}


def with_hats_names(state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return plain weights under HAT's names; raise LookupError, ValueError or RuntimeError for ill-formed ones."""
    found: dict[str, Tensor] = {}
    for name, weight in state.items():
        if projection := _PROJECTION.fullmatch(name):
            owner, part, kind = projection.groups()
            if part == "q":
                found[f"{owner}.in_proj_{kind}"] = _joined([state[f"{owner}.{one}_proj.{kind}"] for one in "qkv"], name)
        elif norm := _NUMBERED_NORM.fullmatch(name):
            layer, side, number, kind = norm.groups()
            found[f"{layer}.{_NORMS[side][int(number)]}.{kind}"] = weight
        elif name != _OUTPUT:
            found[name] = weight
    if _OUTPUT in state:
        shares = arguments.get("share_all_embeddings") or arguments.get("share_decoder_input_output_embed")
        if not shares:
            found["decoder.embed_out"] = state[_OUTPUT]
        elif not torch.equal(state[_OUTPUT], state["decoder.embed_tokens.weight"]):
            raise ValueError(f"its embeddings are shared, and {_OUTPUT} differs from decoder.embed_tokens.weight")
    return found


def _joined(parts: list[Tensor], name: str) -> Tensor:
    for part in parts:
        if part.numel() * part.element_size() > part.untyped_storage().nbytes():
            raise ValueError(f"{name:.80} claims more numbers than it holds")
    return torch.cat(parts)
