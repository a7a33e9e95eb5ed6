"""Whether Marian translates a model that hat-ray trained as hat-ray does: Multi30k's first 1,000 test sentences.

Needs `$HAT_RAY_SHARED` and pymarian (`$HAT_RAY_PYMARIAN`). `$HAT_RAY_UPDATES` shortens the training (2,500 updates).
"""

import gzip
import json
import os
from pathlib import Path

import pytest
import sacrebleu
import yaml

from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.foreign.open import open_foreign
from tests.command import hat_ray
from tests.foreign.test_pymarian import by_marian, marians_beam, pymarian

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
SENTENCES, WIDTH, BEAM = 1_000, 128, 5
SHAPE = {
    "encoder": {"embed_dim": WIDTH, "ffn_dims": [256, 256], "heads": [4, 4]},
    "decoder": {
        **{"embed_dim": WIDTH, "ffn_dims": [256, 256], "self_heads": [4, 4], "cross_heads": [4, 4]},
        "cross_layers": [1, 1],
    },
    "qkv_dim": WIDTH,
}


def recipe(data: Path, updates: int) -> dict[str, object]:
    files = {f"{split}_{side}": f"{name}.{language}.gz" for split, name in SPLITS for side, language in SIDES}
    both = ("encoder", "decoder")
    heads = ("encoder_heads", "decoder_self_heads", "decoder_cross_heads")
    space = {f"{side}_{name}": [size] for side in both for name, size in SIZES}
    return {
        "name": "marian",
        "corpus": {
            **{"source": "files", "source_language": "en", "target_language": "de", "vocab_size": 3000},
            "files": {**files, "folder": str(data)},
        },
        "space": {"qkv_dim": WIDTH, **space, **{name: [4] for name in heads}, "decoder_cross_layers": [1]},
        "model": {
            **{"dropout": 0.0, "activation": "swish", "positions": "marian", "start": "zero", "output_bias": True},
            **{"layer_norm_eps": 1e-6, "unknown_words": False},
        },
        "retrain": {
            **{"updates": updates, "max_tokens": 1024, "lr": 2e-3, "warmup_updates": max(1, updates // 8)},
            **{"schedule": "cosine", "clip_norm": 1.0, "validate_every": updates, "checkpoint_every": updates},
        },
    }


SPLITS = (("train", "train"), ("valid", "val"), ("test", "test"))
SIDES = (("source", "en"), ("target", "de"))
SIZES = (("embed_dims", WIDTH), ("depths", 2), ("ffn_dims", 256))


def test_marian_translates_multi30k_as_hat_ray_does(tmp_path: Path, shared: Path) -> None:
    python, data = pymarian(), shared / "corpora" / "multi30k-en-de"
    made = recipe(data, int(os.environ.get("HAT_RAY_UPDATES", "2500")))
    (tmp_path / "marian.yaml").write_text(yaml.safe_dump(made))
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE))
    for command in (
        ["corpus", "marian.yaml", "--local"],
        ["train", "sub", "shape.json", "marian.yaml", "--out", "model"],
        ["convert", "model", "--out", "written"],
    ):
        done = hat_ray(*command, cwd=tmp_path, timeout=7000)
        assert done.returncode == 0, done.stderr
    opened = open_foreign(tmp_path / "written" / "model.npz")
    source, reference = (
        gzip.decompress((data / f"test.{one}.gz").read_bytes()).decode().split("\n")[:SENTENCES] for one in ("en", "de")
    )
    own = {"batch_tokens": 1, "max_length_factor": 2.99, "max_length_extra": 1}  # one at a time, as long as Marian's
    for beam in (1, BEAM):
        theirs = by_marian(python, tmp_path / "written", source, beam, alone=True)
        ours = translate(opened.model, opened.vocabularies, source, EvaluateConfig(beam=beam, **own))
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        scores = [sacrebleu.corpus_bleu(one, [reference]).score for one in (ours, theirs)]
        print(f"beam {beam}: {same} of {SENTENCES} identical, BLEU {scores[0]:.2f}, Marian's {scores[1]:.2f}")
    words = opened.vocabularies
    narrow = [words.target.decode(marians_beam(opened.model, words.source.encode(line), BEAM)) for line in source]
    same = sum(a == b for a, b in zip(narrow, theirs, strict=True))
    print(f"beam {BEAM} that narrows as Marian's: {same} of {SENTENCES} identical")
