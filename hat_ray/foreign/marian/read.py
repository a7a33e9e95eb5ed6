"""Read a Marian `.npz` as a SubTransformer.

Decisions
- Without a vocabulary beside the file its ids are taken as Marian makes them: `</s>` 0, `<unk>` 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hat_ray.core.yaml_text import read_mapping
from hat_ray.corpus.vocabulary import MISSING, Vocabularies
from hat_ray.errors import CheckpointError
from hat_ray.foreign.marian.names import linears, norms, recurrences
from hat_ray.foreign.marian.settings import OLD_GELU, Settings, read_settings
from hat_ray.foreign.npz import Arrays, read_npz
from hat_ray.foreign.opened import NO_VOCABULARY, ForeignModel
from hat_ray.foreign.rows import Order, biases_of, require_order, rows_of
from hat_ray.foreign.weights import Weights
from hat_ray.model.checkpoints.native import assign_weights
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.plain_file import TEXT_BYTES, decode_text, open_plain

SETTINGS = "special:model.yml"
"""The array that holds Marian's settings as text."""
OUTPUT = "decoder_ff_logit_out"


def read_marian(path: Path, vocabularies: Vocabularies | None = None) -> ForeignModel:
    """Read a model; raise CheckpointError, in one line, for what is no Transformer that hat-ray has."""
    source = str(path)
    with open_plain(path, "the model", CheckpointError) as file:
        arrays = read_npz(file, source, path.stat().st_size)
    settings = read_settings(_settings_text(arrays, source), source)
    orders = _orders(settings, vocabularies, source)
    weights = Weights({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, source)
    ours = _layers(weights, settings) | _words(weights, settings, orders)
    weights.require_all_read()
    model = SubTransformer(settings.architecture, len(orders[0]), settings.config, target_vocab_size=len(orders[1]))
    assign_weights(model, ours, source)
    old = (OLD_GELU,) if settings.config.activation == "gelu_sigmoid" else ()
    notes = (*old, *(() if vocabularies else (NO_VOCABULARY,)))
    return ForeignModel(model.eval(), "marian", vocabularies, notes)


def _settings_text(arrays: Arrays, source: str) -> Mapping[str, Any]:
    stored = arrays.pop(SETTINGS, None)
    if stored is None or stored.dtype.itemsize != 1 or stored.nbytes > TEXT_BYTES:
        raise CheckpointError(f"{source} is no model of Marian's: it must hold its settings as text in {SETTINGS}")
    name = f"{source}: {SETTINGS}"
    text = decode_text(stored.tobytes().split(b"\0", 1)[0], name, CheckpointError)
    return dict(read_mapping(text, name, CheckpointError).values)


def _orders(settings: Settings, vocabularies: Vocabularies | None, source: str) -> tuple[Order, Order]:
    """Return the foreign id of each of our ids, of the source and of the target."""
    if vocabularies is None:
        first, second = map(usual_order, settings.vocab_sizes)
        return first, second
    for side, vocabulary, size in zip(
        ("source", "target"), (vocabularies.source, vocabularies.target), settings.vocab_sizes, strict=True
    ):
        require_order(vocabulary.order, size, side, source)
    return vocabularies.source.order, vocabularies.target.order


def usual_order(size: int) -> Order:
    """Return the order of a vocabulary that Marian made: `</s>` 0, `<unk>` 1, neither begin nor padding."""
    return (MISSING, MISSING, 0, 1, *range(2, size))


def _layers(weights: Weights, settings: Settings) -> dict[str, Tensor]:
    architecture, config = settings.architecture, settings.config
    ours: dict[str, Tensor] = {}
    for linear in linears(architecture):
        parts = [weights.take(name, linear.columns, linear.rows) for name, _ in linear.theirs]
        ours[linear.weight] = torch.cat([part.T for part in parts])
        ours[linear.bias] = torch.cat([weights.take(name, 1, linear.rows)[0] for _, name in linear.theirs])
    width = architecture.qkv_dim
    for one in recurrences(architecture):
        ours[f"{one.ours}.weight"] = weights.take(one.weight, width, width).T
        ours[f"{one.ours}.forget_weight"] = weights.take(one.forget_weight, width, width).T
        ours[f"{one.ours}.forget_bias"] = weights.take(one.forget_bias, 1, width)[0]
    for norm in norms(architecture, config.normalize_before, config.normalize_before and config.encoder_final_norm):
        ours[f"{norm.ours}.weight"] = weights.take(norm.scale, 1, width)[0]
        ours[f"{norm.ours}.bias"] = weights.take(norm.bias, 1, width)[0]
    return ours


def _words(weights: Weights, settings: Settings, orders: tuple[Order, Order]) -> dict[str, Tensor]:
    """Return embeddings and output projection, their rows in our order."""
    (source, target), (first, second) = settings.vocab_sizes, orders
    width, sharing = settings.architecture.qkv_dim, settings.config.share_embeddings
    bias = weights.take(f"{OUTPUT}_b", 1, target)[0] if settings.output_bias else torch.zeros(target)
    ours = {"decoder.output_bias": biases_of(bias, second)}
    if sharing == "all" or settings.tied_source:
        both = weights.take("Wemb", source, width)
        ours["encoder.embed_tokens.weight"] = rows_of(both, first)
        if sharing == "all":
            return ours
        ours["decoder.embed_tokens.weight"] = rows_of(both, second)
    else:
        ours["encoder.embed_tokens.weight"] = rows_of(weights.take("encoder_Wemb", source, width), first)
        ours["decoder.embed_tokens.weight"] = rows_of(weights.take("decoder_Wemb", target, width), second)
    if sharing == "none":
        old = f"{OUTPUT}_W" in weights  # Marian before 1.9 stored it the other way round
        out = weights.take(f"{OUTPUT}_W", width, target).T if old else weights.take(f"{OUTPUT}_Wt", target, width)
        ours["decoder.embed_out"] = rows_of(out, second)
    return ours
