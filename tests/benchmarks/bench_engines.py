"""One trained model on several engines, side by side: hat-ray's exports, CTranslate2, Marian; one thread.

A student of 6 encoder and 2 decoder layers, 192 wide, in a shape and with the settings of Marian, is trained on
Multi30k and written for each engine. All translate the first test sentences, each engine in a process that loads
nothing else, engines in turns: sentences a second together, milliseconds of each sentence by itself, and the memory of
a process that loads, translates 100 lines and ends. Needs `$HAT_RAY_SHARED`; Marian takes part where
`$HAT_RAY_PYMARIAN` names a Python that has pymarian. Run with
    HAT_RAY_SHARED=FOLDER pytest -m benchmark -s tests/benchmarks/bench_engines.py
`HAT_RAY_BENCH_FOLDER=FOLDER` keeps model and exports; `HAT_RAY_UPDATES` (2,500), `HAT_RAY_BENCH_SENTENCES` (1,000) and
`HAT_RAY_BENCH_ROUNDS` (3) make it smaller.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import yaml

from tests.benchmarks.bench_marian import SIDES, SPLITS
from tests.command import hat_ray

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
WIDTH, HIDDEN, HEADS, ENCODER, DECODER = 192, 768, 4, 6, 2
DRIVER = Path(__file__).with_name("engine_driver.py")
ROUNDS, SENTENCES, UPDATES = (
    int(os.environ.get(name, value))
    for name, value in (
        ("HAT_RAY_BENCH_ROUNDS", "3"),
        ("HAT_RAY_BENCH_SENTENCES", "1000"),
        ("HAT_RAY_UPDATES", "2500"),
    )
)
SHAPE = {
    "encoder": {"embed_dim": WIDTH, "ffn_dims": [HIDDEN] * ENCODER, "heads": [HEADS] * ENCODER},
    "decoder": {
        **{"embed_dim": WIDTH, "ffn_dims": [HIDDEN] * DECODER, "self_heads": [HEADS] * DECODER},
        **{"cross_heads": [HEADS] * DECODER, "cross_layers": [1] * DECODER},
    },
    "qkv_dim": WIDTH,
}


def recipe(data: Path) -> dict[str, object]:
    files = {f"{split}_{side}": f"{name}.{language}.gz" for split, name in SPLITS for side, language in SIDES}
    sizes = (("embed_dims", WIDTH), ("ffn_dims", HIDDEN))
    space = {f"{side}_{name}": [size] for side in ("encoder", "decoder") for name, size in sizes}
    heads = {name: [HEADS] for name in ("encoder_heads", "decoder_self_heads", "decoder_cross_heads")}
    return {
        "name": "engines",
        "corpus": {
            **{"source": "files", "source_language": "en", "target_language": "de", "vocab_size": 4000, "protect": 0},
            "files": {**files, "folder": str(data)},
        },
        "space": {
            **{"qkv_dim": WIDTH, **space, **heads, "decoder_cross_layers": [1]},
            **{"encoder_depths": [ENCODER], "decoder_depths": [DECODER]},
        },
        "model": {
            **{"dropout": 0.1, "positions": "marian", "start": "zero", "layer_norm_eps": 1e-6, "output_bias": True},
            "unknown_words": False,
        },
        "retrain": {
            **{"updates": UPDATES, "max_tokens": 1024, "lr": 2e-3, "warmup_updates": max(1, UPDATES // 8)},
            **{"schedule": "cosine", "clip_norm": 1.0, "validate_every": UPDATES, "checkpoint_every": UPDATES},
        },
    }


@dataclass(frozen=True)
class Engine:
    """A folder that an engine reads, and the Python that runs it."""

    name: str
    kind: str
    folder: Path
    python: str = sys.executable

    def figures(self, lines: Path, beam: int, what: str) -> Mapping[str, Any]:
        command = [self.python, str(DRIVER), self.kind, str(self.folder), str(lines), str(beam), what]
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(
            command, env={**os.environ, **one}, capture_output=True, text=True, timeout=3600, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def made(place: Path, *command: str) -> None:
    """Run a command of hat-ray's unless the folder after its `--out` is there."""
    if "--out" in command and (place / command[command.index("--out") + 1]).exists():
        return
    done = hat_ray(*command, cwd=place, timeout=7000)
    assert done.returncode == 0, done.stderr


def text_in(place: Path, data: Path) -> dict[str, Path]:
    """Write the first test sentences and their references; return the files by language."""
    place.mkdir(parents=True, exist_ok=True)
    files = {one: place / f"lines.{one}" for one in ("en", "de")}
    for one, file in files.items():
        lines = gzip.decompress((data / f"test.{one}.gz").read_bytes()).decode().split("\n")[:SENTENCES]
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return files


def engines_in(place: Path, data: Path) -> list[Engine]:
    """Train the model and write it for each engine, or find what is there."""
    (place / "engines.yaml").write_text(yaml.safe_dump(recipe(data)))
    (place / "shape.json").write_text(json.dumps(SHAPE))
    made(place, "corpus", "engines.yaml", "--local")
    made(place, "train", "sub", "shape.json", "engines.yaml", "--out", "model")
    found = []
    for runtime, dtype in (("onnx", "fp32"), ("onnx", "int8"), ("ctranslate2", "fp32"), ("ctranslate2", "int8")):
        name = f"{runtime}-{dtype}"
        text = ("--source", "lines.en", "--reference", "lines.de", "--sentences", "50")
        made(place, "export", "model", "--runtime", runtime, "--dtype", dtype, *text, "--out", name)
        found.append(Engine(name.replace("-", " "), "export", place / name))
    if python := os.environ.get("HAT_RAY_PYMARIAN"):
        made(place, "convert", "model", "--out", "marian")
        found.append(Engine("marian fp32", "marian", place / "marian", python))
    return found


def test_one_model_on_every_engine(tmp_path: Path, shared: Path) -> None:
    data = shared / "corpora" / "multi30k-en-de"
    place = Path(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    lines, references = text_in(place, data).values()
    reference = references.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    engines = engines_in(place, data)
    print(f"\n{len(reference)} sentences, one thread, {ROUNDS} rounds in turns, load {os.getloadavg()[0]:.1f}")
    for beam in (1, 5):
        together: dict[str, list[float]] = {one.name: [] for one in engines}
        alone: dict[str, list[float]] = {one.name: [] for one in engines}
        memory: dict[str, list[float]] = {one.name: [] for one in engines}
        bleu = {}
        for _ in range(ROUNDS):
            for one in engines:
                batch = one.figures(lines, beam, "batch")
                bleu[one.name] = sacrebleu.corpus_bleu(batch["text"], [reference]).score
                together[one.name].append(len(reference) / batch["seconds"])
                alone[one.name] += one.figures(lines, beam, "single")["ms"]
                memory[one.name].append(one.figures(lines, beam, "memory")["mb"])
        print(f"beam {beam}: engine, BLEU, sentences a second (range), p50 and p90 of a sentence, memory")
        for one in engines:
            rates, half, slow = together[one.name], *np.percentile(alone[one.name], (50, 90))
            print(
                f"  {one.name:18} {bleu[one.name]:6.2f} {np.median(rates):7.1f} ({min(rates):.1f}-{max(rates):.1f})  "
                f"{half:6.2f} {slow:6.2f} ms  {np.median(memory[one.name]):6.1f} MB",
                flush=True,
            )
