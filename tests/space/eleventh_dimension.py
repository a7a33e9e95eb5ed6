"""Prints as JSON what hat-ray makes of two dimensions that only a package beside it knows; run by a test.

`cells.py` and its entry points lie on the path: `decoder_kinds`, a word for each decoder layer, and `vocabulary_sizes`,
a number for the whole network.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import yaml

from hat_ray.errors import HatRayError
from hat_ray.latency.quantities import LATENCY
from hat_ray.latency.sweep import plan_sweep
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import DECODER_COLUMNS, ENCODER_COLUMNS, FEATURE_SET, costs_from_hat, rows_of
from hat_ray.recipe import json_schema, parse_recipe, to_yaml
from hat_ray.report.topics.devices.preferences import PREFERENCES
from hat_ray.report.topics.sweep import name_of
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, why_unsupported
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape, choices_of
from hat_ray.space.cost import count_macs
from hat_ray.space.dimensions import BY_NAME, DIMENSIONS
from hat_ray.space.features import COST_FEATURES, LAYER_FEATURES, cost_features, hat_features, layer_features
from hat_ray.space.genes import GeneCode
from hat_ray.space.hat_yaml import read_architecture, read_space, write_architecture, write_space
from hat_ray.space.presets import PRESETS, TOY
from hat_ray.space.search_space import SearchSpace

NEW = {"decoder_kinds": ("attention", "lstm"), "vocabulary_sizes": (8000, 4000)}
SPACE = TOY.replaced(name="with cells", **NEW)
DEPTH = SPACE.largest().decoder.depth
TINY = SearchSpace.from_dict(
    {name: value[:1] if isinstance(value, list) else value for name, value in TOY.to_dict().items()}
).replaced(decoder_depths=(2, 1), encoder_depths=(1,), **NEW)


def cells(architecture: Architecture) -> tuple[Any, ...]:
    return choices_of(architecture, BY_NAME["decoder_kinds"])


def vocabulary(architecture: Architecture) -> Any:
    return choices_of(architecture, BY_NAME["vocabulary_sizes"])[0]


def slow_attention_ms(architectures: Sequence[Architecture]) -> Any:
    """A device whose time goes to attention in decoders and to large vocabularies."""
    return np.array([1 + 2 * cells(a).count("attention") + vocabulary(a) / 1000 for a in architectures])


def loss(architecture: Architecture) -> float:
    small = -np.log(count_macs(architecture, 30))
    return float(small - 0.05 * cells(architecture).count("attention") - vocabulary(architecture) / 1e5)


def searched(algorithm: Any) -> dict[str, Any]:
    """Search to the end, under a limit that the new dimensions decide."""
    limits, config = [Limit.of("a", latency_ms=12.0)], SearchConfig(algorithm=algorithm, evaluations=120)
    evolution = Evolution(SPACE, {"a": {LATENCY: slow_attention_ms}}, limits, config, seed=1)
    while not evolution.finished:
        for architecture in evolution.ask(5):
            SPACE.require(architecture)
            evolution.tell(architecture, loss(architecture))
    best = evolution.best(limits[0])
    assert best is not None
    found = [one.architecture for one in evolution.proposals]
    return {
        "told": len(evolution.losses),
        "words": sorted({word for one in found for word in cells(one)}),
        "sizes": sorted({vocabulary(one) for one in found}),
        "best_ms": float(slow_attention_ms([best])[0]),
        "best_words": sorted(set(cells(best))),
    }


def bred() -> dict[str, Any]:
    rng, code = random.Random(1), GeneCode(SPACE)
    parent = SPACE.largest()
    other = SPACE.uniform({**SPACE.picked(max), "decoder_kinds": "lstm", "vocabulary_sizes": 4000})
    mutants = [code.child([parent], rng, 0.3) for _ in range(2000)]
    crossed = [code.child([parent, other], rng) for _ in range(2000)]
    rows = code.encode([parent, other])
    many = np.random.default_rng(1)
    vectorised = code.decoded(code.bred(rows[[0] * 2000], rows[[1] * 2000], np.ones(2000, dtype=bool), [0.0], many))

    def share(some: Sequence[Architecture]) -> float:
        return float(np.mean([cells(one).count("lstm") / len(cells(one)) for one in some]))

    return {
        "mutated": share(mutants),
        "crossed": share(crossed),
        "crossed in rows": share(vectorised),
        "sizes": float(np.mean([vocabulary(one) == 4000 for one in crossed])),
    }


def described() -> dict[str, Any]:
    rng = random.Random(2)
    some = [SPACE.sample(rng) for _ in range(400)]
    costs = dict(zip(COST_FEATURES, cost_features(some).T, strict=True))
    same = GeneCode(SPACE)
    exact = np.array_equal(cost_features(same.decoded(same.encode(some))), cost_features(some))
    plain = [TOY.sample(rng) for _ in range(20)]
    rows = rows_of(some, slow_attention_ms(some), slow_attention_ms(some) / 2)
    predictor = Predictor.fit(rows, PredictorConfig(), "a", SPACE.id, 1)
    more = [SPACE.sample(rng) for _ in range(200)]
    errors = np.abs(predictor.predict(more) / slow_attention_ms(more) - 1)
    return {
        "cost": COST_FEATURES,
        "layer": LAYER_FEATURES,
        "set": FEATURE_SET,
        "encoder": [COST_FEATURES[place] for place in ENCODER_COLUMNS],
        "decoder": [COST_FEATURES[place] for place in DECODER_COLUMNS],
        "counts": bool((costs["decoder_kinds_lstm"] == [cells(one).count("lstm") for one in some]).all()),
        "sizes": bool((costs["vocabulary_sizes"] == [vocabulary(one) for one in some]).all()),
        "rows as architectures": exact,
        "averages": bool(np.allclose(costs_from_hat(hat_features(plain)), cost_features(plain))),
        "shapes": [cost_features(some).shape, layer_features(some).shape],
        "error": float(np.median(errors)),
    }


def written() -> dict[str, Any]:
    rng = random.Random(3)
    some = [SPACE.sample(rng) for _ in range(50)]
    recipe = parse_recipe(yaml.safe_dump({"name": "x", "space": {k: list(v) for k, v in NEW.items()}}), "here")
    return {
        "yaml": all(read_architecture(write_architecture(one), qkv_dim=128) == one for one in some),
        "json": all(Architecture.from_json(one.to_json()) == one for one in some),
        "space yaml": read_space(write_space(SPACE), SPACE.name) == SPACE,
        "space json": SearchSpace.from_dict(SPACE.to_dict()) == SPACE,
        "recipe": recipe.space.build().id == SPACE.id,
        "recipe again": parse_recipe(to_yaml(recipe), "here") == recipe,
        "schema": "Kind of each decoder layer." in json_schema(),
        "an architecture": some[0].to_json(),
        "named": sorted(yaml.safe_load(write_architecture(SPACE.smallest()))),
        "absent": sorted(yaml.safe_load(write_architecture(TOY.largest()))),
    }


PLAIN = Architecture(EncoderShape(64, (64,), (2,)), DecoderShape(64, (64,), (2,), (2,), (1,)), 128)
"""What every runtime can express."""


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except HatRayError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def shape(**extra: Any) -> Architecture:
    return Architecture(TOY.largest().encoder, TOY.largest().decoder, 128, tuple(extra.items()))


def drawn(rng: random.Random) -> list[str]:
    return [TOY.sample(rng).id for _ in range(5)]


results = {
    "names": [dimension.name for dimension in DIMENSIONS],
    "preset ids": {name: space.id for name, space in PRESETS.items()},
    "preset samples": {n: [s.sample(random.Random(seed)).id for seed in range(5)] for n, s in PRESETS.items()},
    "preset stream": drawn(random.Random(1)),
    "space id": SPACE.id,
    "absent is canonical": shape(decoder_kinds=("attention",) * DEPTH, vocabulary_sizes=(8000,)) == TOY.largest(),
    "inside": [SPACE.contains(TOY.largest()), TOY.contains(shape(decoder_kinds=("lstm",) * DEPTH))],
    "size": [TINY.size(), len(GeneCode(TINY).all()), len({TINY.sample(random.Random(i)) for i in range(600)})],
    "refused": [
        refused(lambda: SPACE.replaced(decoder_kinds=("gru",))),
        refused(lambda: shape(decoder_kinds=("lstm",))),
        refused(lambda: shape(decoder_kinds=("lstm", "gru", "lstm", "lstm"))),
        refused(lambda: TOY.require(shape(decoder_kinds=("lstm",) * DEPTH))),
        refused(lambda: parse_recipe("{name: x, space: {decoder_kind: [lstm]}}", "here")),
        refused(
            lambda: read_architecture(write_architecture(shape(decoder_kinds=("lstm",) * DEPTH)).replace("lstm", "x"))
        ),
        refused(lambda: SuperTransformer(SPACE, 20, ModelConfig())),
    ],
    "runtimes": {
        name: [why_unsupported(name, RuntimeSettings(), one) for one in (shape(decoder_kinds=("lstm",) * DEPTH), PLAIN)]
        for name in RUNTIMES.own_names
    },
    "searched": {algorithm: searched(algorithm) for algorithm in ("surrogate", "aging", "random", "hat")},
    "bred": bred(),
    "described": described(),
    "written": written(),
    "sweep": {
        sweep.dimension: [point.choice for point in sweep.points]
        for sweep in plan_sweep(SPACE).dimensions
        if sweep.dimension in NEW
    },
    "titles": [name_of(name) for name in NEW],
    "figures": list(PREFERENCES)[-2:],
}
print(json.dumps(results))
