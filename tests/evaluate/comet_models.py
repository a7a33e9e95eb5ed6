"""Tiny COMET models with random weights, as Marian keeps them."""

import random
from pathlib import Path

import numpy as np
import sentencepiece
import yaml

POSITIONS, WORDS = 64, 120
_DRAW = random.Random(1)
_VOCABULARY = ["".join(_DRAW.choices("abcdefghij", k=_DRAW.randint(2, 6))) for _ in range(200)]
LINES = [" ".join(_DRAW.choices(_VOCABULARY, k=_DRAW.randint(3, 9))) for _ in range(400)]


def a_comet_model(folder: Path, kind: str = "comet", seed: int = 0, depth: int = 2, width: int = 16) -> Path:
    """Write `model.npz` and `vocab.spm` of a model of two heads; `kind` is Marian's name of its type."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_prefix=str(folder / "words"), vocab_size=WORDS, minloglevel=2
    )
    (folder / "words.model").rename(folder / "vocab.spm")
    (folder / "words.vocab").unlink()
    draw = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return (0.5 * draw.normal(size=shape)).astype(np.float32)

    encoder, hidden = "CometEncoder->encoder", 2 * width
    arrays = {
        "Wemb": drawn(WORDS, width),
        f"{encoder}->positionEmbedding->embeddings": drawn(POSITIONS, width),
        f"{encoder}->weights": drawn(depth + 1),
        f"{encoder}->gamma": np.ones(1, np.float32),
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        arrays[f"{name}->weight"], arrays[f"{name}->bias"] = drawn(inputs, outputs), drawn(outputs)

    def norm(name: str) -> None:
        arrays[f"{name}->norm->weight"], arrays[f"{name}->norm->bias"] = 1 + drawn(width), drawn(width)

    norm(f"{encoder}->preprocessor")
    for number in range(depth):
        block = f"{encoder}->layers->at({number})->as<marian::nn::TransformerEncoderLayer>()"
        for part in "qkvo":
            linear(f"{block}->selfAttentionBlock->selfAttention->{part}Proj", width, width)
        inner = f"{block}->filterBlock->layers->at({{}})->as<marian::nn::Linear>()"
        linear(inner.format(0), width, hidden)
        linear(inner.format(3), hidden, width)
        norm(f"{block}->selfAttentionBlock->postprocessor")
        norm(f"{block}->filterBlock->postprocessor")
    read = {"comet": 6, "comet-qe": 4}.get(kind, 1) * width
    for place, inputs, outputs in ((0, read, 24), (3, 24, 12), (6, 12, 1)):
        linear(f"CometQEPooler->layers->at({place})->as<marian::nn::Linear>()", inputs, outputs)
    text = yaml.dump(_settings(kind, depth, width, hidden)).encode() + b"\0"
    np.savez(folder / "model.npz", **arrays, **{"special:model.yml": np.frombuffer(text, np.int8)})
    return folder


def _settings(kind: str, depth: int, width: int, hidden: int) -> dict[str, object]:
    return {
        "type": kind,
        "version": "made by a test",
        "dim-emb": width,
        "dim-vocabs": [WORDS],
        "max-length": POSITIONS,
        "enc-depth": depth,
        "transformer-heads": 2,
        "transformer-dim-ffn": hidden,
        "transformer-ffn-depth": 2,
        "transformer-ffn-activation": "gelu",
        "transformer-preprocess": "",
        "transformer-postprocess": "dan",
        "transformer-postprocess-emb": "nd",
        "transformer-train-position-embeddings": True,
        "tied-embeddings-all": True,
        "tied-embeddings-src": False,
        "bert-train-type-embeddings": False,
        "bert-type-vocab-size": 0,
        "comet-prepend-zero": True,
        "comet-pool": "avg",
        "comet-mix": True,
        "comet-mix-norm": False,
        "comet-mix-transformation": "softmax",
        "comet-final-sigmoid": False,
        "comet-pooler-ffn": [24, 12],
    }
