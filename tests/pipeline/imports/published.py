"""A published model of HAT's, with random weights, through every command that a trained one goes through."""

import argparse
import time
from collections import OrderedDict
from pathlib import Path

import torch

from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.imports.model import ModelImport, import_model
from hat_ray.pipeline.models import export_place
from hat_ray.pipeline.trained.one_model import architecture_of, time_place
from hat_ray.recipe import load_recipe
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.space.dimensions import HAT_CROSS_LAYERS
from hat_ray.space.presets import PRESETS
from tests.corpus.fairseq.data_bin_files import write_dictionary

WORDS = 996
QUICK = (
    *("latency.budget_s=0.2", "latency.patience_s=0", "latency.calibration_s=0", "latency.min_repetitions=5"),
    *("latency.max_repetitions=5", "latency.warmup=1", "latency.source_length=10", "latency.target_length=4"),
    "latency.beam=2",
)
_CODES = {layers: code for code, layers in HAT_CROSS_LAYERS.items()}


def walk(row: dict[str, str], architecture: Architecture, folder: Path) -> tuple[float, float]:
    """Import, count, time and export a model; return its milliseconds and the seconds of the walk."""
    started = time.perf_counter()
    iwslt = row["task"].startswith("iwslt")
    write_checkpoint(folder / "model.pt", architecture, iwslt)
    for language in ("en", "de"):
        write_dictionary(folder / f"dict.{language}.txt", [f"w{number}" for number in range(WORDS)])
    made = import_model(ModelImport(str(folder / "model.pt"), str(folder), "en-de"), str(folder / "model"))
    assert made.model.architecture == architecture
    shape = architecture_of(str(folder / "model"))
    counted = cost(shape, 23 if iwslt else 30)
    assert (counted.params, counted.flops) == (int(row["params_exact"]), int(row["flops_exact"]))
    timed = time_place(str(folder / "model"), load_recipe("toy", list(QUICK)))
    exported = export_place(str(folder / "model"), str(folder / "exported"), sentences=2, beam=2)
    assert exported.parity.identical == exported.parity.sentences
    return timed.latency_ms, time.perf_counter() - started


def write_checkpoint(path: Path, architecture: Architecture, iwslt: bool) -> None:
    """Write what HAT's training of the SubTransformer writes: the SuperTransformer's shapes, random weights."""
    space = PRESETS["space1" if iwslt else "space0"]
    config = ModelConfig(share_embeddings="none" if iwslt else "all")
    model = SuperTransformer(space, WORDS + 4, config, seed=1)
    state = OrderedDict((name, one.detach()) for name, one in model.named_parameters(remove_duplicate=False))
    torch.save({"args": argparse.Namespace(**arguments(architecture, iwslt)), "model": state}, path)


def arguments(architecture: Architecture, iwslt: bool) -> dict[str, object]:
    """Return HAT's arguments of a SubTransformer's training."""
    space, encoder, decoder = PRESETS["space1" if iwslt else "space0"], architecture.encoder, architecture.decoder
    largest = space.largest()
    return {
        "arch": "transformersuper",
        "share_all_embeddings": not iwslt,
        "qkv_dim": 512,
        "encoder_layers": len(largest.encoder.ffn_dims),
        "decoder_layers": len(largest.decoder.ffn_dims),
        "encoder_embed_dim": largest.encoder.embed_dim,
        "decoder_embed_dim": largest.decoder.embed_dim,
        "encoder_ffn_embed_dim": max(largest.encoder.ffn_dims),
        "decoder_ffn_embed_dim": max(largest.decoder.ffn_dims),
        "encoder_embed_choice": list(space["encoder_embed_dims"]),
        "decoder_embed_choice": list(space["decoder_embed_dims"]),
        "encoder_layer_num_choice": list(space["encoder_depths"]),
        "decoder_layer_num_choice": list(space["decoder_depths"]),
        "encoder_ffn_embed_dim_choice": list(space["encoder_ffn_dims"]),
        "decoder_ffn_embed_dim_choice": list(space["decoder_ffn_dims"]),
        "encoder_self_attention_heads_choice": list(space["encoder_heads"]),
        "decoder_self_attention_heads_choice": list(space["decoder_self_heads"]),
        "decoder_ende_attention_heads_choice": list(space["decoder_cross_heads"]),
        "decoder_arbitrary_ende_attn_choice": [-1, 1, 2],
        "encoder_embed_dim_subtransformer": encoder.embed_dim,
        "decoder_embed_dim_subtransformer": decoder.embed_dim,
        "encoder_layer_num_subtransformer": encoder.depth,
        "decoder_layer_num_subtransformer": decoder.depth,
        "encoder_ffn_embed_dim_all_subtransformer": list(encoder.ffn_dims),
        "decoder_ffn_embed_dim_all_subtransformer": list(decoder.ffn_dims),
        "encoder_self_attention_heads_all_subtransformer": list(encoder.heads),
        "decoder_self_attention_heads_all_subtransformer": list(decoder.self_heads),
        "decoder_ende_attention_heads_all_subtransformer": list(decoder.cross_heads),
        "decoder_arbitrary_ende_attn_all_subtransformer": [_CODES[reach] for reach in decoder.cross_layers],
    }
