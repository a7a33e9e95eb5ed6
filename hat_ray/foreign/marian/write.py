"""Write a SubTransformer as a Marian `.npz`, with its sub-words beside it where Marian reads them."""

import io
from collections.abc import Mapping

import numpy as np
import torch
import yaml
from torch import Tensor

from hat_ray.corpus.vocabulary import MISSING
from hat_ray.errors import CheckpointError
from hat_ray.foreign.marian.names import linears, norms, recurrences
from hat_ray.foreign.marian.read import OUTPUT, SETTINGS
from hat_ray.foreign.marian.settings import settings_of
from hat_ray.foreign.npz import Arrays, write_npz
from hat_ray.foreign.rows import Order, rows_to
from hat_ray.model.subtransformer import SubTransformer


def marian_npz(model: SubTransformer, orders: tuple[Order, Order], name: str = "this model") -> bytes:
    """Return the content of an `.npz` file; raise CheckpointError for a model that Marian's format cannot hold.

    `orders` hold the id that Marian shall know each of our entries by, source and target; what has none is left out.
    """
    for order, size, side in zip(
        orders, (model.source_vocab_size, model.target_vocab_size), ("source", "target"), strict=True
    ):
        if len(order) != size:
            raise CheckpointError(f"the {side} vocabulary has {len(order)} entries, the model {size}: it is another's")
    sizes = [sum(theirs != MISSING for theirs in order) for order in orders]
    settings = settings_of(model, (sizes[0], sizes[1]), name)
    weights = {name: weight.float().cpu() for name, weight in model.weights().items()}
    arrays = _layers(model, weights) | _words(model, weights, orders)
    text = yaml.safe_dump(settings, sort_keys=True).encode() + b"\0"
    arrays[SETTINGS] = np.frombuffer(text, dtype=np.int8)
    content = io.BytesIO()
    write_npz(content, arrays)
    return content.getvalue()


def _layers(model: SubTransformer, weights: Mapping[str, Tensor]) -> Arrays:
    config = model.config
    arrays: Arrays = {}
    for linear in linears(model.architecture):
        matrices, biases = (torch.split(weights[name], linear.rows) for name in (linear.weight, linear.bias))
        for (weight, bias), matrix, vector in zip(linear.theirs, matrices, biases, strict=True):
            arrays[weight], arrays[bias] = matrix.T.contiguous().numpy(), vector[None].numpy()
    for one in recurrences(model.architecture):
        arrays[one.weight] = weights[f"{one.ours}.weight"].T.contiguous().numpy()
        arrays[one.forget_weight] = weights[f"{one.ours}.forget_weight"].T.contiguous().numpy()
        arrays[one.forget_bias] = weights[f"{one.ours}.forget_bias"][None].numpy()
    final = config.normalize_before and config.encoder_final_norm
    for norm in norms(model.architecture, config.normalize_before, final):
        arrays[norm.scale] = weights[f"{norm.ours}.weight"][None].numpy()
        arrays[norm.bias] = weights[f"{norm.ours}.bias"][None].numpy()
    return arrays


def _words(model: SubTransformer, weights: Mapping[str, Tensor], orders: tuple[Order, Order]) -> Arrays:
    first, second = orders
    sharing = model.config.share_embeddings
    source = rows_to(weights["encoder.embed_tokens.weight"], first)
    arrays: Arrays = {}
    if model.config.output_bias:
        arrays[f"{OUTPUT}_b"] = rows_to(weights["decoder.output_bias"], second)[None].numpy()
    if sharing == "all":
        return arrays | {"Wemb": source.numpy()}
    arrays |= {
        "encoder_Wemb": source.numpy(),
        "decoder_Wemb": rows_to(weights["decoder.embed_tokens.weight"], second).numpy(),
    }
    if sharing == "none":
        arrays[f"{OUTPUT}_Wt"] = rows_to(weights["decoder.embed_out"], second).numpy()
    return arrays
