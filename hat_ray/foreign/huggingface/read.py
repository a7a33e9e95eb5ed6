"""Read a folder of Hugging Face's MarianMTModel (OPUS-MT), with its weights as safetensors or as a checked `.bin`.

Decisions
- The decoder starts with the row of `decoder_start_token_id`, which a trained model does not leave at zero: that row
  becomes our BOS, which Hugging Face's vocabularies lack.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hat_ray.corpus.vocabulary import BOS, EOS, MISSING, PAD, SPECIAL_IDS, UNK, Vocabularies
from hat_ray.errors import CheckpointError, in_one_line
from hat_ray.foreign.huggingface.settings import Settings, read_config, read_settings
from hat_ray.foreign.opened import NO_VOCABULARY, ForeignModel
from hat_ray.foreign.rows import Order, biases_of, require_order, rows_of
from hat_ray.foreign.weights import Weights
from hat_ray.model.checkpoints.claims import require_floats, require_room
from hat_ray.model.checkpoints.fairseq import read_pickle_safely
from hat_ray.model.checkpoints.native import assign_weights
from hat_ray.model.embedding import position_table
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.plain_file import open_plain

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SAME_POSITIONS = 1e-4


def read_huggingface(folder: Path, vocabularies: Vocabularies | None = None) -> ForeignModel:
    """Read a folder; raise CheckpointError, in one line, for what is no MarianMTModel that hat-ray has."""
    source = str(folder)
    settings = read_settings(read_config(folder / CONFIG), source)
    state = _state(folder)
    orders = _orders(settings, vocabularies, source)
    weights = Weights(state, source)
    ours = _layers(weights, settings) | _words(weights, settings, orders)
    sizes = len(orders[0]), len(orders[1])
    require_room(settings.architecture, sizes, settings.config, ours, source, (settings.architecture.qkv_dim,) * 2)
    _require_sinusoids(weights, settings, source)
    weights.require_all_read()
    model = SubTransformer(settings.architecture, sizes[0], settings.config, target_vocab_size=sizes[1])
    assign_weights(model, ours, source)
    notes = () if vocabularies else (NO_VOCABULARY,)
    return ForeignModel(model.eval(), "huggingface", vocabularies, notes)


def _state(folder: Path) -> Mapping[str, Tensor]:
    """Return the weights, read without executing anything."""
    safe, pickled = (folder / name for name in _WEIGHTS)
    if safe.is_file():
        with open_plain(safe, "the weights", CheckpointError):
            pass  # a FIFO or a device is refused before the library opens it
        try:
            state: Any = safetensors.torch.load_file(safe)
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{safe} is damaged ({in_one_line(error, 100)}): copy it again") from error
    elif pickled.is_file():
        state = read_pickle_safely(pickled)
    else:
        raise CheckpointError(f"{folder} holds no {' and no '.join(_WEIGHTS)}: copy the whole folder")
    require_floats(state, str(folder))
    return dict(state)


def _orders(settings: Settings, vocabularies: Vocabularies | None, source: str) -> tuple[Order, Order]:
    if vocabularies is not None:
        for side, vocabulary, size in zip(
            ("source", "target"), (vocabularies.source, vocabularies.target), settings.vocab_sizes, strict=True
        ):
            require_order(vocabulary.order, size, side, source)
            found = vocabulary.order[PAD], vocabulary.order[EOS]
            if found != settings.special:
                raise CheckpointError(
                    f"{source}: its settings name {settings.special} as padding and end, the {side} vocabulary {found}"
                )
        return vocabularies.source.order, vocabularies.target.order
    first, second = (_unnamed_order(settings, size) for size in settings.vocab_sizes)
    return first, second


def _unnamed_order(settings: Settings, size: int) -> Order:
    """Return an order for ids of which only padding and end are known."""
    special = {BOS: MISSING, PAD: settings.special[0], EOS: settings.special[1], UNK: MISSING}
    first = [special[ours] for ours in SPECIAL_IDS]
    return (*first, *(theirs for theirs in range(size) if theirs not in first))


def _require_sinusoids(weights: Weights, settings: Settings, source: str) -> None:
    """Raise CheckpointError where positions stand in the folder that are not those of `transformers`."""
    rows, width = settings.config.max_positions, settings.architecture.qkv_dim
    expected = position_table("huggingface", rows + PAD + 1, width)[PAD + 1 :]
    for side in ("encoder", "decoder"):
        found = weights.take_if_there(f"model.{side}.embed_positions.weight", rows, width)
        if found is not None and (found - expected).abs().max() > _SAME_POSITIONS:
            raise CheckpointError(
                f"{source}: model.{side}.embed_positions.weight must be the sinusoids of transformers: "
                "positions of one's own are not read"
            )


def _layers(weights: Weights, settings: Settings) -> dict[str, Tensor]:
    architecture, width = settings.architecture, settings.architecture.qkv_dim
    ours: dict[str, Tensor] = {}

    def take(name: str, *shape: int) -> Tensor:
        return weights.take(f"model.{name}", *shape)

    for side, shape, attentions in (
        ("encoder", architecture.encoder, ("self_attn",)),
        ("decoder", architecture.decoder, ("self_attn", "encoder_attn")),
    ):
        for index, ffn in enumerate(shape.ffn_dims):
            layer = f"{side}.layers.{index}"
            for name in (f"{layer}.{one}" for one in attentions):
                parts = [f"{name}.{part}_proj" for part in "qkv"]
                ours[f"{name}.in_proj_weight"] = torch.cat([take(f"{one}.weight", width, width) for one in parts])
                ours[f"{name}.in_proj_bias"] = torch.cat([take(f"{one}.bias", width) for one in parts])
                ours[f"{name}.out_proj.weight"] = take(f"{name}.out_proj.weight", width, width)
            same = [f"{layer}.{one}.out_proj.bias" for one in attentions]
            norms = [*(f"{one}_layer_norm" for one in attentions), "final_layer_norm"]
            same += [f"{layer}.{norm}.{part}" for norm in norms for part in ("weight", "bias")]
            ours |= {name: take(name, width) for name in (*same, f"{layer}.fc2.bias")}
            ours[f"{layer}.fc1.weight"] = take(f"{layer}.fc1.weight", ffn, width)
            ours[f"{layer}.fc1.bias"] = take(f"{layer}.fc1.bias", ffn)
            ours[f"{layer}.fc2.weight"] = take(f"{layer}.fc2.weight", width, ffn)
    return ours


def _words(weights: Weights, settings: Settings, orders: tuple[Order, Order]) -> dict[str, Tensor]:
    """Return embeddings and output projection, their rows in our order and the decoder's start in row BOS."""
    (source, target), (first, second) = settings.vocab_sizes, orders
    width, sharing = settings.architecture.qkv_dim, settings.config.share_embeddings
    bias = weights.take_if_there("final_logits_bias", 1, target)
    bias = torch.zeros(target) if bias is None else bias[0]
    ours = {"decoder.output_bias": biases_of(bias, second)}
    encoder, decoder, out = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"
    if sharing == "all":
        both = weights.take("model.shared.weight", source, width, also=(encoder, decoder, out))
        ours["encoder.embed_tokens.weight"] = _started(both, second, settings.start)
        return ours
    ours["encoder.embed_tokens.weight"] = rows_of(weights.take(encoder, source, width), first)
    both = weights.take(decoder, target, width, also=(out,) if sharing == "decoder" else ())
    ours["decoder.embed_tokens.weight"] = _started(both, second, settings.start)
    if sharing == "none":
        ours["decoder.embed_out"] = rows_of(weights.take(out, target, width), second)
    return ours


def _started(theirs: Tensor, order: Order, start: int) -> Tensor:
    ours = rows_of(theirs, order)
    ours[BOS] = theirs[start]
    return ours
