"""What seeds decide, computed by today's code: ids, features, what each search algorithm asks, what a training samples.

Only integers and text are exact. Losses and features are compared within a tolerance: the last bits of a float depend
on the processor's instructions. The laws of loss and latency are made of integers and a hash, so that no processor
changes what a search is told.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.latency.quantities import LATENCY
from hat_ray.model.config import ModelConfig
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import (
    COST_FEATURES,
    HAT_FEATURES,
    LAYER_FEATURES,
    cost_features,
    hat_features,
    layer_features,
)
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import PRESETS
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import train_sub, train_super
from hat_ray.train.sampling import policy_for
from tests.spaces import THREE_LAYERS

ALGORITHMS = ("hat", "random", "aging", "surrogate")
SEEDS = (1, 2)
ASKS = 200
_DRAWS = 9  # of each of six presets
_UPDATES = 12
_PARENTS = {"aging": "tournament"}
_SPACE = SearchSpace(
    name="pinned",
    encoder_embed_dims=(32, 16),
    encoder_depths=(2, 1),
    encoder_ffn_dims=(48, 16),
    encoder_heads=(2, 1),
    decoder_embed_dims=(32, 16),
    decoder_depths=(3, 2, 1),
    decoder_ffn_dims=(48, 16),
    decoder_self_heads=(2, 1),
    decoder_cross_heads=(2, 1),
    decoder_cross_layers=(1, 2),
    qkv_dim=32,
)


def features() -> dict[str, Any]:
    """Return the names of all predictor features in order, and the values of four architectures."""
    drawn = [preset.sample(random.Random(7)) for preset in list(PRESETS.values())[:4]]
    return {
        "hat_names": list(HAT_FEATURES),
        "cost_names": list(COST_FEATURES),
        "layer_names": list(LAYER_FEATURES),
        "hat_values": hat_features(drawn).tolist(),
        "cost_values": cost_features(drawn).tolist(),
        "layer_values": layer_features(drawn).tolist(),
    }


def spaces() -> dict[str, Any]:
    """Return each preset's id, exact size, and the ids of its ends, of random draws, of a mutant and of a child."""
    return {name: _space(space) for name, space in PRESETS.items()}


def _space(space: SearchSpace) -> dict[str, Any]:
    rng = random.Random(11)
    drawn = [space.sample(rng) for _ in range(_DRAWS)]
    code = GeneCode(space)
    return {
        "id": space.id,
        "size": str(space.size()),
        "largest": space.largest().id,
        "smallest": space.smallest().id,
        "drawn": [one.id for one in drawn],
        "mutant": code.child([drawn[0]], rng, 0.3).id,
        "child": code.child(drawn[1:3], rng).id,
    }


def asks(algorithm: str, seed: int) -> list[str]:
    """Return the ids of the first architectures that a search asks for, one after another, under three limits."""
    options = {"population": 30, **({} if algorithm == "random" else {_PARENTS.get(algorithm, "parents"): 6})}
    config = SearchConfig(algorithm=algorithm, algorithm_options=options, evaluations=1000)
    limits = [
        Limit.of("deep", latency_ms=25.0),
        Limit.of("wide", latency_ms=900.0),
        Limit.of("wide", latency_ms=1500.0),
    ]
    search = Evolution(THREE_LAYERS, {"deep": {LATENCY: _deep_ms}, "wide": {LATENCY: _wide_ms}}, limits, config, seed)
    asked: list[str] = []
    while len(asked) < ASKS:
        (architecture,) = search.ask(1)
        asked.append(architecture.id)
        search.tell(architecture, _loss(architecture))
    return asked


def _deep_ms(architectures: list[Architecture]) -> np.ndarray:
    """Milliseconds of a device that is bound by the number of layers."""
    return np.array([8.0 * one.decoder.depth + one.encoder.depth + one.decoder.embed_dim / 64 for one in architectures])


def _wide_ms(architectures: list[Architecture]) -> np.ndarray:
    """Milliseconds of a device that is bound by widths."""
    return np.array(
        [
            float(2 * sum(one.decoder.ffn_dims) + sum(one.encoder.ffn_dims) + 3 * one.decoder.embed_dim)
            for one in architectures
        ]
    )


def _loss(architecture: Architecture) -> float:
    """Return a loss that falls with size, and by up to a tenth for no reason, the same on every machine."""
    encoder, decoder = architecture.encoder, architecture.decoder
    size = 2 * encoder.embed_dim + 3 * decoder.embed_dim + sum(encoder.ffn_dims) + sum(decoder.ffn_dims)
    heads = sum(encoder.heads) + 2 * sum(decoder.cross_heads) + sum(decoder.self_heads)
    luck = int(hashlib.sha256(architecture.id.encode()).hexdigest()[:6], 16) / 16**6
    return 6 - size / 1024 - heads / 64 + luck / 10


def training(place: Path) -> dict[str, Any]:
    """Prepare a small corpus, train a SuperTransformer of every policy and one architecture; return the values."""
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=10)
    prepare(CorpusConfig(toy=toy, vocab_size=200), Folder.at(place / "corpus"), seed=3)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    model = ModelConfig(dropout=0.0)
    found: dict[str, Any] = {
        "sources": list(corpus.test.source_text or ()),
        "references": list(corpus.test.target_text or ()),
        "tokens": corpus.vocabularies.source.encode_lines(list(corpus.test.source_text or ())),
    }
    for policy in ("uniform", "sandwich", "stratified"):
        config = TrainConfig.model_validate(
            {
                "updates": _UPDATES,
                "max_tokens": 400,
                "lr": 5e-3,
                "warmup_updates": 4,
                "validate_every": 4,
                "checkpoint_every": 12,
                "policy": policy,
            }
        )
        sampled = policy_for(_SPACE, config, 9)
        result = train_super(_SPACE, corpus, model, config, Folder.at(place / policy), 9)
        found[policy] = {
            "sampled": [[one.id for one in sampled(update)] for update in range(_UPDATES)],
            "tokens": result.tokens,
            "loss_bits": [[point.update, point.train_loss_bits, point.valid_loss_bits] for point in result.history],
        }
    one = train_sub(_SPACE.smallest(), _SPACE, corpus, model, config, Folder.at(place / "sub"), 9)
    found["scratch"] = {
        "tokens": one.tokens,
        "loss_bits": [[point.update, point.train_loss_bits, point.valid_loss_bits] for point in one.history],
    }
    return found
